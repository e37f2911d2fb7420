"""Invoices, their lines and numbers, and who is to be billed when."""

from __future__ import annotations

from common.migrate import create_chassis, protect, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_chassis()
    run_script(
        """
        CREATE TABLE invoices (
            seller_id text NOT NULL,
            id text NOT NULL,
            number text,
            state text NOT NULL CHECK (state IN ('DRAFT', 'OPEN', 'PAID', 'VOID', 'UNCOLLECTIBLE')),
            customer_id text NOT NULL,
            seller_party jsonb,
            customer_party jsonb,
            currency text NOT NULL,
            line_count integer NOT NULL,
            total_minor bigint NOT NULL,
            amount_paid_minor bigint NOT NULL,
            collection_method text NOT NULL CHECK (collection_method IN ('CHARGE_AUTOMATICALLY', 'SEND_INVOICE')),
            time_zone text NOT NULL,
            bill_time timestamptz NOT NULL,
            finalize_time timestamptz NOT NULL,
            due_time timestamptz,
            paid_time timestamptz,
            overdue_from_time timestamptz,
            overdue_time timestamptz,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT invoices_number UNIQUE (seller_id, number),
            CHECK ((state = 'DRAFT') = (number IS NULL)),
            CHECK ((state = 'DRAFT') = (seller_party IS NULL) AND (state = 'DRAFT') = (customer_party IS NULL)),
            CHECK ((state = 'DRAFT') = (due_time IS NULL)),
            CHECK ((state = 'PAID') = (paid_time IS NOT NULL)),
            CHECK (state <> 'PAID' OR amount_paid_minor = total_minor),
            CHECK (state = 'DRAFT' OR total_minor >= 0),
            CHECK (amount_paid_minor >= 0 AND (amount_paid_minor = 0 OR amount_paid_minor <= total_minor))
        );
        CREATE INDEX invoices_of_customer ON invoices (seller_id, customer_id, id);
        CREATE UNIQUE INDEX invoices_one_draft ON invoices (seller_id, customer_id, currency, bill_time)
            WHERE state = 'DRAFT';
        CREATE INDEX invoices_drafts ON invoices (finalize_time) WHERE state = 'DRAFT';
        CREATE INDEX invoices_drafts_of_seller ON invoices (seller_id, finalize_time) WHERE state = 'DRAFT';
        CREATE INDEX invoices_overdue ON invoices (overdue_from_time) WHERE overdue_from_time IS NOT NULL;
        CREATE INDEX invoices_overdue_of_seller ON invoices (seller_id, overdue_from_time)
            WHERE overdue_from_time IS NOT NULL;

        CREATE TABLE invoice_lines (
            seller_id text NOT NULL,
            id text NOT NULL,
            invoice_id text NOT NULL,
            position integer NOT NULL,
            description text NOT NULL,
            subscription_id text NOT NULL,
            item_id text NOT NULL,
            price_id text NOT NULL,
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL,
            full_period_start timestamptz NOT NULL,
            full_period_end timestamptz NOT NULL,
            quantity numeric NOT NULL,
            unit_label text NOT NULL,
            currency text NOT NULL,
            amount_minor bigint NOT NULL,
            rating_steps jsonb NOT NULL,
            exact_amount numeric NOT NULL,
            proration_numerator bigint NOT NULL CHECK (proration_numerator >= 0),
            proration_denominator bigint NOT NULL CHECK (proration_denominator >= 1),
            meter text NOT NULL,
            usage_quantity numeric,
            usage_event_count bigint,
            usage_digest text,
            usage_through_position bigint,
            usage_traceparents text[],
            correction integer NOT NULL CHECK (correction >= 0),
            PRIMARY KEY (seller_id, id),
            CONSTRAINT invoice_lines_billed_once UNIQUE (seller_id, item_id, price_id, period_start, correction),
            CONSTRAINT invoice_lines_position UNIQUE (seller_id, invoice_id, position),
            CONSTRAINT invoice_lines_invoice FOREIGN KEY (seller_id, invoice_id) REFERENCES invoices (seller_id, id),
            CHECK (period_start < period_end AND full_period_start <= period_start AND period_end <= full_period_end),
            CHECK ((meter = '') = (usage_quantity IS NULL) AND (meter = '') = (usage_digest IS NULL)),
            CHECK (correction = 0 OR meter <> '')
        );

        -- What a finalized invoice says was sent to somebody: the table itself refuses to change it.
        CREATE FUNCTION refuse_change_of_finalized_line() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            finalized boolean;
        BEGIN
            SELECT state <> 'DRAFT' INTO finalized FROM invoices
            WHERE seller_id = OLD.seller_id AND id = OLD.invoice_id;
            IF finalized THEN
                RAISE EXCEPTION 'the lines of a finalized invoice never change';
            END IF;
            RETURN coalesce(NEW, OLD);
        END $$;
        CREATE TRIGGER invoice_lines_immutable BEFORE UPDATE OR DELETE ON invoice_lines
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_finalized_line();

        CREATE TABLE invoice_payments (
            seller_id text NOT NULL,
            payment_id text NOT NULL,
            invoice_id text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, payment_id),
            CONSTRAINT invoice_payments_invoice FOREIGN KEY (seller_id, invoice_id) REFERENCES invoices (seller_id, id)
        );
        CREATE INDEX invoice_payments_of_invoice ON invoice_payments (seller_id, invoice_id);

        CREATE TABLE number_series (
            seller_id text NOT NULL,
            prefix text NOT NULL,
            last bigint NOT NULL CHECK (last >= 1),
            PRIMARY KEY (seller_id, prefix)
        );

        CREATE TABLE billing (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            due_time timestamptz,
            billed_through_time timestamptz,
            revision bigint NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, customer_id)
        );
        CREATE INDEX billing_due ON billing (due_time) WHERE due_time IS NOT NULL;
        CREATE INDEX billing_due_of_seller ON billing (seller_id, due_time) WHERE due_time IS NOT NULL;

        CREATE TABLE sweeps (
            seller_id text PRIMARY KEY,
            next_time timestamptz NOT NULL,
            swept_through_time timestamptz NOT NULL,
            page_token text NOT NULL
        );
        CREATE INDEX sweeps_next_time ON sweeps (next_time);
        """
    )
    protect("invoices", "invoice_lines", "invoice_payments", "number_series", "billing", "sweeps")
