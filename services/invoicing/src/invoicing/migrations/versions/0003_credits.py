"""Lines that take off what was billed in advance, and customers with credits that wait for an invoice."""

from __future__ import annotations

from common.migrate import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE invoice_lines
            ADD COLUMN kind text NOT NULL DEFAULT 'OWED' CHECK (kind IN ('OWED', 'CREDIT', 'REFUND')),
            ADD COLUMN change_id text NOT NULL DEFAULT '',
            ADD CONSTRAINT invoice_lines_credit CHECK (kind = 'OWED' OR amount_minor < 0),
            -- A correction is of usage, or a further part of a credit.
            DROP CONSTRAINT invoice_lines_check2,
            ADD CONSTRAINT invoice_lines_correction CHECK (correction = 0 OR meter <> '' OR kind <> 'OWED');
        ALTER TABLE invoice_lines
            DROP CONSTRAINT invoice_lines_billed_once,
            ADD CONSTRAINT invoice_lines_billed_once
                UNIQUE (seller_id, item_id, price_id, period_start, kind, change_id, correction);
        ALTER TABLE billing ADD COLUMN credit_since timestamptz;
        COMMENT ON COLUMN billing.credit_since IS 'the bill time of the oldest credit that no invoice had room for';
        """
    )
