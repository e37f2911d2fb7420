"""Usage events tell dimensions, and meters count in more ways."""

from __future__ import annotations

from common.migrate import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE usage_events ADD COLUMN dimensions jsonb;

        ALTER TABLE meters
            ADD COLUMN unique_dimension text NOT NULL DEFAULT '',
            DROP CONSTRAINT meters_aggregation_check,
            ADD CONSTRAINT meters_aggregation_check
                CHECK (aggregation IN ('SUM', 'COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT')),
            ADD CONSTRAINT meters_unique_dimension
                CHECK ((aggregation = 'UNIQUE_COUNT') = (unique_dimension <> ''));
        """
    )
