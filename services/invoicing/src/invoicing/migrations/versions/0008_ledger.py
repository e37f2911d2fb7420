"""The ledger: what every document moved between accounts, once, in entries that add up to nothing and never change."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE ledger_entries (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            document_kind text NOT NULL CHECK (document_kind <> ''),
            document_id text NOT NULL CHECK (document_id <> ''),
            event text NOT NULL CHECK (event <> ''),
            ordinal integer NOT NULL CHECK (ordinal >= 1),
            invoice_id text NOT NULL,
            currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
            effective_date date NOT NULL,
            accounts text[] NOT NULL,
            amounts bigint[] NOT NULL,
            create_time timestamptz NOT NULL,
            CONSTRAINT ledger_entries_posted_once PRIMARY KEY (seller_id, document_id, event, ordinal),
            CONSTRAINT ledger_entries_accounts CHECK (
                accounts <@ ARRAY['RECEIVABLE', 'CASH', 'REVENUE', 'DEFERRED_REVENUE', 'DISCOUNTS', 'TAX_PAYABLE',
                    'CUSTOMER_CREDIT', 'REFUNDS_PAYABLE', 'PROMOTIONAL_CREDIT', 'WRITE_OFFS', 'ROUNDING']
                AND array_position(accounts, NULL) IS NULL
            ),
            CONSTRAINT ledger_entries_postings CHECK (
                array_ndims(accounts) = 1 AND array_lower(accounts, 1) = 1
                AND array_ndims(amounts) = 1 AND array_lower(amounts, 1) = 1
                AND cardinality(accounts) = cardinality(amounts) AND cardinality(amounts) BETWEEN 2 AND 11
                AND array_position(amounts, NULL) IS NULL AND 0 <> ALL (amounts)
            ),
            -- As many terms as there are accounts: a function that adds up would cost more than all else here.
            CONSTRAINT ledger_entries_balanced CHECK (
                amounts[1] + amounts[2] + coalesce(amounts[3], 0) + coalesce(amounts[4], 0) + coalesce(amounts[5], 0)
                + coalesce(amounts[6], 0) + coalesce(amounts[7], 0) + coalesce(amounts[8], 0)
                + coalesce(amounts[9], 0) + coalesce(amounts[10], 0) + coalesce(amounts[11], 0) = 0
            )
        );
        COMMENT ON TABLE ledger_entries IS
            'what every document moved between accounts: debits positive, credits negative, in minor units';
        CREATE INDEX ledger_entries_of_day ON ledger_entries (seller_id, effective_date, id);
        CREATE INDEX ledger_entries_of_customer ON ledger_entries (seller_id, customer_id, effective_date, id);
        -- Those of the invoice itself are found by their document.
        CREATE INDEX ledger_entries_of_invoice ON ledger_entries (seller_id, invoice_id)
            WHERE invoice_id <> document_id;

        CREATE FUNCTION refuse_change_of_ledger_entry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was posted stays posted';
        END $$;
        CREATE TRIGGER ledger_entries_immutable BEFORE UPDATE OR DELETE ON ledger_entries
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_ledger_entry();

        CREATE TABLE ledger_backfills (
            seller_id text PRIMARY KEY,
            next_time timestamptz NOT NULL,
            after_id text NOT NULL
        );
        COMMENT ON TABLE ledger_backfills IS
            'sellers with invoices of a release that posted nothing, until these are posted';
        CREATE INDEX ledger_backfills_next_time ON ledger_backfills (next_time);

        -- An hour later nobody issues invoices with the release before any more. A sandbox has its own time: at once.
        SELECT set_config('saldo.seller', '*', true); -- the invoices of every seller: until the transaction ends
        INSERT INTO ledger_backfills (seller_id, next_time, after_id)
            SELECT
                seller_id,
                CASE WHEN starts_with(seller_id, 'sel_sandbox_') THEN max(create_time)
                    ELSE now() + interval '1 hour' END,
                ''
            FROM invoices GROUP BY seller_id;
        """
    )
    protect("ledger_entries", "ledger_backfills")
