"""More models of prices; versions of plans, what they entitle to; tax codes; negotiated prices."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE products ADD COLUMN tax_code text NOT NULL DEFAULT '';
        CREATE TABLE tax_codes (
            seller_id text NOT NULL,
            id text NOT NULL,
            code text NOT NULL,
            display_name text NOT NULL,
            description text NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT tax_codes_code UNIQUE (seller_id, code)
        );
        CREATE TABLE features (
            seller_id text NOT NULL,
            id text NOT NULL,
            code text NOT NULL,
            display_name text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('SWITCH', 'LIMIT', 'QUOTA')),
            meter text NOT NULL,
            unit_label text NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT features_code UNIQUE (seller_id, code),
            CHECK ((kind = 'QUOTA') = (meter <> ''))
        );

        -- Each version of a plan is a row. `superseded_time` is when the next one takes effect, so that the row itself
        -- knows when it is due to be archived.
        ALTER TABLE plans
            ADD COLUMN version integer NOT NULL DEFAULT 1,
            ADD COLUMN effective_time timestamptz,
            ADD COLUMN superseded_time timestamptz,
            ADD COLUMN kind text NOT NULL DEFAULT 'BASE',
            ADD COLUMN entitlements jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN trial_days integer NOT NULL DEFAULT 0,
            DROP CONSTRAINT plans_code,
            ADD CONSTRAINT plans_version UNIQUE (seller_id, code, version),
            ADD CONSTRAINT plans_counted CHECK (version >= 1),
            ADD CONSTRAINT plans_kind CHECK (kind IN ('BASE', 'ADD_ON')),
            ADD CONSTRAINT plans_trial CHECK (trial_days BETWEEN 0 AND 730);
        SELECT set_config('saldo.seller', '*', true); -- the plans of every seller: until the transaction ends
        UPDATE plans SET effective_time = publish_time WHERE publish_time IS NOT NULL;
        CREATE UNIQUE INDEX plans_draft ON plans (seller_id, code) WHERE state = 'DRAFT';
        CREATE INDEX plans_superseded ON plans (superseded_time) WHERE state = 'ACTIVE' AND superseded_time IS NOT NULL;

        -- A price without a position is not among the prices of its plan: it was negotiated with one customer, or it is
        -- what a draft said before. Neither is forgotten, for whoever was once told of a price may keep it for ever.
        ALTER TABLE prices
            ADD COLUMN operators jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN customer_id text NOT NULL DEFAULT '',
            ADD COLUMN list_price_id text NOT NULL DEFAULT '',
            ADD COLUMN create_time timestamptz,
            ALTER COLUMN position DROP NOT NULL,
            DROP CONSTRAINT prices_code,
            ADD CONSTRAINT prices_negotiated_of_list CHECK ((customer_id = '') = (list_price_id = '')),
            ADD CONSTRAINT prices_negotiated_beside CHECK (customer_id = '' OR position IS NULL);
        CREATE UNIQUE INDEX prices_code_in_plan ON prices (seller_id, plan_id, code) WHERE position IS NOT NULL;
        CREATE INDEX prices_negotiated ON prices (seller_id, customer_id, id) WHERE customer_id <> '';

        -- What is published is what subscribers agreed to, and no price is ever another: the table itself refuses it.
        CREATE OR REPLACE FUNCTION refuse_change_of_published_price() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            plan_state text;
        BEGIN
            IF TG_OP = 'DELETE' THEN
                RAISE EXCEPTION 'prices are never deleted';
            END IF;
            SELECT state INTO plan_state FROM plans WHERE seller_id = NEW.seller_id AND id = NEW.plan_id;
            IF plan_state <> 'DRAFT' AND NEW.customer_id = '' THEN
                RAISE EXCEPTION 'prices of a published plan never change';
            END IF;
            IF TG_OP = 'UPDATE' THEN
                IF NEW.position IS NOT NULL OR to_jsonb(NEW) - 'position' <> to_jsonb(OLD) - 'position' THEN
                    RAISE EXCEPTION 'a price never changes: a draft lets go of it for another';
                END IF;
            END IF;
            RETURN NEW;
        END $$;
        """
    )
    protect("tax_codes", "features")
