"""Whose days are counted in what is missing to a commitment: the subscription's, also where somebody else pays."""

from __future__ import annotations

from common.migrate import run_script

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE invoice_lines ADD COLUMN time_zone text NOT NULL DEFAULT '';
        COMMENT ON COLUMN invoice_lines.time_zone IS 'whose days are counted, if another''s count';
        """
    )
