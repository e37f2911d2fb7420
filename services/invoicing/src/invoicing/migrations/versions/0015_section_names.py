"""What the sections of an invoice are called, as it was when it was finalized."""

from __future__ import annotations

from common.migrate import run_script

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE invoices ADD COLUMN section_names jsonb NOT NULL DEFAULT '{}';
        COMMENT ON COLUMN invoices.section_names IS 'what its sections are called, by id';

        CREATE TRIGGER invoices_sections_immutable BEFORE UPDATE ON invoices
            FOR EACH ROW WHEN (OLD.state <> 'DRAFT' AND OLD.section_names IS DISTINCT FROM NEW.section_names)
            EXECUTE FUNCTION refuse_change_of_issued_document();
        """
    )
