"""Days of a stream get their places together, before something is counted in each."""

from __future__ import annotations

from common.migrate import run_script

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE usage_days ALTER COLUMN value_min DROP NOT NULL, ALTER COLUMN value_max DROP NOT NULL;
        """
    )
