"""Lines are found by the price they were billed by."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Lines are written all the time, and there are many: not behind a lock. One that was cut short is begun anew.
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS invoice_lines_of_price")
        op.execute(
            "CREATE INDEX CONCURRENTLY invoice_lines_of_price ON invoice_lines (seller_id, price_id, period_end)"
        )
