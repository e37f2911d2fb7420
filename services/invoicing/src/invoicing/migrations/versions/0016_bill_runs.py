"""Bill runs that somebody asked for, what became of their customers, and customers who cannot be billed."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE billing
            ADD COLUMN in_bill_run boolean NOT NULL DEFAULT false,
            ADD COLUMN park_time timestamptz,
            ADD COLUMN park_reason text NOT NULL DEFAULT '',
            ADD COLUMN park_message text NOT NULL DEFAULT '',
            ADD CONSTRAINT billing_parked CHECK ((park_time IS NULL) = (park_reason = ''));
        COMMENT ON COLUMN billing.in_bill_run IS 'whether a bill run waits to hear what becomes of it';
        CREATE INDEX billing_parked ON billing (seller_id, customer_id) WHERE park_time IS NOT NULL;

        CREATE TABLE bill_runs (
            seller_id text NOT NULL,
            id text NOT NULL,
            scope text NOT NULL CHECK (scope IN ('CUSTOMERS', 'DUE', 'PARKED', 'ALL')),
            customer_count integer NOT NULL CHECK (customer_count >= 0),
            create_time timestamptz NOT NULL,
            cancel_time timestamptz,
            PRIMARY KEY (seller_id, id)
        );
        COMMENT ON TABLE bill_runs IS 'customers whom somebody wanted billed';

        CREATE TABLE bill_run_customers (
            seller_id text NOT NULL,
            bill_run_id text NOT NULL,
            customer_id text NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('WAITING', 'BILLED', 'NOTHING_OWED', 'PARKED', 'CANCELLED')),
            invoice_ids text[] NOT NULL,
            reason text NOT NULL CHECK ((reason <> '') = (outcome = 'PARKED')),
            message text NOT NULL,
            end_time timestamptz CHECK ((end_time IS NULL) = (outcome = 'WAITING')),
            due_time_before timestamptz,
            marked_revision bigint NOT NULL,
            PRIMARY KEY (seller_id, bill_run_id, customer_id),
            CONSTRAINT bill_run_customers_bill_run
                FOREIGN KEY (seller_id, bill_run_id) REFERENCES bill_runs (seller_id, id),
            CHECK (outcome <> 'BILLED' OR invoice_ids <> '{}'),
            CHECK (outcome <> 'NOTHING_OWED' OR invoice_ids = '{}')
        );
        COMMENT ON TABLE bill_run_customers IS 'what became of each customer of a bill run';
        COMMENT ON COLUMN bill_run_customers.due_time_before IS 'when it was due before the bill run made it due now';
        CREATE INDEX bill_run_customers_waiting ON bill_run_customers (seller_id, customer_id)
            WHERE outcome = 'WAITING';
        -- By which it is known how far a bill run is without looking at all of it.
        CREATE INDEX bill_run_customers_left ON bill_run_customers (seller_id, bill_run_id) WHERE outcome = 'WAITING';
        CREATE INDEX bill_run_customers_ended ON bill_run_customers (seller_id, bill_run_id, end_time);
        """
    )
    protect("bill_runs", "bill_run_customers")
