"""Invoices of nothing that are no documents: finalized, and without a number. Drafts that are parked."""

from __future__ import annotations

from common.migrate import run_script

revision = "0020"
down_revision = "0018"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE issuing_policies
            ADD COLUMN zero_invoices text CHECK (zero_invoices IN ('ISSUE', 'WITHOUT_NUMBER'));
        ALTER TABLE invoices
            ADD COLUMN is_parked boolean NOT NULL DEFAULT false CONSTRAINT invoices_parked CHECK (
                NOT is_parked OR state = 'DRAFT'
            ),
            DROP CONSTRAINT invoices_check,
            ADD CONSTRAINT invoices_numbered CHECK (
                CASE WHEN state = 'DRAFT' THEN number IS NULL
                ELSE number IS NOT NULL OR (
                    state IN ('PAID', 'VOID') AND total_minor = 0 AND discount_minor = 0 AND tax_minor = 0
                    AND origin = 'BILL_RUN' AND top_up_rule_id = ''
                ) END
            );
        COMMENT ON COLUMN invoices.is_parked IS
            'whether it cannot be finalized as things stand, and waits with its customer';
        CREATE INDEX invoices_without_number ON invoices (seller_id, id) WHERE number IS NULL AND state <> 'DRAFT';
        CREATE INDEX credit_note_lines_of_line ON credit_note_lines (seller_id, line_id);
        """
    )
