"""A payment is cancelled when its invoice is settled otherwise."""

from __future__ import annotations

from common.migrate import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE payments
            DROP CONSTRAINT payments_state_check,
            ADD CONSTRAINT payments_state_check
                CHECK (state IN ('PROCESSING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
            ADD CONSTRAINT payments_cancelled CHECK (state <> 'CANCELLED' OR invoice_settled);
        """
    )
