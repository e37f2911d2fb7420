"""Subscriptions that are free at their start, and items that are billed once."""

from __future__ import annotations

from common.migrate import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE subscriptions
            ADD COLUMN trial_end_time timestamptz,
            DROP CONSTRAINT subscriptions_state_check,
            ADD CONSTRAINT subscriptions_state_check
                CHECK (state IN ('PENDING', 'TRIALING', 'ACTIVE', 'PAST_DUE', 'PAUSED', 'CANCELLED')),
            ADD CONSTRAINT subscriptions_trial_takes_time CHECK (start_time < trial_end_time),
            ADD CONSTRAINT subscriptions_trialing CHECK (state <> 'TRIALING' OR trial_end_time IS NOT NULL);
        COMMENT ON COLUMN subscriptions.trial_end_time IS 'when billing begins, if not at start_time';
        CREATE INDEX subscriptions_trial_end_due ON subscriptions (trial_end_time) WHERE state = 'TRIALING';
        CREATE INDEX subscriptions_trial_end_due_of_seller ON subscriptions (seller_id, trial_end_time)
            WHERE state = 'TRIALING';

        ALTER TABLE subscription_items
            DROP CONSTRAINT subscription_items_interval_unit_check,
            ADD CONSTRAINT subscription_items_interval_unit_check
                CHECK (interval_unit IN ('DAY', 'WEEK', 'MONTH', 'YEAR', 'ONCE')),
            ADD CONSTRAINT subscription_items_once
                CHECK (interval_unit <> 'ONCE' OR (interval_count, billing_timing, meter) = (1, 'IN_ADVANCE', ''));
        """
    )
