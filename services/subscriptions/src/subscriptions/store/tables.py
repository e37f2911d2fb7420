"""Knows the tables; `migrations` makes them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)

customers = Table(
    "customers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("external_id", Text),
    Column("display_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("language_code", Text, nullable=False),
    Column("net_terms_days", Integer, nullable=False),
    Column("collection_method", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "external_id", name="customers_external_id"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("plan_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("billing_anchor", Instant, nullable=False),
    Column("notice_time", Instant, comment="when it was decided that it ends at cancel_time"),
    Column("cancel_time", Instant),
    Column("end_time", Instant),
    Column("periods_ended_through", Instant, nullable=False, comment="period ends up to here have been announced"),
    Column("next_period_end_time", Instant, comment="the next period end to be announced"),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("trial_end_time", Instant, comment="when billing begins, if not at start_time"),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="subscriptions_customer"
    ),
)
Index("subscriptions_of_customer", subscriptions.c.seller_id, subscriptions.c.customer_id, subscriptions.c.id)
# What the jobs look for: by time for all sellers, by seller for one sandbox.
_pending = subscriptions.c.state == "PENDING"
_trialing = subscriptions.c.state == "TRIALING"
_to_cancel = subscriptions.c.cancel_time.is_not(None) & (subscriptions.c.state != "CANCELLED")
_to_end = subscriptions.c.next_period_end_time.is_not(None)
for _name, _column, _where in (
    ("start", subscriptions.c.start_time, _pending),
    ("trial_end", subscriptions.c.trial_end_time, _trialing),
    ("cancellation", subscriptions.c.cancel_time, _to_cancel),
    ("period_end", subscriptions.c.next_period_end_time, _to_end),
):
    Index(f"subscriptions_{_name}_due", _column, postgresql_where=_where)
    Index(f"subscriptions_{_name}_due_of_seller", subscriptions.c.seller_id, _column, postgresql_where=_where)

subscription_items = Table(
    "subscription_items",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("subscription_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("interval_unit", Text, nullable=False),
    Column("interval_count", Integer, nullable=False),
    Column("billing_timing", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("quantity", Numeric),
    UniqueConstraint("seller_id", "subscription_id", "position", name="subscription_items_position"),
    UniqueConstraint("seller_id", "subscription_id", "price_id", name="subscription_items_price"),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="subscription_items_subscription",
    ),
)

pauses = Table(
    "pauses",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("subscription_id", Text, primary_key=True),
    Column("start_time", Instant, primary_key=True),
    Column("end_time", Instant),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="pauses_subscription",
    ),
)

dunning_campaigns = Table(
    "dunning_campaigns",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("subscription_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("is_open", Boolean, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="dunning_campaigns_subscription",
    ),
    comment="the newest word of dunning about each subscription",
)
