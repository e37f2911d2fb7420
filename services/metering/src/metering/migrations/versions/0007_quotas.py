"""What customers are entitled to, as far as metering has heard, and use of meters that is set aside for them."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE customers ADD COLUMN time_zone text NOT NULL DEFAULT '';
        COMMENT ON COLUMN customers.time_zone IS 'empty until the next change says it';

        CREATE TABLE features (
            seller_id text NOT NULL,
            code text NOT NULL,
            kind text NOT NULL,
            meter text NOT NULL,
            PRIMARY KEY (seller_id, code)
        );
        COMMENT ON TABLE features IS 'what plans entitle to, and the meters on which quotas count';

        CREATE TABLE customer_entitlements (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            revision bigint NOT NULL,
            grants jsonb NOT NULL,
            PRIMARY KEY (seller_id, customer_id)
        );
        COMMENT ON TABLE customer_entitlements IS
            'what customers are entitled to, by feature, as it was heard last';

        CREATE TABLE quota_turns (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            meter text NOT NULL,
            number bigint NOT NULL,
            time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, customer_id, meter)
        );
        COMMENT ON TABLE quota_turns IS
            'who reserves use of a meter for a customer does so one after the other: by locking a row of these';
        COMMENT ON COLUMN quota_turns.number IS 'how many were acquired';
        COMMENT ON COLUMN quota_turns.time IS 'of the last turn: none after it is of an earlier one';

        CREATE TABLE quota_reservations (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            feature text NOT NULL,
            meter text NOT NULL,
            quantity numeric NOT NULL CHECK (quantity > 0),
            granted numeric,
            period_start timestamptz,
            period_end timestamptz,
            through_position bigint NOT NULL,
            names text[] NOT NULL,
            number bigint NOT NULL,
            state text NOT NULL CHECK (state IN ('OPEN', 'COMMITTING', 'COMMITTED', 'RELEASED', 'EXPIRED')),
            create_time timestamptz NOT NULL,
            expire_time timestamptz NOT NULL,
            committed_quantity numeric CHECK (committed_quantity > 0 AND committed_quantity <= quantity),
            commit_time timestamptz,
            dimensions jsonb,
            end_time timestamptz,
            end_number bigint,
            PRIMARY KEY (seller_id, id),
            CHECK ((granted IS NULL) = (period_start IS NULL) AND (granted IS NULL) = (period_end IS NULL)),
            CHECK ((committed_quantity IS NULL) = (commit_time IS NULL)),
            CHECK ((state IN ('COMMITTING', 'COMMITTED')) = (committed_quantity IS NOT NULL)),
            CHECK ((state IN ('OPEN', 'COMMITTING')) = (end_time IS NULL))
        );
        COMMENT ON TABLE quota_reservations IS 'use of meters that is or was set aside';
        COMMENT ON COLUMN quota_reservations.granted IS 'the quota that had room; NULL when it was unlimited';
        COMMENT ON COLUMN quota_reservations.number IS 'of the turn in which it was acquired';
        COMMENT ON COLUMN quota_reservations.end_number IS
            'of the last turn in which it was set aside, unless it expired';
        CREATE INDEX quota_reservations_customer ON quota_reservations (seller_id, customer_id, id);
        CREATE INDEX quota_reservations_under_way ON quota_reservations (seller_id, customer_id, meter)
            WHERE state = 'OPEN' OR state = 'COMMITTING';
        CREATE INDEX quota_reservations_expiring ON quota_reservations (expire_time) WHERE state = 'OPEN';
        CREATE INDEX quota_reservations_committing ON quota_reservations (commit_time) WHERE state = 'COMMITTING';
        """
    )
    protect("features", "customer_entitlements", "quota_turns", "quota_reservations")
