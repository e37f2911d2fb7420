"""A key has bits in two blocks of a filter; filters that were kept before have them in one."""

from __future__ import annotations

from common.migrate import run_script

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE usage_filters ADD COLUMN blocks smallint NOT NULL DEFAULT 1;
        """
    )
