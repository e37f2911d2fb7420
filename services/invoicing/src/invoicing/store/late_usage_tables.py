"""Knows the table of what became of late usage; the migrations make it, and a test compares."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Index, Integer, Numeric, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from invoicing.store.tables import Instant, metadata

late_usages = Table(
    "late_usages",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("payer_id", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("period_end", Instant, nullable=False),
    Column("change_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("billed_minor", BigInteger, nullable=False),
    Column("meter", Text, nullable=False),
    Column("usage_quantity", Numeric, nullable=False),
    Column("usage_event_count", BigInteger, nullable=False),
    Column("usage_digest", Text, nullable=False),
    Column("usage_through_position", BigInteger, nullable=False),
    Column("usage_meter_versions", JSONB(none_as_null=True), nullable=False),
    Column("before_quantity", Numeric, nullable=False),
    Column("before_event_count", BigInteger, nullable=False),
    Column("before_through_position", BigInteger, nullable=False),
    Column("before_meter_versions", JSONB(none_as_null=True), nullable=False),
    Column("invoice_id", Text),
    Column("line_id", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    # What makes it impossible to refuse the same twice, whatever else goes wrong.
    Index(
        "late_usages_refused_once",
        *("seller_id", "item_id", "price_id", "period_start", "change_id", "number"),
        unique=True,
        postgresql_where=text("outcome = 'REFUSED'"),
    ),
    Index("late_usages_of_customer", "seller_id", "customer_id", "id"),
    ForeignKeyConstraint(
        ["seller_id", "invoice_id"], ["invoices.seller_id", "invoices.id"], name="late_usages_invoice"
    ),
    comment="what became of usage that changed after it was billed",
)
