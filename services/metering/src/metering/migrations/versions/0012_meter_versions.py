"""Meters have versions: how they count from an instant on."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_script(
        """
        COMMENT ON TABLE meters IS 'the meters, each with its first version: how it counts from the beginning';
        ALTER TABLE meters
            ADD COLUMN last_version integer NOT NULL DEFAULT 1,
            ADD CONSTRAINT meters_last_version CHECK (last_version >= 1);

        CREATE TABLE meter_versions (
            seller_id text NOT NULL,
            meter_id text NOT NULL,
            version integer NOT NULL CHECK (version > 1),
            aggregation text NOT NULL CHECK (aggregation IN (
                'SUM', 'COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT',
                'MIN', 'AVERAGE', 'WEIGHTED_SUM', 'PERCENTILE', 'SUM_OF_MAX')),
            unique_dimension text NOT NULL,
            percentile numeric,
            carries_over boolean NOT NULL,
            bucket text NOT NULL,
            time_zone text NOT NULL,
            filter jsonb,
            value_expression text NOT NULL,
            accepts_days integer NOT NULL CHECK (accepts_days >= 0),
            effective_time timestamptz NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, meter_id, version),
            CONSTRAINT meter_versions_percentile
                CHECK ((aggregation = 'PERCENTILE') = (percentile IS NOT NULL)),
            CONSTRAINT meter_versions_carries_over
                CHECK (NOT carries_over OR aggregation IN ('SUM', 'LATEST', 'WEIGHTED_SUM')),
            CONSTRAINT meter_versions_bucket
                CHECK ((aggregation = 'SUM_OF_MAX') = (bucket IN ('HOUR', 'DAY') AND time_zone <> ''))
        );
        COMMENT ON TABLE meter_versions IS 'how meters count from later instants on: their versions after the first';

        CREATE FUNCTION refuse_change_of_meter_version() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a version of a meter never changes';
        END $$;
        CREATE TRIGGER meter_versions_change BEFORE UPDATE OR DELETE ON meter_versions
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_meter_version();
        CREATE TRIGGER meters_first_version_change
            BEFORE UPDATE OF code, aggregation, unique_dimension, percentile, carries_over, bucket, time_zone, filter,
                value_expression, accepts_days ON meters
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_meter_version();

        ALTER TABLE usage_freezes ADD COLUMN meter_version integer NOT NULL DEFAULT 1;

        ALTER TABLE late_usages
            ADD COLUMN meter_version integer NOT NULL DEFAULT 0,
            ADD COLUMN announced_version integer NOT NULL DEFAULT 0;
        COMMENT ON COLUMN late_usages.meter_version IS
            'which version of the meter counts it otherwise by now; 0 for none';
        CREATE INDEX late_usages_recounted ON late_usages (meter_version) WHERE meter_version > announced_version;
        """
    )
    protect("meter_versions")
