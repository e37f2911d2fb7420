"""Knows the tables of usage thresholds, of how usage stands to them, and of how far the log was looked through."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, Numeric, Table, Text, UniqueConstraint
from sqlalchemy import Identity as IdentityColumn
from sqlalchemy.dialects.postgresql import JSONB

from metering.store.tables import Instant, metadata

usage_thresholds = Table(
    "usage_thresholds",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("start_time", Instant),
    Column("end_time", Instant),
    Column("value", Numeric, nullable=False),
    Column("warning_value", Numeric),
    Column("filter", JSONB),
    Column("state", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("archive_time", Instant),
    Column(
        "sweep_time",
        Instant,
        comment="when its meter's pairs are to be gone through, whatever has grown; NULL for not again",
    ),
    Column(
        "sweep_after",
        Text,
        nullable=False,
        server_default="",
        comment="the last customer, as senders name it, that was gone through",
    ),
    Column(
        "sweep_parts", BigInteger, nullable=False, server_default="0", comment="in how many parts that was done, ever"
    ),
    comment="the values of usage that somebody wants to hear of",
)

Index(
    "usage_thresholds_meter",
    usage_thresholds.c.seller_id,
    usage_thresholds.c.meter,
    usage_thresholds.c.customer_id,
    postgresql_where=usage_thresholds.c.state == "ACTIVE",
)
Index(
    "usage_thresholds_sweep",
    usage_thresholds.c.sweep_time,
    postgresql_where=usage_thresholds.c.sweep_time.is_not(None),
)

_COUNTED_BY: Final = "the version of the meter by which it was counted; 0 if it was before that was noted"

usage_alerts = Table(
    "usage_alerts",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("threshold_id", Text, primary_key=True),
    Column("start_time", Instant, primary_key=True),
    Column("end_time", Instant, nullable=False),
    Column("number", BigInteger, IdentityColumn(), nullable=False),
    Column("state", Text, nullable=False, server_default="OK"),
    Column("previous_state", Text, nullable=False, server_default="OK"),
    Column("ended_state", Text, comment="how it stood when its period ended; NULL until it has"),
    Column("quantity", Numeric, nullable=False, server_default="0"),
    Column("through_position", BigInteger, nullable=False, server_default="0"),
    Column("change_time", Instant),
    Column(
        "mark",
        BigInteger,
        nullable=False,
        server_default="1",
        comment="how often it was noted that there may be something new",
    ),
    Column("settled_mark", BigInteger, nullable=False, server_default="0", comment="the mark when it was last counted"),
    Column("due_time", Instant, nullable=False),
    Column("meter_version", Integer, nullable=False, server_default="0", comment=_COUNTED_BY),
    UniqueConstraint("number", name="usage_alerts_number"),
    # What the job looks for: by time for all sellers, by seller for one sandbox.
    Index("usage_alerts_due", "due_time"),
    Index("usage_alerts_due_of_seller", "seller_id", "due_time"),
    comment="how usage stands to the thresholds, by customer and period",
)

Index(
    "usage_alerts_raised",
    usage_alerts.c.seller_id,
    usage_alerts.c.threshold_id,
    usage_alerts.c.customer_id,
    usage_alerts.c.start_time,
    postgresql_where=usage_alerts.c.state != "OK",
)

threshold_looks = Table(
    "threshold_looks",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("leaf", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    # NULL in a sandbox, whose time may stand still: there is looked at once.
    Column("next_time", Instant),
    comment="how far each seller's log is looked through for usage that grew: before the leaf, and to the position",
)
