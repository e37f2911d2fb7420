"""Knows how questions about usage and their answers look on the wire."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final, TypedDict

from google.type import interval_pb2

from common import ids, wire
from common.errors import InvalidArgument
from common.period import EARLIEST, Period, check_time_zone
from metering.convert.filters import filter_from_proto
from metering.domain.dimension import check_group_by
from metering.domain.meter import UTC, check_code
from metering.domain.usage import Usage, UsageGroup, UsageQuery, UsageWindow
from metering.domain.usage_event import KEY_LENGTH_MAX, EventPlace, Identity, UsageEvent
from metering.domain.window import Window
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import usage_event_pb2

QUERIES_MAX: Final = 1_000
NAMES_MAX: Final = 200
PERIODS_MAX: Final = 1_000
"""At hand."""


def event_to_proto(event: UsageEvent) -> usage_event_pb2.UsageEvent:
    return usage_event_pb2.UsageEvent(
        id=event.identity.id,
        source=event.identity.source,
        customer=event.customer,
        meter=event.meter,
        time=wire.timestamp(event.time),
        value=wire.decimal(event.value),
        dimensions=event.dimensions,
    )


def usage_queries_from_proto(request: pb.BatchQueryUsageRequest) -> list[UsageQuery]:
    if not 1 <= len(request.queries) <= QUERIES_MAX:
        raise InvalidArgument(f"must have 1 to {QUERIES_MAX} queries", field="queries")
    return [usage_query_from_proto(query, field=f"queries[{n}]") for n, query in enumerate(request.queries)]


def usage_query_from_proto(query: pb.UsageQuery, *, field: str) -> UsageQuery:
    check_group_by(query.group_by, field=f"{field}.group_by")
    if query.through_position < 0:
        raise InvalidArgument("must not be negative", field=f"{field}.through_position")
    if query.meter_version < 0:
        raise InvalidArgument("must not be negative", field=f"{field}.meter_version")
    if len(query.names) > NAMES_MAX:
        raise InvalidArgument(f"must have at most {NAMES_MAX} names", field=f"{field}.names")
    return UsageQuery(
        customer_id=ids.check(query.customer_id, "cus", field=f"{field}.customer_id"),
        external_id=wire.text(
            query.external_id, field=f"{field}.external_id", max_length=KEY_LENGTH_MAX, required=False
        ),
        meter=check_code(query.meter, field=f"{field}.meter"),
        period=wire.parse_interval(query.period, field=f"{field}.period"),
        names=tuple(
            wire.text(name, field=f"{field}.names[{n}]", max_length=KEY_LENGTH_MAX)
            for n, name in enumerate(query.names)
        ),
        group_by=tuple(query.group_by),
        with_values=query.with_values,
        without_proof=query.without_proof,
        through_position=query.through_position if query.HasField("through_position") else None,
        filter=filter_from_proto(query.filter, field=f"{field}.filter"),
        meter_version=query.meter_version or None,
        **_windows(query, field=field),
    )


class _Windows(TypedDict):
    window: Window | None
    time_zone: str


def _windows(query: pb.UsageQuery, *, field: str) -> _Windows:
    if not query.window:
        if query.time_zone:
            raise InvalidArgument("must be empty without a window", field=f"{field}.time_zone")
        return {"window": None, "time_zone": ""}
    if query.group_by:
        raise InvalidArgument("must be absent with group_by: ask with a filter", field=f"{field}.window")
    return {
        "window": Window[wire.enum_name(pb.UsageQuery.Window, query.window, field=f"{field}.window")],
        "time_zone": check_time_zone(query.time_zone or UTC, field=f"{field}.time_zone"),
    }


def usage_to_proto(usage: Usage) -> usage_event_pb2.Usage:
    return usage_event_pb2.Usage(
        customer_id=usage.query.customer_id,
        meter=usage.query.meter,
        period=_interval(usage.query.period),
        quantity=wire.decimal(usage.quantity),
        event_count=usage.event_count,
        digest=usage.digest,
        through_position=usage.through_position,
        traceparents=usage.traceparents,
        groups=[_group_to_proto(group) for group in usage.groups],
        values=[wire.decimal(value) for value in usage.values],
        windows=[_window_to_proto(window) for window in usage.windows],
        meter_version=usage.meter_version,
    )


@lru_cache(maxsize=PERIODS_MAX)
def _interval(period: Period) -> interval_pb2.Interval:
    """To be copied into an answer: thousands of answers are about the same period."""
    return wire.interval(period)


def _window_to_proto(window: UsageWindow) -> usage_event_pb2.UsageWindow:
    return usage_event_pb2.UsageWindow(
        window=wire.interval(window.window),
        quantity=wire.decimal(window.quantity),
        event_count=window.event_count,
    )


def _group_to_proto(group: UsageGroup) -> usage_event_pb2.UsageGroup:
    return usage_event_pb2.UsageGroup(
        values=group.values, quantity=wire.decimal(group.quantity), event_count=group.event_count
    )


def place_token(event: UsageEvent) -> str:
    """Where a list of usage events goes on."""
    return wire.encode_page_token(event.time.isoformat(), *event.identity)


def event_place(page: wire.Page) -> EventPlace:
    if not page.after:
        return EventPlace(time=EARLIEST, identity=Identity(source="", id=""))
    time, source, event_id = page.after
    try:
        instant = datetime.fromisoformat(time)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token")
    return EventPlace(time=instant, identity=Identity(source=source, id=event_id))
