"""The log is copied to a store for those who outgrow one database: how far it is, per seller and per leaf."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE usage_copies (
            seller_id text NOT NULL,
            position bigint NOT NULL,
            PRIMARY KEY (seller_id)
        );
        COMMENT ON TABLE usage_copies IS
            'through which position each seller''s usage events are in the store that has a copy of the log';

        ALTER TABLE usage_leaves ADD COLUMN copied_count bigint;
        COMMENT ON COLUMN usage_leaves.copied_count IS
            'how many rows of it were copied when it was full; fewer than it has, if some were archived before';
        """
    )
    protect("usage_copies")
