"""What an invoice comes to in parts: discounts, taxes, credit, and what becomes of its debt beside payments."""

from __future__ import annotations

from common.migrate import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE invoices
            ADD COLUMN discount_minor bigint NOT NULL DEFAULT 0 CHECK (discount_minor >= 0),
            ADD COLUMN tax_minor bigint NOT NULL DEFAULT 0,
            ADD COLUMN taxes jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN rounding_minor bigint NOT NULL DEFAULT 0,
            ADD COLUMN credit_applied_minor bigint NOT NULL DEFAULT 0
                CHECK (credit_applied_minor >= 0 AND (credit_applied_minor = 0 OR credit_applied_minor <= total_minor)),
            ADD COLUMN amount_credited_minor bigint NOT NULL DEFAULT 0 CHECK (amount_credited_minor >= 0),
            ADD COLUMN amount_written_off_minor bigint NOT NULL DEFAULT 0 CHECK (amount_written_off_minor >= 0),
            DROP CONSTRAINT invoices_check4,
            DROP CONSTRAINT invoices_check6,
            ADD CONSTRAINT invoices_paid CHECK (
                state <> 'PAID' OR amount_paid_minor + amount_credited_minor = total_minor - credit_applied_minor
            ),
            ADD CONSTRAINT invoices_no_more_than_due CHECK (
                amount_paid_minor >= 0 AND (
                    (amount_paid_minor = 0 AND amount_credited_minor = 0 AND amount_written_off_minor = 0)
                    OR amount_paid_minor + amount_credited_minor + amount_written_off_minor
                        <= total_minor - credit_applied_minor
                )
            );

        ALTER TABLE invoice_lines
            ADD COLUMN discount_minor bigint NOT NULL DEFAULT 0 CHECK (discount_minor >= 0),
            ADD COLUMN discounts jsonb NOT NULL DEFAULT '[]',
            DROP CONSTRAINT invoice_lines_kind_check,
            ADD CONSTRAINT invoice_lines_kind CHECK (kind IN ('OWED', 'CREDIT', 'REFUND', 'MANUAL')),
            DROP CONSTRAINT invoice_lines_credit,
            ADD CONSTRAINT invoice_lines_credit CHECK (kind NOT IN ('CREDIT', 'REFUND') OR amount_minor < 0),
            ADD CONSTRAINT invoice_lines_item CHECK ((kind = 'MANUAL') = (item_id = '')),
            DROP CONSTRAINT invoice_lines_billed_once;
        CREATE UNIQUE INDEX invoice_lines_billed_once
            ON invoice_lines (seller_id, item_id, price_id, period_start, kind, change_id, correction)
            WHERE item_id <> '';

        DROP TRIGGER invoices_immutable ON invoices;
        CREATE TRIGGER invoices_immutable BEFORE UPDATE ON invoices
            FOR EACH ROW WHEN (
                OLD.state <> 'DRAFT' AND (
                    OLD.id, OLD.number, OLD.customer_id, OLD.seller_party, OLD.customer_party, OLD.currency,
                    OLD.line_count, OLD.total_minor, OLD.collection_method, OLD.time_zone, OLD.bill_time,
                    OLD.finalize_time, OLD.due_time, OLD.create_time, OLD.discount_minor, OLD.tax_minor, OLD.taxes,
                    OLD.rounding_minor, OLD.credit_applied_minor
                ) IS DISTINCT FROM (
                    NEW.id, NEW.number, NEW.customer_id, NEW.seller_party, NEW.customer_party, NEW.currency,
                    NEW.line_count, NEW.total_minor, NEW.collection_method, NEW.time_zone, NEW.bill_time,
                    NEW.finalize_time, NEW.due_time, NEW.create_time, NEW.discount_minor, NEW.tax_minor, NEW.taxes,
                    NEW.rounding_minor, NEW.credit_applied_minor
                )
            ) EXECUTE FUNCTION refuse_change_of_issued_document();
        """
    )
