"""Customers, subscriptions with their items and pauses, and the dunning campaigns that concern them."""

from __future__ import annotations

from common.migrate import create_chassis, protect, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_chassis()
    run_script(
        """
        CREATE TABLE customers (
            seller_id text NOT NULL,
            id text NOT NULL,
            external_id text CHECK (external_id <> ''),
            display_name text NOT NULL,
            email text NOT NULL,
            address bytea NOT NULL,
            currency text NOT NULL,
            time_zone text NOT NULL,
            language_code text NOT NULL,
            net_terms_days integer NOT NULL CHECK (net_terms_days BETWEEN 0 AND 365),
            collection_method text NOT NULL CHECK (collection_method IN ('CHARGE_AUTOMATICALLY', 'SEND_INVOICE')),
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT customers_external_id UNIQUE (seller_id, external_id)
        );

        CREATE TABLE subscriptions (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            plan_id text NOT NULL,
            state text NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'PAST_DUE', 'PAUSED', 'CANCELLED')),
            currency text NOT NULL,
            time_zone text NOT NULL,
            start_time timestamptz NOT NULL,
            billing_anchor timestamptz NOT NULL,
            notice_time timestamptz,
            cancel_time timestamptz,
            end_time timestamptz,
            periods_ended_through timestamptz NOT NULL,
            next_period_end_time timestamptz,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT subscriptions_customer FOREIGN KEY (seller_id, customer_id)
                REFERENCES customers (seller_id, id),
            CHECK ((state = 'CANCELLED') = (end_time IS NOT NULL)),
            CHECK ((notice_time IS NULL) = (cancel_time IS NULL)),
            CHECK (notice_time < cancel_time),
            CHECK (end_time <= cancel_time),
            CHECK (next_period_end_time > periods_ended_through)
        );
        COMMENT ON COLUMN subscriptions.notice_time IS 'when it was decided that it ends at cancel_time';
        COMMENT ON COLUMN subscriptions.periods_ended_through IS 'period ends up to here have been announced';
        COMMENT ON COLUMN subscriptions.next_period_end_time IS 'the next period end to be announced';
        CREATE INDEX subscriptions_of_customer ON subscriptions (seller_id, customer_id, id);
        CREATE INDEX subscriptions_start_due ON subscriptions (start_time) WHERE state = 'PENDING';
        CREATE INDEX subscriptions_start_due_of_seller ON subscriptions (seller_id, start_time)
            WHERE state = 'PENDING';
        CREATE INDEX subscriptions_cancellation_due ON subscriptions (cancel_time)
            WHERE cancel_time IS NOT NULL AND state <> 'CANCELLED';
        CREATE INDEX subscriptions_cancellation_due_of_seller ON subscriptions (seller_id, cancel_time)
            WHERE cancel_time IS NOT NULL AND state <> 'CANCELLED';
        CREATE INDEX subscriptions_period_end_due ON subscriptions (next_period_end_time)
            WHERE next_period_end_time IS NOT NULL;
        CREATE INDEX subscriptions_period_end_due_of_seller ON subscriptions (seller_id, next_period_end_time)
            WHERE next_period_end_time IS NOT NULL;

        CREATE TABLE subscription_items (
            seller_id text NOT NULL,
            id text NOT NULL,
            subscription_id text NOT NULL,
            position integer NOT NULL,
            price_id text NOT NULL,
            interval_unit text NOT NULL CHECK (interval_unit IN ('DAY', 'WEEK', 'MONTH', 'YEAR')),
            interval_count integer NOT NULL CHECK (interval_count > 0),
            billing_timing text NOT NULL CHECK (billing_timing IN ('IN_ADVANCE', 'IN_ARREARS')),
            meter text NOT NULL,
            quantity numeric CHECK (quantity >= 0),
            PRIMARY KEY (seller_id, id),
            CONSTRAINT subscription_items_position UNIQUE (seller_id, subscription_id, position),
            CONSTRAINT subscription_items_price UNIQUE (seller_id, subscription_id, price_id),
            CONSTRAINT subscription_items_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id),
            CHECK ((meter = '') = (quantity IS NOT NULL)),
            CHECK (meter = '' OR billing_timing = 'IN_ARREARS')
        );

        -- Two pauses of one subscription never overlap, so there is at most one that lasts. Text in an exclusion
        -- constraint needs an extension that not every server has: its hash stands in for it.
        CREATE TABLE pauses (
            seller_id text NOT NULL,
            subscription_id text NOT NULL,
            start_time timestamptz NOT NULL,
            end_time timestamptz,
            PRIMARY KEY (seller_id, subscription_id, start_time),
            CONSTRAINT pauses_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id),
            CHECK (start_time < end_time),
            CONSTRAINT pauses_never_overlap EXCLUDE USING gist (
                int8range(
                    hashtextextended(seller_id || subscription_id, 0),
                    hashtextextended(seller_id || subscription_id, 0),
                    '[]'
                ) WITH =,
                tstzrange(start_time, end_time) WITH &&
            )
        );

        CREATE TABLE dunning_campaigns (
            seller_id text NOT NULL,
            subscription_id text NOT NULL,
            id text NOT NULL,
            revision bigint NOT NULL,
            is_open boolean NOT NULL,
            PRIMARY KEY (seller_id, subscription_id, id),
            CONSTRAINT dunning_campaigns_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id)
        );
        COMMENT ON TABLE dunning_campaigns IS 'the newest word of dunning about each subscription';
        """
    )
    protect("customers", "subscriptions", "subscription_items", "pauses", "dunning_campaigns")
