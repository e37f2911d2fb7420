"""Knows the tables of backfills, and of what the closed ones come to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, Index, Integer, Numeric, Table, Text, UniqueConstraint, literal_column
from sqlalchemy import Identity as IdentityColumn

from metering.store.tables import Instant, metadata

usage_backfills = Table(
    "usage_backfills",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("number", Integer, IdentityColumn(), nullable=False, comment="what the log calls it"),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("event_count", BigInteger, nullable=False, server_default="0"),
    Column("leaf", Integer, comment="in which it counts; NULL until it is closed, and if it is empty"),
    Column("first_position", BigInteger),
    Column("last_position", BigInteger),
    Column("revert_position", BigInteger),
    Column("opened_by", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("closed_by", Text, nullable=False, server_default=""),
    Column("close_time", Instant),
    Column("reverted_by", Text, nullable=False, server_default=""),
    Column("revert_time", Instant),
    Column("revert_reason", Text, nullable=False, server_default=""),
    UniqueConstraint("number", name="usage_backfills_number"),
    comment="usage that was, or is being, loaded to count as a whole",
)

Index(
    "usage_backfills_open",
    usage_backfills.c.expire_time,
    postgresql_where=usage_backfills.c.state == literal_column("'OPEN'"),
)
Index(
    "usage_backfills_reverted",
    usage_backfills.c.seller_id,
    usage_backfills.c.revert_position,
    postgresql_where=usage_backfills.c.revert_position.is_not(None),
)

Index("usage_backfills_leaf", usage_backfills.c.leaf, postgresql_where=usage_backfills.c.leaf.is_not(None))

usage_backfill_days = Table(
    "usage_backfill_days",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("stream", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),
    Column("backfill", Integer, primary_key=True, autoincrement=False),
    Column("event_count", BigInteger, nullable=False),
    Column("value_sum", Numeric, nullable=False),
    Column("value_min", Numeric, nullable=False),
    Column("value_max", Numeric, nullable=False),
    Index("usage_backfill_days_backfill", "backfill"),
    comment="what each closed backfill comes to, by days of UTC: apart, to be taken away as a whole",
)
