"""When the numbers of a seller's invoices begin again."""

from __future__ import annotations

from common.migrate import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE sellers ADD COLUMN invoice_numbering text NOT NULL DEFAULT 'CONTINUOUS'
            CHECK (invoice_numbering IN ('CONTINUOUS', 'YEARLY'));
        """
    )
