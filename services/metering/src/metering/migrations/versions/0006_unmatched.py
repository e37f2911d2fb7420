"""What customers are called, as far as metering has heard: to say which usage nobody counts."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE customers (
            seller_id text NOT NULL,
            id text NOT NULL,
            revision bigint NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        COMMENT ON TABLE customers IS 'the customers that were heard of, each with the last of its changes';

        CREATE TABLE customer_names (
            seller_id text NOT NULL,
            name text NOT NULL,
            customer_id text NOT NULL,
            PRIMARY KEY (seller_id, name, customer_id)
        );
        COMMENT ON TABLE customer_names IS 'what usage may call customers; only to report what names nobody';
        CREATE INDEX customer_names_customer ON customer_names (seller_id, customer_id);

        CREATE TABLE sellers_with_customers (
            seller_id text PRIMARY KEY
        );
        COMMENT ON TABLE sellers_with_customers IS 'the sellers of whom a customer was heard of';

        ALTER TABLE usage_streams ADD COLUMN customer_known boolean NOT NULL DEFAULT false;
        COMMENT ON COLUMN usage_streams.customer_known IS
            'true only if some customer is called so; may be false though one is: then customer_names says';
        CREATE INDEX usage_streams_unknown ON usage_streams (seller_id, meter, customer) WHERE NOT customer_known;
        """
    )
    protect("customers", "customer_names", "sellers_with_customers")
