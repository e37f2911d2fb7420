"""Payment methods, payments and their attempts."""

from __future__ import annotations

from common.migrate import create_chassis, protect, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_chassis()
    run_script(
        """
        CREATE TABLE payment_methods (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            gateway text NOT NULL,
            token text NOT NULL,
            display_name text NOT NULL,
            is_default boolean NOT NULL,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        CREATE INDEX payment_methods_customer ON payment_methods (seller_id, customer_id, id);
        CREATE UNIQUE INDEX payment_methods_default ON payment_methods (seller_id, customer_id) WHERE is_default;

        CREATE TABLE payments (
            seller_id text NOT NULL,
            id text NOT NULL,
            invoice_id text NOT NULL,
            customer_id text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            currency text NOT NULL,
            state text NOT NULL CHECK (state IN ('PROCESSING', 'SUCCEEDED', 'FAILED')),
            failure_code text NOT NULL,
            retryable boolean NOT NULL,
            collect_time timestamptz,
            invoice_settled boolean NOT NULL,
            traceparent text NOT NULL,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT payments_invoice UNIQUE (seller_id, invoice_id),
            CHECK ((state = 'FAILED') = (failure_code <> '')),
            CHECK (collect_time IS NULL OR (state = 'PROCESSING' AND NOT invoice_settled))
        );
        CREATE INDEX payments_customer ON payments (seller_id, customer_id, id);
        CREATE INDEX payments_collect_time ON payments (collect_time) WHERE collect_time IS NOT NULL;
        CREATE INDEX payments_seller_collect_time ON payments (seller_id, collect_time) WHERE collect_time IS NOT NULL;

        CREATE TABLE payment_attempts (
            seller_id text NOT NULL,
            id text NOT NULL,
            payment_id text NOT NULL,
            number integer NOT NULL CHECK (number > 0),
            state text NOT NULL CHECK (state IN ('PENDING', 'SUCCEEDED', 'FAILED', 'UNKNOWN')),
            payment_method_id text NOT NULL,
            gateway text NOT NULL,
            gateway_reference text NOT NULL,
            failure_code text NOT NULL,
            create_time timestamptz NOT NULL,
            record_time timestamptz NOT NULL,
            settle_time timestamptz,
            ask_time timestamptz,
            asked_count integer NOT NULL,
            deferred boolean NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT payment_attempts_number UNIQUE (seller_id, payment_id, number),
            CONSTRAINT payment_attempts_payment FOREIGN KEY (seller_id, payment_id)
                REFERENCES payments (seller_id, id),
            CONSTRAINT payment_attempts_payment_method FOREIGN KEY (seller_id, payment_method_id)
                REFERENCES payment_methods (seller_id, id),
            CHECK ((state IN ('PENDING', 'UNKNOWN')) = (settle_time IS NULL)),
            CHECK ((state IN ('PENDING', 'UNKNOWN')) = (ask_time IS NOT NULL)),
            CHECK ((state = 'SUCCEEDED') = (gateway_reference <> '')),
            CHECK ((state = 'FAILED') = (failure_code <> ''))
        );
        -- Whatever code runs: no second attempt while the outcome of one is not known, and none after the money is in.
        CREATE UNIQUE INDEX payment_attempts_one_open ON payment_attempts (seller_id, payment_id)
            WHERE state IN ('PENDING', 'UNKNOWN');
        CREATE UNIQUE INDEX payment_attempts_one_succeeded ON payment_attempts (seller_id, payment_id)
            WHERE state = 'SUCCEEDED';
        CREATE INDEX payment_attempts_ask_time ON payment_attempts (ask_time) WHERE ask_time IS NOT NULL;
        CREATE INDEX payment_attempts_seller_ask_time ON payment_attempts (seller_id, ask_time)
            WHERE ask_time IS NOT NULL;
        """
    )
    protect("payment_methods", "payments", "payment_attempts")
