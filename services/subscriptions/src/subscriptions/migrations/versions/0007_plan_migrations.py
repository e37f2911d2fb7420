"""Plan migrations: many subscriptions moved from one plan to another, with an outcome for each."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script(
        """
        CREATE INDEX subscriptions_of_plan ON subscriptions (seller_id, plan_id, id);

        CREATE TABLE plan_migrations (
            seller_id text NOT NULL,
            id text NOT NULL,
            from_plan_id text NOT NULL,
            to_plan_id text NOT NULL CHECK (to_plan_id <> from_plan_id),
            timing text NOT NULL CHECK (timing IN ('NOW', 'PERIOD_END', 'AT_TIME')),
            effective_time timestamptz,
            proration text CHECK (proration IN ('BY_DAY', 'BY_SECOND', 'NONE')),
            unused text NOT NULL CHECK (unused IN ('CREDIT', 'KEEP')),
            successions jsonb NOT NULL,
            customer_ids text[] NOT NULL CHECK (cardinality(customer_ids) <= 1000),
            state text NOT NULL CHECK (
                state IN ('PREVIEWING', 'PREVIEWED', 'RUNNING', 'DONE', 'REVERTING', 'REVERTED', 'CANCELLED')
            ),
            cursor text NOT NULL,
            counts jsonb NOT NULL,
            due_time timestamptz,
            traceparent text NOT NULL,
            preview_time timestamptz,
            start_time timestamptz,
            finish_time timestamptz,
            revert_time timestamptz,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CHECK ((effective_time IS NOT NULL) = (timing = 'AT_TIME')),
            CHECK ((due_time IS NOT NULL) = (state IN ('PREVIEWING', 'RUNNING', 'REVERTING')))
        );
        COMMENT ON COLUMN plan_migrations.proration IS 'null: as each subscription says';
        COMMENT ON COLUMN plan_migrations.successions IS 'which price takes the place of which';
        COMMENT ON COLUMN plan_migrations.customer_ids IS 'empty: of all customers';
        COMMENT ON COLUMN plan_migrations.cursor IS 'the last subscription that the walk under way has been at';
        COMMENT ON COLUMN plan_migrations.counts IS 'how many subscriptions have come to which result';
        COMMENT ON COLUMN plan_migrations.due_time IS 'when the walk is to go on';
        CREATE INDEX plan_migrations_due ON plan_migrations (due_time) WHERE due_time IS NOT NULL;
        CREATE INDEX plan_migrations_due_of_seller ON plan_migrations (seller_id, due_time)
            WHERE due_time IS NOT NULL;

        CREATE TABLE plan_migration_outcomes (
            seller_id text NOT NULL,
            migration_id text NOT NULL,
            subscription_id text NOT NULL,
            result text NOT NULL CHECK (
                result IN ('WOULD_MIGRATE', 'WOULD_SKIP', 'MIGRATED', 'SKIPPED', 'REVERTED', 'NOT_REVERTED')
            ),
            reason text NOT NULL,
            message text NOT NULL,
            change_id text,
            effective_time timestamptz,
            items_kept integer NOT NULL,
            items_added integer NOT NULL,
            items_removed integer NOT NULL,
            revert_change_id text,
            update_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, migration_id, subscription_id),
            CONSTRAINT plan_migration_outcomes_migration FOREIGN KEY (seller_id, migration_id)
                REFERENCES plan_migrations (seller_id, id),
            CONSTRAINT plan_migration_outcomes_subscription FOREIGN KEY (seller_id, subscription_id)
                REFERENCES subscriptions (seller_id, id),
            CHECK ((change_id IS NOT NULL) = (result IN ('MIGRATED', 'REVERTED', 'NOT_REVERTED'))),
            CHECK ((reason <> '') = (result IN ('WOULD_SKIP', 'SKIPPED', 'NOT_REVERTED')))
        );
        COMMENT ON TABLE plan_migration_outcomes IS
            'what a plan migration would do, or has done, with each subscription';
        CREATE INDEX plan_migration_outcomes_by_result
            ON plan_migration_outcomes (seller_id, migration_id, result, subscription_id);
        """
    )
    protect("plan_migrations", "plan_migration_outcomes")
