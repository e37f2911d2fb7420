"""Credit notes, and invoices that are void or given up: what a void invoice billed may be billed anew."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE credit_notes (
            seller_id text NOT NULL,
            id text NOT NULL,
            number text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('CREDIT', 'VOID')),
            invoice_id text NOT NULL,
            invoice_number text NOT NULL,
            customer_id text NOT NULL,
            seller_party jsonb NOT NULL,
            customer_party jsonb NOT NULL,
            reason text NOT NULL CHECK (
                reason IN ('DUPLICATE', 'ORDER_CHANGE', 'PRODUCT_UNSATISFACTORY', 'FRAUDULENT', 'BILLING_ERROR',
                    'LATE_USAGE', 'OTHER')
            ),
            memo text NOT NULL,
            currency text NOT NULL,
            line_count integer NOT NULL CHECK (line_count >= 0),
            discount_minor bigint NOT NULL CHECK (discount_minor >= 0),
            tax_minor bigint NOT NULL,
            taxes jsonb NOT NULL,
            rounding_minor bigint NOT NULL,
            total_minor bigint NOT NULL CHECK (total_minor > 0 OR (kind = 'VOID' AND total_minor = 0)),
            debt_minor bigint NOT NULL CHECK (debt_minor >= 0),
            customer_credit_minor bigint NOT NULL CHECK (customer_credit_minor >= 0),
            refund_minor bigint NOT NULL CHECK (refund_minor >= 0),
            refunded_minor bigint NOT NULL CHECK (refunded_minor BETWEEN 0 AND refund_minor),
            time_zone text NOT NULL,
            issue_time timestamptz NOT NULL,
            revision bigint NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT credit_notes_number UNIQUE (seller_id, number),
            CONSTRAINT credit_notes_invoice FOREIGN KEY (seller_id, invoice_id) REFERENCES invoices (seller_id, id),
            CONSTRAINT credit_notes_settled CHECK (debt_minor + customer_credit_minor + refund_minor = total_minor)
        );
        CREATE INDEX credit_notes_of_invoice ON credit_notes (seller_id, invoice_id, id);
        CREATE INDEX credit_notes_of_customer ON credit_notes (seller_id, customer_id, id);
        CREATE UNIQUE INDEX credit_notes_one_void ON credit_notes (seller_id, invoice_id) WHERE kind = 'VOID';

        CREATE TABLE credit_note_lines (
            seller_id text NOT NULL,
            credit_note_id text NOT NULL,
            position integer NOT NULL,
            line_id text NOT NULL,
            description text NOT NULL,
            quantity numeric,
            unit_label text NOT NULL,
            currency text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
            discount_minor bigint NOT NULL CHECK (discount_minor >= 0),
            PRIMARY KEY (seller_id, credit_note_id, position),
            CONSTRAINT credit_note_lines_line UNIQUE (seller_id, credit_note_id, line_id),
            CONSTRAINT credit_note_lines_note
                FOREIGN KEY (seller_id, credit_note_id) REFERENCES credit_notes (seller_id, id),
            CONSTRAINT credit_note_lines_invoice_line
                FOREIGN KEY (seller_id, line_id) REFERENCES invoice_lines (seller_id, id)
        );

        CREATE TABLE credit_note_refunds (
            seller_id text NOT NULL,
            reference text NOT NULL,
            credit_note_id text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, reference),
            CONSTRAINT credit_note_refunds_note
                FOREIGN KEY (seller_id, credit_note_id) REFERENCES credit_notes (seller_id, id)
        );
        CREATE INDEX credit_note_refunds_of_note ON credit_note_refunds (seller_id, credit_note_id);

        -- Of a credit note only what became of its refund changes.
        CREATE TRIGGER credit_notes_immutable BEFORE UPDATE ON credit_notes
            FOR EACH ROW WHEN (
                to_jsonb(OLD) - '{refunded_minor,revision}'::text[]
                IS DISTINCT FROM to_jsonb(NEW) - '{refunded_minor,revision}'::text[]
            ) EXECUTE FUNCTION refuse_change_of_issued_document();
        CREATE TRIGGER credit_notes_kept BEFORE DELETE ON credit_notes
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_document();
        CREATE TRIGGER credit_note_lines_immutable BEFORE UPDATE OR DELETE ON credit_note_lines
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_document();
        CREATE TRIGGER credit_note_refunds_immutable BEFORE UPDATE OR DELETE ON credit_note_refunds
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_document();

        ALTER TABLE issued_documents
            ADD COLUMN kind text NOT NULL DEFAULT 'INVOICE',
            ADD COLUMN credit_note_id text,
            ADD CONSTRAINT issued_documents_kind CHECK (
                kind IN ('INVOICE', 'CREDIT_NOTE') AND (kind = 'CREDIT_NOTE') = (credit_note_id IS NOT NULL)
            ),
            DROP CONSTRAINT issued_documents_invoice;
        CREATE UNIQUE INDEX issued_documents_invoice ON issued_documents (seller_id, invoice_id) WHERE kind = 'INVOICE';
        CREATE UNIQUE INDEX issued_documents_credit_note ON issued_documents (seller_id, credit_note_id)
            WHERE kind = 'CREDIT_NOTE';

        ALTER TABLE invoices
            ADD COLUMN void_time timestamptz,
            ADD COLUMN uncollectible_time timestamptz,
            DROP CONSTRAINT invoices_check3,
            -- One that came to nothing, or was covered by credit, was paid before it was annulled.
            ADD CONSTRAINT invoices_paid_time CHECK (
                (state <> 'PAID' OR paid_time IS NOT NULL) AND (paid_time IS NULL OR state IN ('PAID', 'VOID'))
            ),
            ADD CONSTRAINT invoices_void CHECK (
                (state = 'VOID') = (void_time IS NOT NULL) AND (state <> 'VOID' OR amount_paid_minor = 0)
            ),
            ADD CONSTRAINT invoices_uncollectible CHECK (
                (state <> 'UNCOLLECTIBLE' OR uncollectible_time IS NOT NULL)
                AND (amount_written_off_minor = 0 OR state = 'UNCOLLECTIBLE')
            );

        -- What a void invoice billed may be billed anew: its lines stay what they are, and do not count any more.
        ALTER TABLE invoice_lines ADD COLUMN voided boolean NOT NULL DEFAULT false;
        DROP INDEX invoice_lines_billed_once;
        CREATE UNIQUE INDEX invoice_lines_billed_once
            ON invoice_lines (seller_id, item_id, price_id, period_start, kind, change_id, correction)
            WHERE item_id <> '' AND NOT voided;

        CREATE OR REPLACE FUNCTION refuse_change_of_finalized_line() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            invoice_state text;
        BEGIN
            SELECT state INTO invoice_state FROM invoices WHERE seller_id = OLD.seller_id AND id = OLD.invoice_id;
            IF invoice_state = 'VOID' AND TG_OP = 'UPDATE' AND NOT OLD.voided AND NEW.voided
                AND to_jsonb(NEW) - 'voided' = to_jsonb(OLD) - 'voided' THEN
                RETURN NEW;
            END IF;
            IF invoice_state <> 'DRAFT' THEN
                RAISE EXCEPTION 'the lines of a finalized invoice never change';
            END IF;
            RETURN coalesce(NEW, OLD);
        END $$;
        """
    )
    protect("credit_notes", "credit_note_lines", "credit_note_refunds")
