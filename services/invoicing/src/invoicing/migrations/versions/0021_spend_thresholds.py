"""How much usage may stay unbilled until its period ends, when it is looked at, and what was billed early."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE spend_thresholds (
            seller_id text NOT NULL,
            id text NOT NULL,
            scope text NOT NULL CHECK (scope IN ('SELLER', 'CUSTOMER', 'SUBSCRIPTION')),
            scope_id text NOT NULL,
            currency text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            create_time timestamptz NOT NULL,
            end_time timestamptz CHECK (end_time >= create_time),
            PRIMARY KEY (seller_id, id),
            CHECK ((scope = 'SELLER') = (scope_id = ''))
        );
        COMMENT ON TABLE spend_thresholds IS 'how much usage of a subscription may stay unbilled, on which level';
        CREATE UNIQUE INDEX spend_thresholds_one ON spend_thresholds (seller_id, scope, scope_id, currency)
            WHERE end_time IS NULL;

        CREATE TABLE spend_looks (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            look_time timestamptz NOT NULL,
            is_reached boolean NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, customer_id)
        );
        COMMENT ON TABLE spend_looks IS 'when to look at what customers have spent, and who had reached a threshold';
        CREATE INDEX spend_looks_due ON spend_looks (look_time);
        CREATE INDEX spend_looks_of_seller ON spend_looks (seller_id, look_time);

        CREATE TABLE early_lines (
            seller_id text NOT NULL,
            -- A draft may yet drop a line, so this points to no row that must be there.
            line_id text NOT NULL,
            invoice_id text NOT NULL,
            customer_id text NOT NULL,
            subscription_id text NOT NULL,
            item_id text NOT NULL CHECK (item_id <> ''),
            price_id text NOT NULL,
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL CHECK (period_end > period_start),
            change_id text NOT NULL,
            correction integer NOT NULL CHECK (correction >= 0),
            bill_time timestamptz NOT NULL,
            currency text NOT NULL,
            spend_minor bigint NOT NULL,
            threshold_id text NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, line_id),
            CONSTRAINT early_lines_threshold
                FOREIGN KEY (seller_id, threshold_id) REFERENCES spend_thresholds (seller_id, id)
        );
        COMMENT ON TABLE early_lines IS 'parts of periods that were billed before these ended';
        CREATE INDEX early_lines_of_item ON early_lines (seller_id, item_id, period_start);
        CREATE INDEX early_lines_of_customer ON early_lines (seller_id, customer_id, bill_time);

        CREATE FUNCTION refuse_change_of_early_line() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was billed early stays on record';
        END $$;
        CREATE TRIGGER early_lines_immutable BEFORE UPDATE OR DELETE ON early_lines
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_early_line();

        -- What was billed early and is not owed is given back line by line.
        CREATE OR REPLACE FUNCTION refuse_change_of_finalized_line() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            found invoices%ROWTYPE;
        BEGIN
            SELECT * INTO found FROM invoices WHERE seller_id = OLD.seller_id AND id = OLD.invoice_id;
            IF found.state <> 'DRAFT' AND TG_OP = 'UPDATE' AND NOT OLD.voided AND NEW.voided
                AND to_jsonb(NEW) - 'voided' = to_jsonb(OLD) - 'voided'
                AND (
                    found.state = 'VOID' OR found.total_minor = (
                        SELECT sum(total_minor) FROM credit_notes n
                        WHERE n.seller_id = OLD.seller_id AND n.invoice_id = OLD.invoice_id
                        HAVING bool_or(reason = 'LATE_USAGE')
                    ) OR (
                        EXISTS (SELECT FROM early_lines e WHERE e.seller_id = OLD.seller_id AND e.line_id = OLD.id)
                        AND OLD.amount_minor = coalesce((
                            SELECT sum(l.amount_minor) FROM credit_note_lines l
                            WHERE l.seller_id = OLD.seller_id AND l.line_id = OLD.id
                        ), OLD.discount_minor)
                    )
                ) THEN
                RETURN NEW;
            END IF;
            IF found.state <> 'DRAFT' THEN
                RAISE EXCEPTION 'the lines of a finalized invoice never change';
            END IF;
            RETURN coalesce(NEW, OLD);
        END $$;
        """
    )
    for table in ("spend_thresholds", "spend_looks", "early_lines"):
        protect(table)
