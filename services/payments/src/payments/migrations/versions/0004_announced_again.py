"""A payment knows its invoice by the number, and how often its success was told again."""

from __future__ import annotations

from common.migrate import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE payments
            -- Empty in what the release before writes, and where its invoice was heard of by no number.
            ADD COLUMN invoice_number text NOT NULL DEFAULT '',
            ADD COLUMN told_again_count integer NOT NULL DEFAULT 0 CHECK (told_again_count >= 0);
        """
    )
