"""Policies, campaigns and their steps."""

from __future__ import annotations

from common.migrate import create_chassis, protect, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_chassis()
    run_script(
        """
        CREATE TABLE policies (
            seller_id text NOT NULL,
            id text NOT NULL,
            display_name text NOT NULL,
            retry_wait_days integer[] NOT NULL,
            final_wait_days integer NOT NULL CHECK (final_wait_days > 0),
            final_action text NOT NULL CHECK (final_action IN ('NONE', 'PAUSE_SUBSCRIPTION', 'CANCEL_SUBSCRIPTION')),
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        CREATE TABLE invoices (
            seller_id text NOT NULL,
            id text NOT NULL,
            paid boolean NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        COMMENT ON TABLE invoices IS 'what was heard of each invoice that was overdue or paid';

        CREATE TABLE campaigns (
            seller_id text NOT NULL,
            id text NOT NULL,
            invoice_id text NOT NULL,
            customer_id text NOT NULL,
            subscription_ids text[] NOT NULL,
            amount_minor bigint NOT NULL,
            currency text NOT NULL,
            policy jsonb NOT NULL,
            state text NOT NULL CHECK (state IN ('ACTIVE', 'RECOVERED', 'EXHAUSTED', 'CANCELLED')),
            next_step_time timestamptz,
            revision bigint NOT NULL,
            start_time timestamptz NOT NULL,
            end_time timestamptz,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT campaigns_invoice UNIQUE (seller_id, invoice_id),
            CHECK ((state = 'ACTIVE') = (next_step_time IS NOT NULL)),
            CHECK ((state = 'ACTIVE') = (end_time IS NULL))
        );
        CREATE INDEX campaigns_customer ON campaigns (seller_id, customer_id, id);
        CREATE INDEX campaigns_due ON campaigns (next_step_time) WHERE next_step_time IS NOT NULL;
        CREATE INDEX campaigns_due_of_seller ON campaigns (seller_id, next_step_time)
            WHERE next_step_time IS NOT NULL;

        CREATE TABLE steps (
            seller_id text NOT NULL,
            campaign_id text NOT NULL,
            number integer NOT NULL,
            action text NOT NULL CHECK (action IN ('RETRY_PAYMENT', 'SKIP_RETRY', 'GIVE_UP', 'POSTPONE')),
            time timestamptz NOT NULL,
            note text NOT NULL,
            PRIMARY KEY (seller_id, campaign_id, number),
            CONSTRAINT steps_campaign FOREIGN KEY (seller_id, campaign_id) REFERENCES campaigns (seller_id, id)
        );
        """
    )
    protect("policies", "invoices", "campaigns", "steps")
