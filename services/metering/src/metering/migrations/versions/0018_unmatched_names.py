"""What usage names and there is not is written down, each name once, so that it can be told; and backfills are found by
the leaf in which they count.
"""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE unmatched_names (
            seller_id text NOT NULL,
            reason text NOT NULL CHECK (reason IN ('UNKNOWN_METER', 'UNKNOWN_CUSTOMER')),
            name text NOT NULL,
            id text NOT NULL,
            found_time timestamptz NOT NULL,
            matched_time timestamptz,
            revision bigint NOT NULL,
            PRIMARY KEY (seller_id, reason, name)
        );
        COMMENT ON TABLE unmatched_names IS 'the meters and customers that usage named before they were there';
        COMMENT ON COLUMN unmatched_names.matched_time IS 'NULL as long as nobody counts that usage';
        CREATE INDEX unmatched_names_open ON unmatched_names (seller_id) WHERE matched_time IS NULL;

        CREATE TABLE unmatched_looks (
            seller_id text PRIMARY KEY,
            position bigint NOT NULL,
            looks bigint NOT NULL,
            next_time timestamptz
        );
        COMMENT ON TABLE unmatched_looks IS 'through which position unmatched usage was looked for';
        CREATE INDEX usage_backfills_leaf ON usage_backfills (leaf) WHERE leaf IS NOT NULL;
        COMMENT ON COLUMN unmatched_looks.looks IS 'how often; so that two of one moment differ';
        """
    )
    protect("unmatched_names", "unmatched_looks")
