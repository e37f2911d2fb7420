"""Invoices of nothing that are no documents: finalized, and without a number. Drafts that are parked. Credit
of customers that were merged.
"""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE issuing_policies
            ADD COLUMN zero_invoices text CHECK (zero_invoices IN ('ISSUE', 'WITHOUT_NUMBER'));
        ALTER TABLE invoices
            ADD COLUMN is_parked boolean NOT NULL DEFAULT false CONSTRAINT invoices_parked CHECK (
                NOT is_parked OR state = 'DRAFT'
            ),
            DROP CONSTRAINT invoices_check,
            ADD CONSTRAINT invoices_numbered CHECK (
                CASE WHEN state = 'DRAFT' THEN number IS NULL
                ELSE number IS NOT NULL OR (
                    state IN ('PAID', 'VOID') AND total_minor = 0 AND discount_minor = 0 AND tax_minor = 0
                    AND origin = 'BILL_RUN' AND top_up_rule_id = ''
                ) END
            );
        COMMENT ON COLUMN invoices.is_parked IS
            'whether it cannot be finalized as things stand, and waits with its customer';
        CREATE INDEX invoices_without_number ON invoices (seller_id, id) WHERE number IS NULL AND state <> 'DRAFT';
        CREATE INDEX credit_note_lines_of_line ON credit_note_lines (seller_id, line_id);

        CREATE TABLE merged_customers (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            into_id text NOT NULL CHECK (into_id <> customer_id),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, customer_id)
        );
        COMMENT ON TABLE merged_customers IS
            'customers that are part of another one, which has what credit they get from then on';
        ALTER TABLE credit_holdings ADD COLUMN merged_into_id text NOT NULL DEFAULT '';
        CREATE TABLE credit_moves (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            due_time timestamptz NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT credit_moves_once UNIQUE (seller_id, customer_id, currency),
            CONSTRAINT credit_moves_holding FOREIGN KEY (seller_id, customer_id, currency)
                REFERENCES credit_holdings (seller_id, customer_id, currency)
        );
        COMMENT ON TABLE credit_moves IS 'wallets of merged customers with something in them that is to go to another';
        CREATE INDEX credit_moves_due ON credit_moves (due_time);
        CREATE INDEX credit_moves_due_of_seller ON credit_moves (seller_id, due_time);

        ALTER TABLE credit_grants
            DROP CONSTRAINT credit_grants_source_check,
            ADD CONSTRAINT credit_grants_source CHECK (
                source IN ('MANUAL', 'CREDIT_NOTE', 'OVERPAYMENT', 'TOP_UP', 'MERGE')
            );
        DROP INDEX credit_grants_once;
        CREATE UNIQUE INDEX credit_grants_once ON credit_grants (seller_id, source, document_id)
            WHERE document_id <> '' AND source <> 'MERGE';
        ALTER TABLE credit_movements
            DROP CONSTRAINT credit_movements_kind_check,
            ADD CONSTRAINT credit_movements_kind CHECK (
                kind IN (
                    'GRANTED', 'APPLIED', 'RETURNED', 'RESERVED', 'RELEASED', 'COMMITTED', 'EXPIRED', 'REVOKED', 'MOVED'
                )
            );
        ALTER TABLE ledger_entries
            DROP CONSTRAINT ledger_entries_accounts,
            ADD CONSTRAINT ledger_entries_accounts CHECK (
                accounts <@ ARRAY['RECEIVABLE', 'CASH', 'REVENUE', 'DEFERRED_REVENUE', 'DISCOUNTS', 'TAX_PAYABLE',
                    'CUSTOMER_CREDIT', 'REFUNDS_PAYABLE', 'PROMOTIONAL_CREDIT', 'WRITE_OFFS', 'ROUNDING',
                    'CREDIT_TRANSFERS']
                AND array_position(accounts, NULL) IS NULL
            );
        """
    )
    protect("merged_customers", "credit_moves")
