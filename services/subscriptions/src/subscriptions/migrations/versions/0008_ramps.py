"""Steps of ramps know after how many months they come; those that there are keep their times."""

from __future__ import annotations

from common.migrate import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE subscription_changes ADD COLUMN after_months integer;
        ALTER TABLE subscription_changes
            ADD CONSTRAINT subscription_changes_after_months CHECK (after_months > 0) NOT VALID;
        ALTER TABLE subscription_changes VALIDATE CONSTRAINT subscription_changes_after_months;
        COMMENT ON COLUMN subscription_changes.after_months IS
            'of a step of a ramp: counted from the beginning of billing';
        """
    )
