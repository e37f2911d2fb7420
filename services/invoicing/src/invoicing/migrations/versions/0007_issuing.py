"""How sellers want invoices to be issued, and drafts that are held."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE issuing_policies (
            seller_id text PRIMARY KEY,
            grace_seconds integer CHECK (grace_seconds >= 0),
            meter_grace_seconds jsonb NOT NULL,
            requires_approval boolean NOT NULL,
            revision bigint NOT NULL CHECK (revision >= 1),
            update_time timestamptz NOT NULL
        );
        COMMENT ON TABLE issuing_policies IS 'how long drafts wait for late usage, and whether for somebody''s word';
        ALTER TABLE invoices
            ADD COLUMN hold_reason text NOT NULL DEFAULT '',
            ADD CONSTRAINT invoices_held CHECK (hold_reason = '' OR state = 'DRAFT');
        """
    )
    protect("issuing_policies")
