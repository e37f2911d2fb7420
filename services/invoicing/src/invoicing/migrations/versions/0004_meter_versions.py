"""Lines say which versions of their meters counted."""

from __future__ import annotations

from common.migrate import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script("ALTER TABLE invoice_lines ADD COLUMN usage_meter_versions jsonb;")
