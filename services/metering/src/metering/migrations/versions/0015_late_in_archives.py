"""Late usage that cannot be counted because events are archived waits until they are restored."""

from __future__ import annotations

from common.migrate import run_script

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE late_usages ADD COLUMN archived_leaf integer;
        COMMENT ON COLUMN late_usages.archived_leaf IS
            'without which it could not be counted; it is announced when that is in the log again';
        """
    )
