"""Knows the tables of spend thresholds, and of what was billed early; the migrations make them, and a test compares."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKeyConstraint, Index, Integer, Table, Text, text

from invoicing.store.tables import Instant, metadata

spend_thresholds = Table(
    "spend_thresholds",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("scope_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("end_time", Instant),
    # One of each currency counts; those before it stay on record.
    Index(
        "spend_thresholds_one",
        *("seller_id", "scope", "scope_id", "currency"),
        unique=True,
        postgresql_where=text("end_time IS NULL"),
    ),
    comment="how much usage of a subscription may stay unbilled, on which level",
)

spend_looks = Table(
    "spend_looks",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("look_time", Instant, nullable=False),
    Column("is_reached", Boolean, nullable=False),
    Column("traceparent", Text, nullable=False),
    Index("spend_looks_due", "look_time"),
    Index("spend_looks_of_seller", "seller_id", "look_time"),
    comment="when to look at what customers have spent, and who had reached a threshold",
)

early_lines = Table(
    "early_lines",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("line_id", Text, primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("period_end", Instant, nullable=False),
    Column("change_id", Text, nullable=False),
    Column("correction", Integer, nullable=False),
    Column("bill_time", Instant, nullable=False),
    Column("currency", Text, nullable=False),
    Column("spend_minor", BigInteger, nullable=False),
    Column("threshold_id", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Index("early_lines_of_item", "seller_id", "item_id", "period_start"),
    Index("early_lines_of_customer", "seller_id", "customer_id", "bill_time"),
    ForeignKeyConstraint(
        ["seller_id", "threshold_id"],
        ["spend_thresholds.seller_id", "spend_thresholds.id"],
        name="early_lines_threshold",
    ),
    comment="parts of periods that were billed before these ended",
)
