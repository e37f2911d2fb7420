"""What was paid is billed anew, too, when usage came late: credited in full, its lines do not count any more."""

from __future__ import annotations

from common.migrate import run_script

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_script(
        """
        CREATE OR REPLACE FUNCTION refuse_change_of_finalized_line() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            found invoices%ROWTYPE;
        BEGIN
            SELECT * INTO found FROM invoices WHERE seller_id = OLD.seller_id AND id = OLD.invoice_id;
            IF found.state <> 'DRAFT' AND TG_OP = 'UPDATE' AND NOT OLD.voided AND NEW.voided
                AND to_jsonb(NEW) - 'voided' = to_jsonb(OLD) - 'voided'
                AND (
                    found.state = 'VOID' OR found.total_minor = (
                        SELECT sum(total_minor) FROM credit_notes n
                        WHERE n.seller_id = OLD.seller_id AND n.invoice_id = OLD.invoice_id
                        HAVING bool_or(reason = 'LATE_USAGE')
                    )
                ) THEN
                RETURN NEW;
            END IF;
            IF found.state <> 'DRAFT' THEN
                RAISE EXCEPTION 'the lines of a finalized invoice never change';
            END IF;
            RETURN coalesce(NEW, OLD);
        END $$;
        """
    )
