"""What customers have to their credit: grants, every movement of them, what is set aside, and when more is bought."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE credit_holdings (
            seller_id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            id text NOT NULL,
            low_threshold_minor bigint CHECK (low_threshold_minor > 0),
            is_low boolean NOT NULL,
            low_count bigint NOT NULL CHECK (low_count >= 0),
            top_up_threshold_minor bigint CHECK (top_up_threshold_minor > 0),
            revision bigint NOT NULL,
            PRIMARY KEY (seller_id, customer_id, currency),
            CONSTRAINT credit_holdings_id UNIQUE (seller_id, id),
            CHECK (low_threshold_minor IS NOT NULL OR NOT is_low)
        );
        COMMENT ON TABLE credit_holdings IS 'whose credit it is: locked by whoever moves any of it';

        CREATE TABLE credit_grants (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            kind text NOT NULL CHECK (kind IN ('PAID', 'PROMOTIONAL')),
            priority integer NOT NULL,
            effective_time timestamptz NOT NULL,
            expire_time timestamptz,
            scope jsonb NOT NULL,
            source text NOT NULL CHECK (source IN ('MANUAL', 'CREDIT_NOTE', 'OVERPAYMENT', 'TOP_UP')),
            document_id text NOT NULL,
            note text NOT NULL,
            remaining_minor bigint NOT NULL,
            reserved_minor bigint NOT NULL,
            expired_time timestamptz,
            expire_count bigint NOT NULL DEFAULT 0,
            revoked_time timestamptz,
            revision bigint NOT NULL CHECK (revision >= 1),
            create_time timestamptz NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            -- Nobody uses what is not there, whatever else goes wrong.
            CONSTRAINT credit_grants_balance CHECK (
                reserved_minor >= 0 AND reserved_minor <= remaining_minor AND remaining_minor <= amount_minor
            ),
            CHECK (expire_time > effective_time),
            CHECK ((source = 'MANUAL') = (document_id = '')),
            CONSTRAINT credit_grants_holding FOREIGN KEY (seller_id, customer_id, currency)
                REFERENCES credit_holdings (seller_id, customer_id, currency)
        );
        CREATE UNIQUE INDEX credit_grants_once ON credit_grants (seller_id, source, document_id)
            WHERE document_id <> '';
        CREATE INDEX credit_grants_of_customer ON credit_grants (seller_id, customer_id, id);
        CREATE INDEX credit_grants_open ON credit_grants (seller_id, customer_id, currency) WHERE remaining_minor > 0;
        CREATE INDEX credit_grants_expiring ON credit_grants (expire_time)
            WHERE expire_time IS NOT NULL AND remaining_minor > reserved_minor;
        CREATE INDEX credit_grants_expiring_of_seller ON credit_grants (seller_id, expire_time)
            WHERE expire_time IS NOT NULL AND remaining_minor > reserved_minor;

        CREATE TABLE credit_movements (
            seller_id text NOT NULL,
            grant_id text NOT NULL,
            ordinal bigint NOT NULL CHECK (ordinal >= 1),
            id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            kind text NOT NULL CHECK (
                kind IN ('GRANTED', 'APPLIED', 'RETURNED', 'RESERVED', 'RELEASED', 'COMMITTED', 'EXPIRED', 'REVOKED')
            ),
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            remaining_minor bigint NOT NULL,
            reserved_minor bigint NOT NULL,
            document_id text NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, grant_id, ordinal),
            CONSTRAINT credit_movements_id UNIQUE (seller_id, id),
            CHECK ((ordinal = 1) = (kind = 'GRANTED')),
            CHECK (reserved_minor >= 0 AND reserved_minor <= remaining_minor),
            CONSTRAINT credit_movements_grant FOREIGN KEY (seller_id, grant_id) REFERENCES credit_grants (seller_id, id)
        );
        COMMENT ON TABLE credit_movements IS 'everything that happened to grants: of each it adds up to what is left';
        CREATE INDEX credit_movements_of_customer ON credit_movements (seller_id, customer_id, id);
        CREATE INDEX credit_movements_of_document ON credit_movements (seller_id, document_id)
            WHERE document_id <> '';

        CREATE FUNCTION refuse_change_of_credit_movement() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what happened to credit stays what it is';
        END $$;
        CREATE TRIGGER credit_movements_immutable BEFORE UPDATE OR DELETE ON credit_movements
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_credit_movement();
        -- Of a grant only what becomes of it changes.
        CREATE TRIGGER credit_grants_immutable BEFORE UPDATE ON credit_grants
            FOR EACH ROW WHEN (
                (
                    OLD.id, OLD.customer_id, OLD.currency, OLD.amount_minor, OLD.kind, OLD.priority,
                    OLD.effective_time, OLD.scope, OLD.source, OLD.document_id, OLD.note, OLD.create_time
                ) IS DISTINCT FROM (
                    NEW.id, NEW.customer_id, NEW.currency, NEW.amount_minor, NEW.kind, NEW.priority,
                    NEW.effective_time, NEW.scope, NEW.source, NEW.document_id, NEW.note, NEW.create_time
                )
            ) EXECUTE FUNCTION refuse_change_of_credit_movement();
        CREATE TRIGGER credit_grants_kept BEFORE DELETE ON credit_grants
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_credit_movement();

        CREATE TABLE credit_reservations (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            committed_minor bigint NOT NULL,
            state text NOT NULL CHECK (state IN ('OPEN', 'COMMITTED', 'RELEASED', 'EXPIRED')),
            expire_time timestamptz NOT NULL,
            end_time timestamptz,
            reference text NOT NULL,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            CHECK ((state = 'OPEN') = (end_time IS NULL)),
            CHECK (committed_minor BETWEEN 0 AND amount_minor AND (committed_minor > 0) = (state = 'COMMITTED')),
            CONSTRAINT credit_reservations_holding FOREIGN KEY (seller_id, customer_id, currency)
                REFERENCES credit_holdings (seller_id, customer_id, currency)
        );
        CREATE INDEX credit_reservations_open ON credit_reservations (seller_id, customer_id, currency)
            WHERE state = 'OPEN';
        CREATE INDEX credit_reservations_expiring ON credit_reservations (expire_time) WHERE state = 'OPEN';
        CREATE INDEX credit_reservations_expiring_of_seller ON credit_reservations (seller_id, expire_time)
            WHERE state = 'OPEN';

        CREATE TABLE credit_top_up_rules (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            currency text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            threshold_minor bigint CHECK (threshold_minor > 0),
            start_time timestamptz,
            months integer CHECK (months BETWEEN 1 AND 12),
            time_zone text NOT NULL,
            priority integer NOT NULL,
            expires_after_days integer NOT NULL CHECK (expires_after_days >= 0),
            per_day_max integer NOT NULL CHECK (per_day_max >= 1),
            next_time timestamptz,
            delete_time timestamptz,
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id),
            CHECK ((threshold_minor IS NULL) = (start_time IS NOT NULL)),
            CHECK ((start_time IS NULL) = (months IS NULL)),
            CHECK (delete_time IS NULL OR next_time IS NULL),
            CONSTRAINT credit_top_up_rules_holding FOREIGN KEY (seller_id, customer_id, currency)
                REFERENCES credit_holdings (seller_id, customer_id, currency)
        );
        CREATE UNIQUE INDEX credit_top_up_rules_one ON credit_top_up_rules (seller_id, customer_id, currency)
            WHERE delete_time IS NULL;
        CREATE INDEX credit_top_up_rules_due ON credit_top_up_rules (next_time) WHERE next_time IS NOT NULL;
        CREATE INDEX credit_top_up_rules_due_of_seller ON credit_top_up_rules (seller_id, next_time)
            WHERE next_time IS NOT NULL;

        ALTER TABLE invoices ADD COLUMN top_up_rule_id text NOT NULL DEFAULT '';
        CREATE UNIQUE INDEX invoices_one_top_up ON invoices (seller_id, customer_id, currency)
            WHERE top_up_rule_id <> '' AND state = 'OPEN';
        CREATE INDEX invoices_top_ups ON invoices (seller_id, customer_id, currency, create_time)
            WHERE top_up_rule_id <> '';
        ALTER TABLE invoice_lines ADD COLUMN product_id text NOT NULL DEFAULT '';
        -- What a payment brought beyond what was owed: that part of it is credit.
        ALTER TABLE invoice_payments
            ADD COLUMN overpaid_minor bigint NOT NULL DEFAULT 0,
            DROP CONSTRAINT invoice_payments_amount_minor_check,
            ADD CONSTRAINT invoice_payments_amounts CHECK (
                amount_minor >= 0 AND overpaid_minor >= 0 AND amount_minor + overpaid_minor > 0
            );
        """
    )
    protect("credit_holdings", "credit_grants", "credit_movements", "credit_reservations", "credit_top_up_rules")
