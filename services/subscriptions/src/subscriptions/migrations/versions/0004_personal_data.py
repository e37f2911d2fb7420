"""Personal data under a key per customer; tax ids.

The plain columns stay: what they hold is read until a job has sealed it, and the release before can still write them.
They are empty in every row that is sealed.
"""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE data_keys (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            master_key_id text NOT NULL CHECK (master_key_id <> ''),
            wrapped_key bytea NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, customer_id),
            CONSTRAINT data_keys_customer FOREIGN KEY (seller_id, customer_id) REFERENCES customers (seller_id, id)
                DEFERRABLE INITIALLY DEFERRED
        );
        COMMENT ON TABLE data_keys IS 'the key of each customer''s personal data, wrapped by a master key';
        CREATE INDEX data_keys_master_key ON data_keys (master_key_id);

        ALTER TABLE customers
            ADD COLUMN sealed_personal_data bytea,
            ADD COLUMN retained_country text CHECK (retained_country <> ''),
            ADD COLUMN erase_time timestamptz,
            ADD CONSTRAINT customers_erased CHECK (
                erase_time IS NULL
                OR (sealed_personal_data IS NULL AND display_name = '' AND email = '' AND address = '')
            );
        COMMENT ON COLUMN customers.display_name IS 'empty once sealed, as are email and address';
        COMMENT ON COLUMN customers.retained_country IS 'what an erased customer''s address keeps, for tax';
        CREATE INDEX customers_unsealed ON customers (create_time) WHERE display_name <> '';
        CREATE INDEX customers_unsealed_of_seller ON customers (seller_id, create_time) WHERE display_name <> '';

        CREATE TABLE tax_ids (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            kind text NOT NULL,
            country text NOT NULL,
            sealed_value bytea NOT NULL,
            value_digest bytea NOT NULL,
            state text NOT NULL CHECK (state IN ('UNVERIFIED', 'PENDING', 'VALID', 'INVALID', 'UNAVAILABLE')),
            tries integer NOT NULL CHECK (tries >= 0),
            next_try_time timestamptz,
            check_time timestamptz,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT tax_ids_value UNIQUE (seller_id, customer_id, value_digest),
            CONSTRAINT tax_ids_customer FOREIGN KEY (seller_id, customer_id) REFERENCES customers (seller_id, id),
            CHECK (next_try_time IS NULL OR state IN ('PENDING', 'UNAVAILABLE')),
            CHECK ((check_time IS NOT NULL) = (state IN ('VALID', 'INVALID')))
        );
        COMMENT ON COLUMN tax_ids.tries IS 'how often the authority was asked without an answer';
        CREATE INDEX tax_ids_try_due ON tax_ids (next_try_time) WHERE next_try_time IS NOT NULL;
        CREATE INDEX tax_ids_try_due_of_seller ON tax_ids (seller_id, next_try_time) WHERE next_try_time IS NOT NULL;
        """
    )
    protect("data_keys", "tax_ids")
