"""Tax rates and the rules that say what they apply to; what each line is taxed at."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE tax_rates (
            seller_id text NOT NULL,
            id text NOT NULL,
            name text NOT NULL,
            category text NOT NULL CHECK (category IN ('S', 'Z', 'E', 'AE', 'K', 'G', 'O', 'L', 'M')),
            percent numeric NOT NULL CHECK (percent >= 0 AND percent <= 100),
            is_inclusive boolean NOT NULL,
            is_compound boolean NOT NULL,
            exemption_reason text NOT NULL,
            country text NOT NULL,
            region text NOT NULL,
            create_time timestamptz NOT NULL,
            archive_time timestamptz,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT tax_rates_nothing_due CHECK (percent = 0 OR category IN ('S', 'L', 'M')),
            CONSTRAINT tax_rates_explained CHECK ((exemption_reason <> '') = (category IN ('E', 'AE', 'K', 'G', 'O')))
        );
        CREATE UNIQUE INDEX tax_rates_told_apart ON tax_rates (
            seller_id, name, category, percent, is_inclusive, is_compound, exemption_reason, country, region
        ) WHERE archive_time IS NULL;

        CREATE TABLE tax_rules (
            seller_id text NOT NULL,
            id text NOT NULL,
            scope text NOT NULL CHECK (scope IN ('DEFAULT', 'TAX_CODE', 'CUSTOMER')),
            scope_key text NOT NULL CHECK ((scope = 'DEFAULT') = (scope_key = '')),
            rate_ids text[] NOT NULL CHECK (cardinality(rate_ids) BETWEEN 1 AND 10),
            start_time timestamptz NOT NULL,
            end_time timestamptz CHECK (end_time >= start_time),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        CREATE UNIQUE INDEX tax_rules_one_at_a_time ON tax_rules (seller_id, scope, scope_key, start_time)
            WHERE end_time IS NULL;
        CREATE INDEX tax_rules_of_scope ON tax_rules (seller_id, scope, scope_key);

        -- What an invoice was taxed by can be told for ever: a rate is archived, a rule ends, and nothing else.
        CREATE FUNCTION refuse_change_of_tax() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what taxes were declared stays what it is';
        END $$;
        CREATE TRIGGER tax_rates_immutable BEFORE UPDATE ON tax_rates
            FOR EACH ROW WHEN (
                OLD.archive_time IS NOT NULL OR (
                    OLD.id, OLD.name, OLD.category, OLD.percent, OLD.is_inclusive, OLD.is_compound,
                    OLD.exemption_reason, OLD.country, OLD.region, OLD.create_time
                ) IS DISTINCT FROM (
                    NEW.id, NEW.name, NEW.category, NEW.percent, NEW.is_inclusive, NEW.is_compound,
                    NEW.exemption_reason, NEW.country, NEW.region, NEW.create_time
                )
            ) EXECUTE FUNCTION refuse_change_of_tax();
        CREATE TRIGGER tax_rules_immutable BEFORE UPDATE ON tax_rules
            FOR EACH ROW WHEN (
                OLD.end_time IS NOT NULL OR (
                    OLD.id, OLD.scope, OLD.scope_key, OLD.rate_ids, OLD.start_time, OLD.create_time
                ) IS DISTINCT FROM (
                    NEW.id, NEW.scope, NEW.scope_key, NEW.rate_ids, NEW.start_time, NEW.create_time
                )
            ) EXECUTE FUNCTION refuse_change_of_tax();
        CREATE TRIGGER tax_rates_kept BEFORE DELETE ON tax_rates FOR EACH ROW EXECUTE FUNCTION refuse_change_of_tax();
        CREATE TRIGGER tax_rules_kept BEFORE DELETE ON tax_rules FOR EACH ROW EXECUTE FUNCTION refuse_change_of_tax();

        ALTER TABLE invoice_lines
            ADD COLUMN tax_code text NOT NULL DEFAULT '',
            ADD COLUMN tax_rate_ids text[] NOT NULL DEFAULT '{}';
        ALTER TABLE invoices ADD COLUMN tax_time timestamptz;
        COMMENT ON COLUMN invoices.tax_time IS
            'as of when its taxes were asked for; null for what was made before there were any';
        CREATE TRIGGER invoices_tax_time_immutable BEFORE UPDATE ON invoices
            FOR EACH ROW WHEN (OLD.state <> 'DRAFT' AND OLD.tax_time IS DISTINCT FROM NEW.tax_time)
            EXECUTE FUNCTION refuse_change_of_issued_document();
        """
    )
    protect("tax_rates", "tax_rules")
