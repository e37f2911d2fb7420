"""Knows the tables of meters, usage events and the positions at which they were ingested."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    literal_column,
    not_,
    or_,
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
    Column("percentile", Numeric),
    Column("carries_over", Boolean, nullable=False, server_default=false()),
    Column("bucket", Text, nullable=False, server_default=""),
    Column("time_zone", Text, nullable=False, server_default=""),
    Column("filter", JSONB),
    Column("value_expression", Text, nullable=False, server_default=""),
    Column("accepts_days", Integer, nullable=False, server_default="0"),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("last_version", Integer, nullable=False, server_default="1"),
    UniqueConstraint("seller_id", "code", name="meters_code"),
    comment="the meters, each with its first version: how it counts from the beginning",
)

meter_versions = Table(
    "meter_versions",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("meter_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("aggregation", Text, nullable=False),
    Column("unique_dimension", Text, nullable=False),
    Column("percentile", Numeric),
    Column("carries_over", Boolean, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("filter", JSONB),
    Column("value_expression", Text, nullable=False),
    Column("accepts_days", Integer, nullable=False),
    Column("effective_time", Instant, nullable=False),
    Column("create_time", Instant, nullable=False),
    comment="how meters count from later instants on: their versions after the first",
)

EVERYBODYS = "*"
"""Whose the rows are that belong to no seller: only the loops of the service see them."""

shards = Table(
    "shards",
    metadata,
    Column("seller_id", Text, nullable=False, server_default=EVERYBODYS),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("address", Text, nullable=False, server_default=""),
    comment="the parts of the log, and how often each has changed its owner",
)

seeds = Table(
    "seeds",
    metadata,
    Column("seller_id", Text, nullable=False, server_default=EVERYBODYS),
    Column("seed", Numeric, nullable=False),
    comment="the number by which identities become keys: one, drawn once",
)

usage_leaves = Table(
    "usage_leaves",
    metadata,
    Column("seller_id", Text, nullable=False, server_default=EVERYBODYS),
    Column("leaf", Integer, IdentityColumn(), primary_key=True),
    Column("shard", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("start_time", Instant),
    Column("end_time", Instant, comment="of the latest event in it; known once it is sealed"),
    Column("generation", Integer),
    Column("is_summed", Boolean, nullable=False, server_default="false"),
    Column("archive_digest", Text, comment="of all that was in it when it was archived"),
    Column(
        "copied_count",
        BigInteger,
        comment="how many rows of it were copied when it was full; fewer than it has, if some were archived before",
    ),
    comment="the parts of the log by age, each a table of its own",
)

usage_archives = Table(
    "usage_archives",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    Column("stream", BigInteger, primary_key=True, autoincrement=False),
    Column("event_count", BigInteger, nullable=False),
    Column("first_position", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant, nullable=False, comment="of the latest event"),
    Index("usage_archives_stream", "stream", "start_time"),
    comment="the usage events that are in files and no longer in the log",
)

usage_keys = Table(
    "usage_keys",
    metadata,
    Column("seller_id", Text, nullable=False, server_default=EVERYBODYS),
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    Column("first_key", Uuid, primary_key=True),
    Column("keys", ARRAY(Uuid), nullable=False),
    comment="the keys of the leaves that are archived, in order, some in a row",
)

usage_segments = Table(
    "usage_segments",
    metadata,
    Column("seller_id", Text, nullable=False, server_default=EVERYBODYS),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", Integer, nullable=False),
    Column("keys", LargeBinary, nullable=False),
    comment="the keys of each commit, until a filter has them",
)

usage_filters = Table(
    "usage_filters",
    metadata,
    Column("seller_id", Text, nullable=False, server_default=EVERYBODYS),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("piece", Integer, primary_key=True, autoincrement=False),
    Column("bits", LargeBinary, nullable=False),
    # Who reads only the first of several still misses no key.
    Column("blocks", SmallInteger, nullable=False, server_default="1"),
    comment="which keys the leaves of a generation may have",
)

usage_streams = Table(
    "usage_streams",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("stream", BigInteger, IdentityColumn(), primary_key=True),
    Column("meter", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column(
        "customer_known",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="true only if some customer is called so; may be false though one is: then customer_names says",
    ),
    UniqueConstraint("seller_id", "meter", "customer", name="usage_streams_names"),
    comment="meter and customer as senders name them: a number for each pair",
)

Index(
    "usage_streams_unknown",
    usage_streams.c.seller_id,
    usage_streams.c.meter,
    usage_streams.c.customer,
    postgresql_where=not_(usage_streams.c.customer_known),
)

usage_days = Table(
    "usage_days",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("stream", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),
    Column("event_count", BigInteger, nullable=False),
    Column("value_sum", Numeric, nullable=False),
    # NULL as long as nothing is counted in the day.
    Column("value_min", Numeric),
    Column("value_max", Numeric),
    comment="what the leaves that are summed come to, by days of UTC",
)

usage_sources = Table(
    "usage_sources",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("number", Integer, IdentityColumn(), primary_key=True),
    Column("source", ByteOrder, nullable=False),
    UniqueConstraint("seller_id", "source", name="usage_sources_names"),
    comment="what sends usage events: a number for each",
)

usage_log = Table(
    "usage_log",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("stream", BigInteger, nullable=False),
    Column("source", Integer, nullable=False),
    Column("time", Instant, nullable=False),
    Column("key", Uuid, nullable=False),
    Column("value", Numeric, nullable=False),
    # NULL when the usage event names none: as most do, and then it costs a bit of the row.
    Column("dimensions", JSONB),
    Column("event_id", ByteOrder, nullable=False),
    Column("leaf", Integer, nullable=False),
    Column(
        "corrects",
        BigInteger,
        comment="the position of the event that this row takes away; then it is no event itself",
    ),
    Column("version", Integer, comment="how often the event had been amended, with this; NULL as it was ingested"),
    Column("backfill", Integer, comment="the number of the one that it came with; NULL for all other usage"),
    comment="every report of use that was accepted, for ever; written to its leaves directly",
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
    Column("shard", Integer, nullable=False, server_default="0"),
    comment="how many usage events each seller has had accepted",
)

usage_summed = Table(
    "usage_summed",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    comment="of leaves that are not summed: through which of its positions a seller's events are in the sums of days",
)

usage_copies = Table(
    "usage_copies",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    comment="through which position each seller's usage events are in the store that has a copy of the log",
)

usage_corrections = Table(
    "usage_corrections",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("corrects", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "position",
        BigInteger,
        nullable=False,
        comment="of the row that takes it away: from here on it does not count",
    ),
    Column("amended_position", BigInteger, comment="of the event as it was amended; NULL if it was voided"),
    Column("source", ByteOrder, nullable=False),
    Column("event_id", ByteOrder, nullable=False),
    Column("number", Integer, nullable=False),
    Column("stream", BigInteger, nullable=False),
    Column(
        "day",
        Date,
        nullable=False,
        comment="of UTC, of what was taken away: its sum counts for nothing any more",
    ),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "position", name="usage_corrections_position"),
    UniqueConstraint("seller_id", "source", "event_id", "number", name="usage_corrections_number"),
    Index("usage_corrections_stream", "stream", "day"),
    comment="who voided or amended which usage event, and why",
)

customers = Table(
    "customers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("time_zone", Text, nullable=False, server_default="", comment="empty until the next change says it"),
    comment="the customers that were heard of, each with the last of its changes",
)

customer_names = Table(
    "customer_names",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("since_time", Instant, comment="a period that begins earlier does not count the name"),
    Column("until_time", Instant, comment="a period that begins then or later does not count the name"),
    Index("customer_names_customer", "seller_id", "customer_id"),
    comment="what usage may call customers: to report what names nobody, and for thresholds",
)

sellers_with_customers = Table(
    "sellers_with_customers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    comment="the sellers of whom a customer was heard of",
)

usage_freezes = Table(
    "usage_freezes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("names", ARRAY(Text), nullable=False),
    Column("meter", Text, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant, nullable=False),
    Column("counted_from", Instant, nullable=False, comment="before start_time if the meter looks further back"),
    Column("quantity", Numeric, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("through_position", BigInteger, nullable=False),
    Column("replaces", Text, comment="the frozen usage that this one takes the place of"),
    Column("create_time", Instant, nullable=False),
    Column("meter_version", Integer, nullable=False, server_default="1"),
    UniqueConstraint("seller_id", "replaces", name="usage_freezes_replaces"),
    Index("usage_freezes_customer", "seller_id", "customer_id", "id"),
    Index("usage_freezes_end", "seller_id", "end_time"),
    comment="usages as they were counted once, for ever",
)

usage_freeze_names = Table(
    "usage_freeze_names",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("customer", Text, primary_key=True),
    Column("freeze_id", Text, primary_key=True),
    comment="by what usage events name them, the frozen usages that they may be late for",
)

late_looks = Table(
    "late_looks",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("leaf", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    # NULL in a sandbox, whose time may stand still: there is looked at once.
    Column("next_time", Instant),
    comment="how far each seller's log is looked through for late usage: before the leaf, and to the position",
)

_RECOUNTED: Final = "which version of the meter counts it otherwise by now; 0 for none"

_NOT_COUNTED: Final = "without which it could not be counted; it is announced when that is in the log again"
late_usages = Table(
    "late_usages",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("freeze_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, comment="of the last usage event that was found to be late"),
    Column("announced_position", BigInteger, nullable=False, server_default="0"),
    Column("announced_count", BigInteger, nullable=False, server_default="0"),
    Column("announced_corrected_count", BigInteger, nullable=False, server_default="0"),
    Column("meter_version", Integer, nullable=False, server_default="0", comment=_RECOUNTED),
    Column("announced_version", Integer, nullable=False, server_default="0"),
    Column("archived_leaf", Integer, comment=_NOT_COUNTED),
    comment="the frozen usages, not replaced, for which something came too late",
)

Index(
    "late_usages_due",
    late_usages.c.position,
    postgresql_where=late_usages.c.position > late_usages.c.announced_position,
)
Index(
    "late_usages_recounted",
    late_usages.c.meter_version,
    postgresql_where=late_usages.c.meter_version > late_usages.c.announced_version,
)

features = Table(
    "features",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("meter", Text, nullable=False),
    comment="what plans entitle to, and the meters on which quotas count",
)

customer_entitlements = Table(
    "customer_entitlements",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("grants", JSONB, nullable=False),
    comment="what customers are entitled to, by feature, as it was heard last",
)

quota_turns = Table(
    "quota_turns",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("number", BigInteger, nullable=False, comment="how many were acquired"),
    Column("time", Instant, nullable=False, comment="of the last turn: none after it is of an earlier one"),
    comment="who reserves use of a meter for a customer does so one after the other: by locking a row of these",
)

FORGET_TIME: Final = "((end_time AT TIME ZONE 'UTC'::text) + '35 days'::interval) AT TIME ZONE 'UTC'::text"
"""When a settled reservation is forgotten. By way of UTC, since only what depends on no time zone can be indexed."""

quota_reservations = Table(
    "quota_reservations",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("granted", Numeric, comment="the quota that had room; NULL when it was unlimited"),
    Column("period_start", Instant),
    Column("period_end", Instant),
    Column("through_position", BigInteger, nullable=False),
    Column("names", ARRAY(Text), nullable=False),
    Column("number", BigInteger, nullable=False, comment="of the turn in which it was acquired"),
    Column("state", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("committed_quantity", Numeric),
    Column("commit_time", Instant),
    Column("dimensions", JSONB),
    Column("end_time", Instant),
    Column("end_number", BigInteger, comment="of the last turn in which it was set aside, unless it expired"),
    Index("quota_reservations_customer", "seller_id", "customer_id", "id"),
    Index(
        "quota_reservations_forgotten",
        literal_column(f"({FORGET_TIME})"),
        postgresql_where=literal_column("end_time IS NOT NULL"),
    ),
    comment="use of meters that is or was set aside",
)

_open = quota_reservations.c.state == literal_column("'OPEN'")
_committing = quota_reservations.c.state == literal_column("'COMMITTING'")

Index(
    "quota_reservations_under_way",
    quota_reservations.c.seller_id,
    quota_reservations.c.customer_id,
    quota_reservations.c.meter,
    postgresql_where=or_(_open, _committing),
)
Index("quota_reservations_expiring", quota_reservations.c.expire_time, postgresql_where=_open)
Index("quota_reservations_committing", quota_reservations.c.commit_time, postgresql_where=_committing)
