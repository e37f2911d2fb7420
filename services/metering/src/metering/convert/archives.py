"""Knows how leaves of the log, and events in them, look on the wire."""

from __future__ import annotations

from typing import Final

from common import wire
from common.errors import InvalidArgument
from common.ids import check_seller
from metering.convert.usages import event_to_proto
from metering.domain.archive import Leaf, LoggedEvent
from metering.domain.meter import check_code
from metering.domain.usage_event import KEY_LENGTH_MAX, Identity, UsageEvent, check_value
from saldo.metering.v1 import archive_service_pb2 as pb

EVENTS_MAX: Final = 1_000
KEY_BYTES: Final = 16


def leaf_to_proto(leaf: Leaf) -> pb.Leaf:
    return pb.Leaf(
        leaf=leaf.number,
        state=pb.Leaf.State.Value(leaf.state.name),
        event_count=leaf.event_count,
        start_time=wire.timestamp(leaf.start_time),
        end_time=wire.timestamp(leaf.end_time),
    )


def logged_event_to_proto(logged: LoggedEvent) -> pb.LoggedEvent:
    return pb.LoggedEvent(
        seller_id=logged.seller_id, position=logged.position, event=event_to_proto(logged.event), key=logged.key
    )


def logged_events_from_proto(request: pb.RestoreEventsRequest) -> list[LoggedEvent]:
    if not 1 <= len(request.events) <= EVENTS_MAX:
        raise InvalidArgument(f"must have 1 to {EVENTS_MAX} events", field="events")
    return [_logged_event(each, field=f"events[{n}]") for n, each in enumerate(request.events)]


def _logged_event(logged: pb.LoggedEvent, *, field: str) -> LoggedEvent:
    """As it was listed: whether it is what was archived the digest says."""
    event = logged.event
    if len(logged.key) != KEY_BYTES:
        raise InvalidArgument(f"must have {KEY_BYTES} bytes", field=f"{field}.key")
    if logged.position < 1:
        raise InvalidArgument("must be at least 1", field=f"{field}.position")
    return LoggedEvent(
        seller_id=check_seller(logged.seller_id),
        position=logged.position,
        event=UsageEvent(
            identity=Identity(
                source=wire.text(event.source, field=f"{field}.event.source", max_length=KEY_LENGTH_MAX),
                id=wire.text(event.id, field=f"{field}.event.id", max_length=KEY_LENGTH_MAX),
            ),
            customer=wire.text(event.customer, field=f"{field}.event.customer", max_length=KEY_LENGTH_MAX),
            meter=check_code(event.meter, field=f"{field}.event.meter"),
            time=wire.parse_timestamp(event.time, field=f"{field}.event.time"),
            value=check_value(wire.parse_decimal(event.value, field=f"{field}.event.value")),
            dimensions={
                name: wire.text(value, field=f"{field}.event.dimensions", max_length=KEY_LENGTH_MAX)
                for name, value in event.dimensions.items()
            },
        ),
        key=logged.key,
    )
