"""Knows the tables of meters, usage events and the positions at which they were ingested."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import (
    Identity as IdentityColumn,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)
ByteOrder = Text(collation="C")
"""Keys are sorted by their bytes: the order in a digest must not depend on the language of a server."""

meters = Table(
    "meters",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("aggregation", Text, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("unique_dimension", Text, nullable=False, server_default=""),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "code", name="meters_code"),
)

usage_events = Table(
    "usage_events",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("source", ByteOrder, primary_key=True),
    Column("event_id", ByteOrder, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("time", Instant, nullable=False),
    Column("value", Numeric, nullable=False),
    # Written by the very statement that writes the ingest: a foreign key would only be checked once per row.
    Column("ingest_id", BigInteger, nullable=False),
    # NULL when the usage event names none: as most do, and then it costs a bit of the row.
    Column("dimensions", JSONB),
    Index("usage_events_usage", "seller_id", "meter", "customer", "time"),
    comment="every report of use that was accepted, for ever",
)

ingests = Table(
    "ingests",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", BigInteger, IdentityColumn(), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "position", name="ingests_position"),
    comment="the batches that brought usage events, each with the position it ends at",
)

positions = Table(
    "positions",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
    comment="how many usage events each seller has had accepted",
)
