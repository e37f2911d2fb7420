"""What is kept of every document that was issued; nobody changes it, nor what the document says."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE issued_documents (
            seller_id text NOT NULL,
            series text NOT NULL,
            ordinal bigint NOT NULL CHECK (ordinal >= 1),
            invoice_id text NOT NULL,
            version integer NOT NULL CHECK (version >= 1),
            content_hash bytea NOT NULL CHECK (length(content_hash) = 32),
            link bytea NOT NULL CHECK (length(link) = 32),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, series, ordinal),
            CONSTRAINT issued_documents_invoice UNIQUE (seller_id, invoice_id)
        );
        COMMENT ON TABLE issued_documents IS
            'of every number of a series, a hash of its document, and one that links it to the number before';

        CREATE FUNCTION refuse_change_of_issued_document() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was issued stays what it is';
        END $$;
        CREATE TRIGGER issued_documents_immutable BEFORE UPDATE OR DELETE ON issued_documents
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_document();

        -- Of a finalized invoice only what becomes of it changes: paid, overdue.
        CREATE TRIGGER invoices_immutable BEFORE UPDATE ON invoices
            FOR EACH ROW WHEN (
                OLD.state <> 'DRAFT' AND (
                    OLD.id, OLD.number, OLD.customer_id, OLD.seller_party, OLD.customer_party, OLD.currency,
                    OLD.line_count, OLD.total_minor, OLD.collection_method, OLD.time_zone, OLD.bill_time,
                    OLD.finalize_time, OLD.due_time, OLD.create_time
                ) IS DISTINCT FROM (
                    NEW.id, NEW.number, NEW.customer_id, NEW.seller_party, NEW.customer_party, NEW.currency,
                    NEW.line_count, NEW.total_minor, NEW.collection_method, NEW.time_zone, NEW.bill_time,
                    NEW.finalize_time, NEW.due_time, NEW.create_time
                )
            ) EXECUTE FUNCTION refuse_change_of_issued_document();
        CREATE TRIGGER invoices_kept BEFORE DELETE ON invoices
            FOR EACH ROW WHEN (OLD.state <> 'DRAFT') EXECUTE FUNCTION refuse_change_of_issued_document();
        """
    )
    protect("issued_documents")
