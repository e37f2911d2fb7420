"""Money that came in by another way than through a gateway."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE recorded_payments (
            seller_id text NOT NULL,
            id text NOT NULL,
            invoice_id text NOT NULL,
            customer_id text NOT NULL,
            amount_minor bigint NOT NULL CHECK (amount_minor > 0),
            currency text NOT NULL,
            means text NOT NULL CHECK (means IN ('BANK_TRANSFER', 'CASH', 'CHEQUE', 'OTHER')),
            reference text NOT NULL CHECK (reference <> ''),
            paid_time timestamptz NOT NULL,
            create_time timestamptz NOT NULL,
            told_again_count integer NOT NULL DEFAULT 0 CHECK (told_again_count >= 0),
            PRIMARY KEY (seller_id, id),
            CONSTRAINT recorded_payments_reference UNIQUE (seller_id, invoice_id, reference)
        );
        COMMENT ON TABLE recorded_payments IS
            'money that came in by another way than through a gateway';
        CREATE INDEX recorded_payments_customer ON recorded_payments (seller_id, customer_id, id);
        """
    )
    protect("recorded_payments")
