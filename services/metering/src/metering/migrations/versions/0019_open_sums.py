"""What is in a leaf that is still being written may be in the sums of days already: through which positions that is."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE usage_summed (
            seller_id text NOT NULL,
            leaf integer NOT NULL,
            position bigint NOT NULL,
            PRIMARY KEY (seller_id, leaf)
        );
        COMMENT ON TABLE usage_summed IS
            'of leaves that are not summed: through which of its positions a seller''s events are in the sums of days';
        """
    )
    protect("usage_summed")
