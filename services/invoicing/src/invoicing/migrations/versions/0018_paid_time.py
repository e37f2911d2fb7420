"""When money for an invoice came in, which may be before it was booked."""

from __future__ import annotations

from common.migrate import run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE invoice_payments ADD COLUMN paid_time timestamptz;
        COMMENT ON COLUMN invoice_payments.paid_time IS
            'when the money came in; null for what was taken in before that was kept';
        """
    )
