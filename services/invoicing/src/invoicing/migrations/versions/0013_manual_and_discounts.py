"""Invoices and lines that somebody writes by hand, discounts of coupons, and what is missing to commitments."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE invoices
            ADD COLUMN origin text NOT NULL DEFAULT 'BILL_RUN' CHECK (origin IN ('BILL_RUN', 'MANUAL')),
            ADD COLUMN given_discounts jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN net_terms_days integer CHECK (net_terms_days >= 0),
            ADD COLUMN memo text NOT NULL DEFAULT '',
            ADD COLUMN purchase_order text NOT NULL DEFAULT '',
            -- A draft that somebody wrote may wait for somebody.
            ALTER COLUMN finalize_time DROP NOT NULL,
            ADD CONSTRAINT invoices_waiting CHECK (
                finalize_time IS NOT NULL OR (state = 'DRAFT' AND origin = 'MANUAL')
            ),
            -- What is taken back of discounts may be more than what is given on other lines.
            DROP CONSTRAINT invoices_discount_minor_check;
        DROP INDEX invoices_one_draft;
        CREATE UNIQUE INDEX invoices_one_draft
            ON invoices (seller_id, customer_id, currency, bill_time, consolidation_key)
            WHERE state = 'DRAFT' AND origin = 'BILL_RUN';

        ALTER TABLE invoice_lines
            ADD COLUMN given_discounts jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN coupon_ids text[] NOT NULL DEFAULT '{}',
            DROP CONSTRAINT invoice_lines_discount_minor_check,
            ADD CONSTRAINT invoice_lines_discount CHECK (
                CASE WHEN amount_minor < 0 THEN discount_minor BETWEEN amount_minor AND 0
                ELSE discount_minor BETWEEN 0 AND amount_minor END
            ),
            DROP CONSTRAINT invoice_lines_kind,
            ADD CONSTRAINT invoice_lines_kind CHECK (kind IN ('OWED', 'CREDIT', 'REFUND', 'MANUAL', 'TRUE_UP')),
            ADD CONSTRAINT invoice_lines_manual CHECK (kind <> 'MANUAL' OR amount_minor >= 0);
        -- By which is found what was used of a coupon.
        CREATE INDEX invoice_lines_discounted ON invoice_lines (seller_id, invoice_id)
            WHERE discount_minor <> 0 OR coupon_ids <> '{}';

        CREATE TRIGGER invoices_written_immutable BEFORE UPDATE ON invoices
            FOR EACH ROW WHEN (
                OLD.state <> 'DRAFT' AND (
                    OLD.origin, OLD.given_discounts, OLD.net_terms_days, OLD.memo, OLD.purchase_order
                ) IS DISTINCT FROM (
                    NEW.origin, NEW.given_discounts, NEW.net_terms_days, NEW.memo, NEW.purchase_order
                )
            ) EXECUTE FUNCTION refuse_change_of_issued_document();

        CREATE TABLE pending_lines (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            line jsonb NOT NULL,
            bill_alone_time timestamptz,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        COMMENT ON TABLE pending_lines IS 'lines that wait for the next invoice; those on it are no more here';
        CREATE INDEX pending_lines_of_customer ON pending_lines (seller_id, customer_id, id);
        """
    )
    protect("pending_lines")
