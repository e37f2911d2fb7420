"""Knows the tables of coupons, their codes and who redeemed them."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from catalog.store.tables import Instant, metadata

coupons = Table(
    "coupons",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("benefit", JSONB, nullable=False),
    Column("duration", Text, nullable=False),
    Column("duration_periods", Integer, nullable=False),
    Column("redemptions_max", Integer, nullable=False),
    Column("redemptions_per_customer_max", Integer, nullable=False),
    Column("valid_from_time", Instant),
    Column("valid_until_time", Instant),
    Column("products", ARRAY(Text), nullable=False),
    Column("plans", ARRAY(Text), nullable=False),
    Column("state", Text, nullable=False),
    Column("redemption_count", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="coupons_code"),
)

coupon_codes = Table(
    "coupon_codes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("coupon_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("redemptions_max", Integer, nullable=False),
    Column("redemption_count", Integer, nullable=False),
    Column("create_time", Instant, nullable=False),
    ForeignKeyConstraint(["seller_id", "coupon_id"], ["coupons.seller_id", "coupons.id"], name="coupon_codes_coupon"),
    Index("coupon_codes_of_coupon", "seller_id", "coupon_id", "code"),
)

redemptions = Table(
    "redemptions",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("coupon_id", Text, nullable=False),
    Column("coupon_redemption_count", Integer, nullable=False),
    Column("coupon_revision", BigInteger, nullable=False),
    Column("coupon_code", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("redeem_time", Instant, nullable=False),
    Column("release_time", Instant),
    ForeignKeyConstraint(["seller_id", "coupon_id"], ["coupons.seller_id", "coupons.id"], name="redemptions_coupon"),
    Index("redemptions_in_order", "seller_id", "redeem_time", "id"),
    Index("redemptions_of_customer", "seller_id", "customer_id", "redeem_time", "id"),
    Index("redemptions_of_coupon", "seller_id", "coupon_id", "redeem_time", "id"),
    Index(
        "redemptions_that_count",
        *("seller_id", "coupon_id", "customer_id"),
        postgresql_where=text("release_time IS NULL"),
    ),
)
