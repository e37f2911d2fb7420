"""Knows the tables of what usage names and there is not, and of how far that was looked for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from metering.store.tables import Instant, metadata

unmatched_names = Table(
    "unmatched_names",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("found_time", Instant, nullable=False),
    Column("matched_time", Instant, comment="NULL as long as nobody counts that usage"),
    Column("revision", BigInteger, nullable=False),
    comment="the meters and customers that usage named before they were there",
)

Index("unmatched_names_open", unmatched_names.c.seller_id, postgresql_where=unmatched_names.c.matched_time.is_(None))

unmatched_looks = Table(
    "unmatched_looks",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("looks", BigInteger, nullable=False, comment="how often; so that two of one moment differ"),
    Column("next_time", Instant),
    comment="through which position unmatched usage was looked for",
)
