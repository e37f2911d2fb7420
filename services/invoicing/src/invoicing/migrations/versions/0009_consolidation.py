"""By which keys lines share an invoice, why those of an invoice are together, and who used what others pay for."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE consolidation_policies (
            seller_id text NOT NULL,
            id text NOT NULL,
            scope text NOT NULL CHECK (scope IN ('SELLER', 'CUSTOMER', 'SUBSCRIPTION')),
            scope_id text NOT NULL,
            key_names text[] NOT NULL CHECK (cardinality(key_names) <= 10),
            revision bigint NOT NULL CHECK (revision >= 1),
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT consolidation_policies_scope UNIQUE (seller_id, scope, scope_id),
            CHECK ((scope = 'SELLER') = (scope_id = ''))
        );
        COMMENT ON TABLE consolidation_policies IS 'by which keys lines may share an invoice, on which level';

        ALTER TABLE invoice_lines ADD COLUMN customer_id text NOT NULL DEFAULT '';
        COMMENT ON COLUMN invoice_lines.customer_id IS 'who used it, if the invoice is another''s';

        ALTER TABLE invoices
            ADD COLUMN consolidation jsonb,
            ADD COLUMN consolidation_key text NOT NULL DEFAULT '';
        COMMENT ON COLUMN invoices.consolidation IS 'why its lines are together, as it was then';
        COMMENT ON COLUMN invoices.consolidation_key IS 'the same for the same declared keys';

        -- What may not share an invoice is on drafts of its own, for the same moment.
        DROP INDEX invoices_one_draft;
        CREATE UNIQUE INDEX invoices_one_draft
            ON invoices (seller_id, customer_id, currency, bill_time, consolidation_key) WHERE state = 'DRAFT';

        CREATE TRIGGER invoices_consolidation_kept BEFORE UPDATE ON invoices
            FOR EACH ROW WHEN (
                OLD.state <> 'DRAFT'
                AND (OLD.consolidation, OLD.consolidation_key)
                    IS DISTINCT FROM (NEW.consolidation, NEW.consolidation_key)
            ) EXECUTE FUNCTION refuse_change_of_issued_document();
        """
    )
    protect("consolidation_policies")
