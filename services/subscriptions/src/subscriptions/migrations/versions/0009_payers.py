"""Who pays since when, for customers and for subscriptions; the numbers of tax certificates sealed.

What `tax_exemptions` holds of certificates in plain is read until a job has sealed it, and the release before can still
write it. That release leaves alone what is sealed.
"""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE customer_payers (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            since_time timestamptz NOT NULL,
            payer_id text CHECK (payer_id <> customer_id),
            PRIMARY KEY (seller_id, customer_id, since_time),
            CONSTRAINT customer_payers_customer FOREIGN KEY (seller_id, customer_id)
                REFERENCES customers (seller_id, id),
            CONSTRAINT customer_payers_payer FOREIGN KEY (seller_id, payer_id) REFERENCES customers (seller_id, id)
        );
        COMMENT ON TABLE customer_payers IS 'who gets the invoices of each customer, since when';
        COMMENT ON COLUMN customer_payers.payer_id IS 'null: the customer itself, as before the first row';
        CREATE INDEX customer_payers_of_payer ON customer_payers (seller_id, payer_id) WHERE payer_id IS NOT NULL;

        CREATE TABLE subscription_payers (
            seller_id text NOT NULL,
            subscription_id text NOT NULL,
            start_time timestamptz NOT NULL,
            end_time timestamptz CHECK (end_time > start_time),
            payer_id text,
            PRIMARY KEY (seller_id, subscription_id, start_time),
            CONSTRAINT subscription_payers_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id)
        );
        COMMENT ON TABLE subscription_payers IS
            'what follows from the log: whom each subscription that ever named a payer names when';
        COMMENT ON COLUMN subscription_payers.payer_id IS 'null: nobody, so that the customer''s payer pays';
        CREATE INDEX subscription_payers_of_payer ON subscription_payers (seller_id, payer_id, subscription_id)
            WHERE payer_id IS NOT NULL;

        ALTER TABLE customers ADD COLUMN sealed_certificates bytea;
        COMMENT ON COLUMN customers.sealed_certificates IS 'the certificate numbers that tax_exemptions has empty';
        CREATE INDEX customers_certificates_unsealed ON customers (create_time)
            WHERE tax_exemptions @? '$[*] ? (@.certificate_number != "")';
        CREATE INDEX customers_certificates_unsealed_of_seller ON customers (seller_id, create_time)
            WHERE tax_exemptions @? '$[*] ? (@.certificate_number != "")';

        SELECT set_config('saldo.seller', '*', true); -- what every seller has: until the transaction ends
        -- Nothing is known of who paid before: the one who does now always has.
        INSERT INTO customer_payers (seller_id, customer_id, since_time, payer_id)
            SELECT seller_id, id, create_time, payer_id FROM customers WHERE payer_id IS NOT NULL;
        WITH said AS (
            SELECT seller_id, id AS subscription_id, opening ->> 'payer_id' AS payer_id,
                least(
                    (opening ->> 'start_time')::timestamptz, (opening ->> 'recorded_time')::timestamptz
                ) AS start_time, -1 AS position, 0 AS place
            FROM subscriptions
            UNION ALL
            SELECT c.seller_id, c.subscription_id, a.action ->> 'payer_id', c.effective_time, c.position, a.place
            FROM subscription_changes c, jsonb_array_elements(c.actions) WITH ORDINALITY AS a (action, place)
            WHERE c.revoked_time IS NULL AND a.action ->> 'action' = 'SET_PAYER'
        ), lasting AS (
            SELECT *,
                lead(start_time) OVER (
                    PARTITION BY seller_id, subscription_id ORDER BY start_time, position, place
                ) AS end_time,
                bool_or(payer_id IS NOT NULL) OVER (PARTITION BY seller_id, subscription_id) AS was_named
            FROM said
        )
        INSERT INTO subscription_payers (seller_id, subscription_id, start_time, end_time, payer_id)
            SELECT seller_id, subscription_id, start_time, end_time, payer_id FROM lasting
            WHERE was_named AND (end_time IS NULL OR end_time > start_time);
        """
    )
    protect("customer_payers", "subscription_payers")
