"""An attempt has an amount of its own: less may be owed by the time of the next."""

from __future__ import annotations

from common.migrate import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(
        """
        -- Absent in what the release before writes: then it is that of the payment.
        ALTER TABLE payment_attempts ADD COLUMN amount_minor bigint CHECK (amount_minor > 0);
        """
    )
