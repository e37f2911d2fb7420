"""Subscriptions as the log of what was agreed and decided; what is billed when follows from it.

What there was becomes the log: an agreement with its items, a change for every pause, resumption and end. The terms of
items over time are written when a subscription changes next; until then nothing of it overlaps anything.
"""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE subscription_changes (
            seller_id text NOT NULL,
            id text NOT NULL,
            subscription_id text NOT NULL,
            position integer NOT NULL CHECK (position >= 0),
            recorded_time timestamptz NOT NULL,
            effective_time timestamptz NOT NULL,
            revoked_time timestamptz,
            decided_with text,
            proration text NOT NULL CHECK (proration IN ('BY_DAY', 'BY_SECOND', 'NONE')),
            unused text NOT NULL CHECK (unused IN ('CREDIT', 'KEEP', 'REFUND')),
            actions jsonb NOT NULL CHECK (jsonb_array_length(actions) BETWEEN 1 AND 400),
            PRIMARY KEY (seller_id, id),
            CONSTRAINT subscription_changes_position UNIQUE (seller_id, subscription_id, position),
            CONSTRAINT subscription_changes_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id),
            CONSTRAINT subscription_changes_revoked_before_effect
                CHECK (recorded_time <= revoked_time AND revoked_time <= effective_time)
        );
        COMMENT ON TABLE subscription_changes IS 'the log of what was decided about each subscription';
        COMMENT ON COLUMN subscription_changes.decided_with IS
            'a change decided in the same breath; empty for the agreement itself';

        CREATE TABLE subscription_terms (
            seller_id text NOT NULL,
            item_id text NOT NULL,
            start_time timestamptz NOT NULL,
            end_time timestamptz,
            subscription_id text NOT NULL,
            customer_id text NOT NULL,
            plan_id text NOT NULL,
            price_id text NOT NULL,
            quantity numeric CHECK (quantity >= 0),
            PRIMARY KEY (seller_id, item_id, start_time),
            CONSTRAINT subscription_terms_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id),
            CHECK (start_time < end_time),
            CONSTRAINT subscription_terms_never_overlap EXCLUDE USING gist (
                int8range(
                    hashtextextended(seller_id || item_id, 0),
                    hashtextextended(seller_id || item_id, 0),
                    '[]'
                ) WITH =,
                tstzrange(start_time, end_time) WITH &&
            )
        );
        COMMENT ON TABLE subscription_terms IS 'what follows from the log: by what terms each item is billed when';
        CREATE INDEX subscription_terms_of ON subscription_terms (seller_id, subscription_id);
        CREATE INDEX subscription_terms_of_customer
            ON subscription_terms (seller_id, customer_id, subscription_id);

        ALTER TABLE subscriptions
            ADD COLUMN opening jsonb,
            ADD COLUMN plan_code text NOT NULL DEFAULT '',
            ADD COLUMN is_followed_up boolean NOT NULL DEFAULT false,
            ADD COLUMN announced_through timestamptz,
            ADD COLUMN next_moment_time timestamptz,
            ADD COLUMN closed_time timestamptz;
        ALTER TABLE subscriptions ALTER COLUMN plan_code DROP DEFAULT, ALTER COLUMN is_followed_up DROP DEFAULT;
        COMMENT ON COLUMN subscriptions.opening IS 'what was agreed at first';
        COMMENT ON COLUMN subscriptions.is_followed_up IS 'whether an open dunning campaign is about it';
        COMMENT ON COLUMN subscriptions.announced_through IS 'what happened by itself up to here was announced';
        COMMENT ON COLUMN subscriptions.next_moment_time IS 'when something happens by itself next';
        COMMENT ON COLUMN subscriptions.closed_time IS 'after this nothing of it comes to be billed';

        SELECT set_config('saldo.seller', '*', true); -- those of every seller: until the transaction ends
        UPDATE subscriptions s SET
            is_followed_up = EXISTS (
                SELECT FROM dunning_campaigns d
                WHERE d.seller_id = s.seller_id AND d.subscription_id = s.id AND d.is_open
            ),
            -- What was told is not told again, nor is anything left out that is still to be told.
            announced_through = CASE
                WHEN s.state = 'PENDING' THEN least(s.start_time, s.create_time)
                WHEN s.state = 'CANCELLED' THEN least(s.end_time, s.next_period_end_time - interval '1 microsecond')
                ELSE least(
                    greatest(
                        s.periods_ended_through, CASE WHEN s.state <> 'TRIALING' THEN s.trial_end_time END
                    ),
                    s.next_period_end_time - interval '1 microsecond',
                    s.cancel_time - interval '1 microsecond'
                )
            END,
            next_moment_time = least(
                s.next_period_end_time,
                CASE WHEN s.state <> 'CANCELLED' THEN s.cancel_time END,
                CASE WHEN s.state IN ('PENDING', 'TRIALING') THEN s.trial_end_time END,
                CASE WHEN s.state = 'PENDING' THEN s.start_time END
            ),
            closed_time = coalesce(s.end_time, s.cancel_time),
            opening = jsonb_build_object(
                'customer_id', s.customer_id, 'plan_id', s.plan_id, 'start_time', to_json(s.start_time),
                'billing_day', CASE WHEN s.billing_anchor = coalesce(s.trial_end_time, s.start_time) THEN 0
                    ELSE extract(day FROM s.billing_anchor AT TIME ZONE s.time_zone)::integer END,
                'trial_days', CASE WHEN s.trial_end_time IS NULL THEN 0 ELSE
                    (s.trial_end_time AT TIME ZONE s.time_zone)::date
                    - (s.start_time AT TIME ZONE s.time_zone)::date END,
                'proration', 'BY_DAY', 'activation', 'ON_START', 'activation_deadline', NULL,
                'trial_end', 'CONTINUE', 'payer_id', NULL, 'recorded_time', to_json(s.create_time),
                'items', (
                    SELECT jsonb_agg(
                        jsonb_build_object(
                            'id', i.id, 'plan_id', s.plan_id, 'price_id', i.price_id, 'product_id', '',
                            'interval_unit', i.interval_unit, 'interval_count', i.interval_count,
                            'billing_timing', i.billing_timing, 'meter', i.meter, 'quantity', i.quantity::text
                        ) ORDER BY i.position
                    )
                    FROM subscription_items i WHERE i.seller_id = s.seller_id AND i.subscription_id = s.id
                )
            );

        INSERT INTO subscription_changes
        SELECT e.seller_id,
               'chg_' || left(substr(e.subscription_id, 5), 22)
                   || lpad(row_number() OVER decided::text, 4, '0'),
               e.subscription_id, row_number() OVER decided - 1, e.recorded_time, e.effective_time, NULL, NULL,
               'BY_DAY', 'KEEP', e.actions
        FROM (
            SELECT seller_id, subscription_id, start_time AS recorded_time, start_time AS effective_time,
                   '[{"action": "PAUSE", "service": true, "billing": true}]'::jsonb AS actions
            FROM pauses
            UNION ALL
            SELECT seller_id, subscription_id, end_time, end_time,
                   '[{"action": "RESUME", "service": true, "billing": true}]'::jsonb
            FROM pauses WHERE end_time IS NOT NULL
            UNION ALL
            SELECT seller_id, id, notice_time, cancel_time,
                   '[{"action": "END", "reason": "REQUESTED"}]'::jsonb
            FROM subscriptions WHERE cancel_time IS NOT NULL AND (end_time IS NULL OR end_time = cancel_time)
            UNION ALL
            SELECT seller_id, id, end_time, end_time, '[{"action": "END", "reason": "REQUESTED"}]'::jsonb
            FROM subscriptions WHERE end_time IS NOT NULL AND end_time IS DISTINCT FROM cancel_time
        ) e
        WINDOW decided AS (PARTITION BY e.seller_id, e.subscription_id ORDER BY e.recorded_time, e.effective_time);

        ALTER TABLE subscriptions
            ALTER COLUMN opening SET NOT NULL,
            ALTER COLUMN announced_through SET NOT NULL,
            DROP COLUMN billing_anchor,
            DROP COLUMN notice_time,
            DROP COLUMN trial_end_time,
            DROP COLUMN periods_ended_through,
            DROP COLUMN next_period_end_time,
            ADD CONSTRAINT subscriptions_cancelled CHECK ((state = 'CANCELLED') = (end_time IS NOT NULL)),
            ADD CONSTRAINT subscriptions_moment CHECK (next_moment_time > announced_through);
        DROP INDEX IF EXISTS subscriptions_start_due;
        DROP INDEX IF EXISTS subscriptions_start_due_of_seller;
        DROP INDEX IF EXISTS subscriptions_cancellation_due;
        DROP INDEX IF EXISTS subscriptions_cancellation_due_of_seller;
        CREATE INDEX subscriptions_moment_due ON subscriptions (next_moment_time)
            WHERE next_moment_time IS NOT NULL;
        CREATE INDEX subscriptions_moment_due_of_seller ON subscriptions (seller_id, next_moment_time)
            WHERE next_moment_time IS NOT NULL;
        CREATE TABLE payment_methods_on_file (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            PRIMARY KEY (seller_id, customer_id)
        );
        COMMENT ON TABLE payment_methods_on_file IS
            'the customers of whom payments has said that they have a payment method';
        DROP TABLE pauses;
        DROP TABLE subscription_items;
        """
    )
    protect("subscription_changes", "subscription_terms", "payment_methods_on_file")
