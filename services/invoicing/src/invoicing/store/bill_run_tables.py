"""Knows the tables of bill runs that somebody asked for; the migrations make them, and a test compares."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from invoicing.store.tables import Instant, metadata

bill_runs = Table(
    "bill_runs",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("customer_count", Integer, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("cancel_time", Instant),
    comment="customers whom somebody wanted billed",
)

bill_run_customers = Table(
    "bill_run_customers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("bill_run_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("invoice_ids", ARRAY(Text), nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("end_time", Instant),
    Column("due_time_before", Instant, comment="when it was due before the bill run made it due now"),
    Column("marked_revision", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "bill_run_id"], ["bill_runs.seller_id", "bill_runs.id"], name="bill_run_customers_bill_run"
    ),
    Index(
        "bill_run_customers_waiting",
        *("seller_id", "customer_id"),
        postgresql_where=text("outcome = 'WAITING'"),
    ),
    Index(
        "bill_run_customers_left",
        *("seller_id", "bill_run_id"),
        postgresql_where=text("outcome = 'WAITING'"),
    ),
    Index("bill_run_customers_ended", "seller_id", "bill_run_id", "end_time"),
    comment="what became of each customer of a bill run",
)
