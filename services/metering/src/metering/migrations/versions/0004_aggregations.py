"""Meters count in more ways: of buckets, of levels, of some events, and by expressions."""

from __future__ import annotations

from common.migrate import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE meters
            ADD COLUMN percentile numeric,
            ADD COLUMN carries_over boolean NOT NULL DEFAULT false,
            ADD COLUMN bucket text NOT NULL DEFAULT '',
            ADD COLUMN time_zone text NOT NULL DEFAULT '',
            ADD COLUMN filter jsonb,
            ADD COLUMN value_expression text NOT NULL DEFAULT '',
            DROP CONSTRAINT meters_aggregation_check,
            ADD CONSTRAINT meters_aggregation_check CHECK (aggregation IN (
                'SUM', 'COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT',
                'MIN', 'AVERAGE', 'WEIGHTED_SUM', 'PERCENTILE', 'SUM_OF_MAX')),
            ADD CONSTRAINT meters_percentile
                CHECK ((aggregation = 'PERCENTILE') = (percentile IS NOT NULL)),
            ADD CONSTRAINT meters_carries_over
                CHECK (NOT carries_over OR aggregation IN ('SUM', 'LATEST', 'WEIGHTED_SUM')),
            ADD CONSTRAINT meters_bucket
                CHECK ((aggregation = 'SUM_OF_MAX') = (bucket IN ('HOUR', 'DAY') AND time_zone <> ''));
        """
    )
