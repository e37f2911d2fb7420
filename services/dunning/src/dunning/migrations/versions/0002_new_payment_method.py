"""A step of a campaign may be that the customer attached a new payment method."""

from __future__ import annotations

from common.migrate import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE steps
            DROP CONSTRAINT steps_action_check,
            ADD CONSTRAINT steps_action_check
                CHECK (action IN ('RETRY_PAYMENT', 'SKIP_RETRY', 'GIVE_UP', 'POSTPONE', 'NEW_PAYMENT_METHOD'));
        """
    )
