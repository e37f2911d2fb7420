"""What was taken back in the moment in which something else was decided: before it or after.

The release before writes nothing there: what it takes back comes before all that is decided in the same moment.
"""

from __future__ import annotations

from common.migrate import run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE subscription_changes
            ADD COLUMN revoked_after integer CHECK (revoked_after >= 0),
            ADD CONSTRAINT subscription_changes_revoked_after_when_revoked
                CHECK (revoked_after IS NULL OR revoked_time IS NOT NULL);
        COMMENT ON COLUMN subscription_changes.revoked_after IS
            'how long the log was; null: before all that was decided then';
        """
    )
