"""What becomes of usage that changes after it was billed: by which policy, and what became of it."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE issuing_policies
            ADD COLUMN late_usage text CHECK (late_usage IN ('NEXT_INVOICE', 'CORRECT', 'REISSUE', 'REFUSE')),
            ADD COLUMN meter_late_usage jsonb NOT NULL DEFAULT '{}';

        CREATE TABLE late_usages (
            seller_id text NOT NULL,
            id text NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('BILLED', 'REFUSED', 'REISSUED')),
            customer_id text NOT NULL,
            payer_id text NOT NULL,
            subscription_id text NOT NULL,
            item_id text NOT NULL,
            price_id text NOT NULL,
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL CHECK (period_end > period_start),
            change_id text NOT NULL,
            number integer NOT NULL CHECK ((number >= 1) = (outcome = 'REFUSED') AND number >= 0),
            unit_label text NOT NULL,
            currency text NOT NULL,
            -- What comes back to a customer is never refused.
            amount_minor bigint NOT NULL CHECK (amount_minor > 0 OR (outcome <> 'REFUSED' AND amount_minor < 0)),
            billed_minor bigint NOT NULL,
            meter text NOT NULL CHECK (meter <> ''),
            usage_quantity numeric NOT NULL,
            usage_event_count bigint NOT NULL,
            usage_digest text NOT NULL,
            usage_through_position bigint NOT NULL,
            usage_meter_versions jsonb NOT NULL,
            before_quantity numeric NOT NULL,
            before_event_count bigint NOT NULL,
            before_through_position bigint NOT NULL,
            before_meter_versions jsonb NOT NULL,
            invoice_id text CHECK ((invoice_id IS NULL) = (outcome = 'REFUSED')),
            -- A draft may yet drop a line, so this points to no row that must be there.
            line_id text NOT NULL CHECK ((line_id <> '') = (outcome = 'BILLED')),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT late_usages_invoice FOREIGN KEY (seller_id, invoice_id) REFERENCES invoices (seller_id, id)
        );
        COMMENT ON TABLE late_usages IS 'what became of usage that changed after it was billed';
        CREATE UNIQUE INDEX late_usages_refused_once
            ON late_usages (seller_id, item_id, price_id, period_start, change_id, number) WHERE outcome = 'REFUSED';
        CREATE INDEX late_usages_of_customer ON late_usages (seller_id, customer_id, id);

        CREATE FUNCTION refuse_change_of_late_usage() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what became of late usage stays what it is';
        END $$;
        CREATE TRIGGER late_usages_immutable BEFORE UPDATE OR DELETE ON late_usages
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_late_usage();
        """
    )
    protect("late_usages")
