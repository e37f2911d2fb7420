"""Entitlements and seats.

What the plans of existing subscriptions entitle to is not known here; a job asks the catalog.
"""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE plan_entitlements (
            seller_id text NOT NULL,
            plan_id text NOT NULL,
            entitlements jsonb CHECK (jsonb_array_length(entitlements) <= 100),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, plan_id)
        );
        COMMENT ON TABLE plan_entitlements IS 'what each version of a plan entitles to, for ever';
        COMMENT ON COLUMN plan_entitlements.entitlements IS 'null until the catalog was asked';
        CREATE INDEX plan_entitlements_unknown ON plan_entitlements (create_time) WHERE entitlements IS NULL;
        CREATE INDEX plan_entitlements_unknown_of_seller ON plan_entitlements (seller_id, create_time)
            WHERE entitlements IS NULL;

        SELECT set_config('saldo.seller', '*', true); -- the plans of every seller: until the transaction ends
        INSERT INTO plan_entitlements (seller_id, plan_id, create_time)
        SELECT seller_id, plan_id, min(create_time)
        FROM (
            SELECT seller_id, plan_id, create_time FROM subscriptions
            UNION ALL
            SELECT seller_id, opening ->> 'plan_id', create_time FROM subscriptions
            UNION ALL
            SELECT c.seller_id, a.action ->> 'plan_id', c.recorded_time
            FROM subscription_changes c, jsonb_array_elements(c.actions) AS a (action)
            WHERE a.action ->> 'action' IN ('SET_PLAN', 'SET_ADD_ON')
        ) p
        GROUP BY seller_id, plan_id;

        CREATE TABLE entitlement_overrides (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            feature text NOT NULL CHECK (feature <> ''),
            granted jsonb NOT NULL,
            reason text NOT NULL CHECK (reason <> ''),
            start_time timestamptz NOT NULL,
            end_time timestamptz,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT entitlement_overrides_customer FOREIGN KEY (seller_id, customer_id)
                REFERENCES customers (seller_id, id),
            CHECK (start_time < end_time),
            CONSTRAINT entitlement_overrides_never_overlap EXCLUDE USING gist (
                int8range(
                    hashtextextended(seller_id || customer_id || feature, 0),
                    hashtextextended(seller_id || customer_id || feature, 0),
                    '[]'
                ) WITH =,
                tstzrange(start_time, end_time) WITH &&
            )
        );
        COMMENT ON TABLE entitlement_overrides IS
            'what sellers decided that a customer has of a feature, whatever its plans say';
        CREATE INDEX entitlement_overrides_of_customer ON entitlement_overrides (seller_id, customer_id, feature);

        CREATE TABLE customer_entitlements (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            revision bigint NOT NULL CHECK (revision >= 0),
            digest bytea NOT NULL,
            through_time timestamptz NOT NULL,
            refresh_time timestamptz,
            PRIMARY KEY (seller_id, customer_id)
        );
        COMMENT ON TABLE customer_entitlements IS 'what was announced about the entitlements of each customer';
        COMMENT ON COLUMN customer_entitlements.revision IS '0 until something was announced';
        COMMENT ON COLUMN customer_entitlements.digest IS 'of the grants that were announced last';
        COMMENT ON COLUMN customer_entitlements.through_time IS 'up to when everything that happened is in it';
        COMMENT ON COLUMN customer_entitlements.refresh_time IS
            'when something ends by itself that no subscription says';
        CREATE INDEX customer_entitlements_due ON customer_entitlements (refresh_time)
            WHERE refresh_time IS NOT NULL;
        CREATE INDEX customer_entitlements_due_of_seller ON customer_entitlements (seller_id, refresh_time)
            WHERE refresh_time IS NOT NULL;

        CREATE TABLE seats (
            seller_id text NOT NULL,
            id text NOT NULL,
            subscription_id text NOT NULL,
            item_id text NOT NULL,
            holder text NOT NULL CHECK (holder <> ''),
            state text NOT NULL CHECK (state IN ('INVITED', 'CLAIMED', 'REVOKED')),
            token_digest bytea NOT NULL,
            sealed_email bytea,
            sealed_for text,
            invite_time timestamptz NOT NULL,
            expire_time timestamptz,
            claim_time timestamptz,
            revoke_time timestamptz,
            revoke_reason text CHECK (revoke_reason IN ('REQUESTED', 'EXPIRED', 'QUANTITY_REDUCED')),
            revision bigint NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT seats_token UNIQUE (seller_id, token_digest),
            CONSTRAINT seats_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id),
            CHECK ((state = 'INVITED') = (expire_time IS NOT NULL)),
            CHECK ((state = 'REVOKED') = (revoke_time IS NOT NULL)),
            CHECK ((revoke_time IS NULL) = (revoke_reason IS NULL)),
            CHECK (state <> 'CLAIMED' OR claim_time IS NOT NULL),
            CHECK ((sealed_email IS NULL) = (sealed_for IS NULL)),
            CONSTRAINT seats_email_of_invited CHECK (sealed_email IS NULL OR state = 'INVITED')
        );
        COMMENT ON TABLE seats IS 'to whom the places of an item are assigned';
        COMMENT ON COLUMN seats.sealed_email IS 'while somebody is invited';
        COMMENT ON COLUMN seats.sealed_for IS 'the customer under whose key the mail address is sealed';
        CREATE INDEX seats_of_subscription ON seats (seller_id, subscription_id, id);
        CREATE UNIQUE INDEX seats_assigned ON seats (seller_id, item_id, holder) WHERE state <> 'REVOKED';
        CREATE INDEX seats_expiry_due ON seats (expire_time) WHERE expire_time IS NOT NULL;
        CREATE INDEX seats_expiry_due_of_seller ON seats (seller_id, expire_time) WHERE expire_time IS NOT NULL;
        """
    )
    protect("plan_entitlements", "entitlement_overrides", "customer_entitlements", "seats")
