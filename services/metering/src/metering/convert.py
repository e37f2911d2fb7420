"""Knows how meters, usage events and usages look on the wire, and what senders may write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from common.period import EARLIEST
from metering.domain.dimension import NO_DIMENSIONS, check_dimensions, check_group_by
from metering.domain.meter import Meter, check_code
from metering.domain.usage import Usage, UsageGroup, UsageQuery
from metering.domain.usage_event import EventPlace, EventResult, Identity, Outcome, Report, UsageEvent
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb

NAME_LENGTH_MAX: Final = 200
UNIT_LABEL_LENGTH_MAX: Final = 32
KEY_LENGTH_MAX: Final = 128
EVENTS_MAX: Final = 10_000
QUERIES_MAX: Final = 1_000
NAMES_MAX: Final = 200
VALUE_DIGITS_MAX: Final = 26
"""Before the decimal point; 12 decimals more make the 38 digits that every database can hold."""


def meter_to_proto(meter: Meter) -> meter_pb2.Meter:
    return meter_pb2.Meter(
        id=meter.id,
        code=meter.code,
        display_name=meter.display_name,
        aggregation=meter_pb2.Meter.Aggregation.Value(meter.aggregation.name),
        unit_label=meter.unit_label,
        unique_dimension=meter.unique_dimension,
        revision=meter.revision,
        create_time=wire.timestamp(meter.create_time),
    )


def reports_from_proto(request: pb.IngestEventsRequest) -> list[Report]:
    """One report per event. Only the size of the batch is the caller's fault; all else is the fault of an event."""
    if not 1 <= len(request.events) <= EVENTS_MAX:
        raise InvalidArgument(f"must have 1 to {EVENTS_MAX} events", field="events")
    return [_report(event) for event in request.events]


def _report(event: usage_event_pb2.UsageEvent) -> Report:
    identity: Identity | None = None
    try:
        identity = Identity(
            source=wire.text(event.source, field="source", max_length=KEY_LENGTH_MAX),
            id=wire.text(event.id, field="id", max_length=KEY_LENGTH_MAX),
        )
        return Report(sent_id=event.id, identity=identity, event=_event_from_proto(event, identity))
    except InvalidArgument as fault:
        return Report(sent_id=event.id, identity=identity, fault=fault)


def _event_from_proto(event: usage_event_pb2.UsageEvent, identity: Identity) -> UsageEvent:
    return UsageEvent(
        identity=identity,
        customer=wire.text(event.customer, field="customer", max_length=KEY_LENGTH_MAX),
        meter=check_code(event.meter, field="meter"),
        time=wire.parse_timestamp(event.time, field="time"),
        value=_value(event),
        dimensions=_dimensions(event),
    )


def _value(event: usage_event_pb2.UsageEvent) -> Decimal:
    if not event.HasField("value"):
        return Decimal(1)
    value = wire.parse_decimal(event.value, field="value")
    if abs(value) >= _VALUE_END:
        raise InvalidArgument(f"must have at most {VALUE_DIGITS_MAX} digits before the decimals", field="value")
    return value


def _dimensions(event: usage_event_pb2.UsageEvent) -> Mapping[str, str]:
    if not event.dimensions:
        return NO_DIMENSIONS
    dimensions = dict(event.dimensions)
    check_dimensions(dimensions, field="dimensions")
    for value in dimensions.values():
        wire.text(value, field="dimensions", max_length=KEY_LENGTH_MAX)
    return dimensions


def results_to_proto(results: Sequence[EventResult]) -> pb.IngestEventsResponse:
    counts = Counter(result.outcome for result in results)
    return pb.IngestEventsResponse(
        results=[_result_to_proto(result) for result in results],
        accepted_count=counts[Outcome.ACCEPTED],
        duplicate_count=counts[Outcome.DUPLICATE],
        rejected_count=counts[Outcome.REJECTED],
    )


def _result_to_proto(result: EventResult) -> usage_event_pb2.EventResult:
    outcome = usage_event_pb2.EventResult.Outcome.Value(result.outcome.name)
    fault = result.fault
    if fault is None:
        return usage_event_pb2.EventResult(id=result.id, outcome=outcome)
    return usage_event_pb2.EventResult(
        id=result.id, outcome=outcome, reason=fault.reason, field=fault.field, message=fault.message
    )


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
    )


def usage_to_proto(usage: Usage) -> usage_event_pb2.Usage:
    return usage_event_pb2.Usage(
        customer_id=usage.query.customer_id,
        meter=usage.query.meter,
        period=wire.interval(usage.query.period),
        quantity=wire.decimal(usage.quantity),
        event_count=usage.event_count,
        digest=usage.digest,
        through_position=usage.through_position,
        traceparents=usage.traceparents,
        groups=[_group_to_proto(group) for group in usage.groups],
        values=[wire.decimal(value) for value in usage.values],
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


_VALUE_END: Final = Decimal(10) ** VALUE_DIGITS_MAX
