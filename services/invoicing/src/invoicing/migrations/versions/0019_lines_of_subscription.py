"""What was billed for a subscription, whoever had it and paid for it."""

from __future__ import annotations

from common.migrate import run_script

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_script(
        """
        CREATE INDEX invoice_lines_of_subscription ON invoice_lines (seller_id, subscription_id, period_end)
            WHERE subscription_id <> '';
        """
    )
