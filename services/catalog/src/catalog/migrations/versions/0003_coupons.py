"""Coupons, the codes that redeem them, and who did."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE coupons (
            seller_id text NOT NULL,
            id text NOT NULL,
            code text NOT NULL,
            display_name text NOT NULL,
            benefit jsonb NOT NULL,
            duration text NOT NULL CHECK (duration IN ('ONCE', 'REPEATING', 'FOREVER')),
            duration_periods integer NOT NULL,
            redemptions_max integer NOT NULL,
            redemptions_per_customer_max integer NOT NULL,
            valid_from_time timestamptz,
            valid_until_time timestamptz,
            products text[] NOT NULL,
            plans text[] NOT NULL,
            state text NOT NULL CHECK (state IN ('ACTIVE', 'ARCHIVED')),
            redemption_count integer NOT NULL CHECK (redemption_count >= 0),
            revision bigint NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT coupons_code UNIQUE (seller_id, code),
            CHECK (redemptions_max = 0 OR redemption_count <= redemptions_max),
            CHECK (valid_until_time > valid_from_time)
        );
        CREATE TABLE coupon_codes (
            seller_id text NOT NULL,
            code text NOT NULL,
            coupon_id text NOT NULL,
            customer_id text NOT NULL,
            redemptions_max integer NOT NULL,
            redemption_count integer NOT NULL CHECK (redemption_count >= 0),
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, code),
            CONSTRAINT coupon_codes_coupon FOREIGN KEY (seller_id, coupon_id) REFERENCES coupons (seller_id, id),
            CHECK (redemptions_max = 0 OR redemption_count <= redemptions_max)
        );
        CREATE INDEX coupon_codes_of_coupon ON coupon_codes (seller_id, coupon_id, code);
        CREATE TABLE redemptions (
            seller_id text NOT NULL,
            id text NOT NULL,
            coupon_id text NOT NULL,
            coupon_redemption_count integer NOT NULL,
            coupon_revision bigint NOT NULL,
            coupon_code text NOT NULL,
            customer_id text NOT NULL,
            redeem_time timestamptz NOT NULL,
            release_time timestamptz,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT redemptions_coupon FOREIGN KEY (seller_id, coupon_id) REFERENCES coupons (seller_id, id)
        );
        CREATE INDEX redemptions_in_order ON redemptions (seller_id, redeem_time, id);
        CREATE INDEX redemptions_of_customer ON redemptions (seller_id, customer_id, redeem_time, id);
        CREATE INDEX redemptions_of_coupon ON redemptions (seller_id, coupon_id, redeem_time, id);
        CREATE INDEX redemptions_that_count ON redemptions (seller_id, coupon_id, customer_id)
            WHERE release_time IS NULL;
        """
    )
    protect("coupons", "coupon_codes", "redemptions")
