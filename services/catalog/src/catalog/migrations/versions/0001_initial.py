"""Sellers, products, plans and prices."""

from __future__ import annotations

from common.migrate import create_chassis, protect, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_chassis()
    run_script(
        """
        CREATE TABLE sellers (
            seller_id text PRIMARY KEY,
            mode text NOT NULL CHECK (mode IN ('LIVE', 'SANDBOX')),
            display_name text NOT NULL,
            address bytea NOT NULL,
            tax_id text NOT NULL,
            email text NOT NULL,
            payment_instructions text NOT NULL,
            invoice_number_prefix text NOT NULL,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL
        );
        CREATE TABLE products (
            seller_id text NOT NULL,
            id text NOT NULL,
            code text NOT NULL,
            display_name text NOT NULL,
            description text NOT NULL,
            unit_label text NOT NULL,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT products_code UNIQUE (seller_id, code)
        );
        CREATE TABLE plans (
            seller_id text NOT NULL,
            id text NOT NULL,
            code text NOT NULL,
            display_name text NOT NULL,
            state text NOT NULL CHECK (state IN ('DRAFT', 'ACTIVE', 'ARCHIVED')),
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            publish_time timestamptz,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT plans_code UNIQUE (seller_id, code),
            CHECK ((state = 'DRAFT') = (publish_time IS NULL))
        );
        CREATE TABLE prices (
            seller_id text NOT NULL,
            id text NOT NULL,
            plan_id text NOT NULL,
            position integer NOT NULL,
            code text NOT NULL,
            product_id text NOT NULL,
            currency text NOT NULL,
            interval_unit text NOT NULL,
            interval_count integer NOT NULL,
            timing text NOT NULL CHECK (timing IN ('IN_ADVANCE', 'IN_ARREARS')),
            meter text NOT NULL,
            model jsonb NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT prices_code UNIQUE (seller_id, plan_id, code),
            CONSTRAINT prices_position UNIQUE (seller_id, plan_id, position),
            CONSTRAINT prices_plan FOREIGN KEY (seller_id, plan_id) REFERENCES plans (seller_id, id),
            CONSTRAINT prices_product FOREIGN KEY (seller_id, product_id) REFERENCES products (seller_id, id),
            CHECK (meter = '' OR timing = 'IN_ARREARS')
        );

        -- What is published is what subscribers agreed to: the table itself refuses to change it.
        CREATE FUNCTION refuse_change_of_published_price() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            plan_state text;
        BEGIN
            SELECT state INTO plan_state FROM plans
            WHERE seller_id = coalesce(NEW.seller_id, OLD.seller_id) AND id = coalesce(NEW.plan_id, OLD.plan_id);
            IF plan_state <> 'DRAFT' THEN
                RAISE EXCEPTION 'prices of a published plan never change';
            END IF;
            RETURN coalesce(NEW, OLD);
        END $$;
        CREATE TRIGGER prices_immutable BEFORE INSERT OR UPDATE OR DELETE ON prices
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_price();
        """
    )
    protect("sellers", "products", "plans", "prices")
