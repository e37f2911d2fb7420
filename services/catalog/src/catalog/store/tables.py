"""Knows the catalog's tables."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)

sellers = Table(
    "sellers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("tax_id", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("payment_instructions", Text, nullable=False),
    Column("invoice_number_prefix", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("invoice_numbering", Text, nullable=False, server_default="CONTINUOUS"),
)

products = Table(
    "products",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("tax_code", Text, nullable=False, server_default=""),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="products_code"),
)

tax_codes = Table(
    "tax_codes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="tax_codes_code"),
)

features = Table(
    "features",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="features_code"),
)

plans = Table(
    "plans",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("publish_time", Instant),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("effective_time", Instant),
    Column("superseded_time", Instant),
    Column("kind", Text, nullable=False, server_default="BASE"),
    Column("entitlements", JSONB, nullable=False, server_default=text("'[]'")),
    Column("trial_days", Integer, nullable=False, server_default="0"),
    UniqueConstraint("seller_id", "code", "version", name="plans_version"),
    Index("plans_draft", "seller_id", "code", unique=True, postgresql_where=text("state = 'DRAFT'")),
    Index(
        "plans_superseded",
        "superseded_time",
        postgresql_where=text("state = 'ACTIVE' AND superseded_time IS NOT NULL"),
    ),
)

prices = Table(
    "prices",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("position", Integer),
    Column("code", Text, nullable=False),
    Column("product_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("interval_unit", Text, nullable=False),
    Column("interval_count", Integer, nullable=False),
    Column("timing", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("model", JSONB, nullable=False),
    Column("operators", JSONB, nullable=False, server_default=text("'{}'")),
    Column("customer_id", Text, nullable=False, server_default=""),
    Column("list_price_id", Text, nullable=False, server_default=""),
    Column("create_time", Instant),
    UniqueConstraint("seller_id", "plan_id", "position", name="prices_position"),
    ForeignKeyConstraint(["seller_id", "plan_id"], ["plans.seller_id", "plans.id"], name="prices_plan"),
    ForeignKeyConstraint(["seller_id", "product_id"], ["products.seller_id", "products.id"], name="prices_product"),
    Index(
        "prices_code_in_plan",
        "seller_id",
        "plan_id",
        "code",
        unique=True,
        postgresql_where=text("position IS NOT NULL"),
    ),
    Index("prices_negotiated", "seller_id", "customer_id", "id", postgresql_where=text("customer_id <> ''")),
)
