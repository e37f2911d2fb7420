"""Knows the three ways of sending usage events, which end in the same columns, and how each event is answered.

What is plainly right is taken as it is, which is nearly everything; the rest is looked at one by one, and told what is
wrong with it. Only the form of the whole batch is the fault of the caller; all else is the fault of an event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np

from common import wire
from common.errors import InvalidArgument
from common.ids import SellerId
from common.period import EARLIEST
from metering.convert.columns import sent_from_columns
from metering.convert.dimensions import dimension_set, flat_dimensions, row_dimensions
from metering.convert.plain import DECIMALS_MAX, TIMES_END, Columns, check_time, flat_columns, is_plain_key, row_columns
from metering.convert.sent import Clock, Faulty, Origin, Sent, alone, check_size
from metering.domain.meter import check_code
from metering.domain.usage_event import KEY_LENGTH_MAX, check_source, check_value, in_future
from metering.log.batch import Ints
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import FlatEvent, UsageEvent

# Eighteen digits always fit into 64 bits.
_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_PLAIN_DECIMAL: Final = re.compile(r"-?([0-9]{1,6})\.([0-9]{1,12})", re.ASCII)
_UNTOLD: Final = 0


def sent_from_proto(
    request: pb.IngestEventsRequest,
    *,
    seller_id: SellerId,
    clock: Clock,
    traceparent: str,
    of_commits: bool = False,
) -> Sent:
    """`of_commits` says that the reserved source may be among its sources."""
    forms = [bool(request.events), bool(request.flat_events), request.HasField("columns")]
    if sum(forms) > 1:
        raise InvalidArgument("must be the only one of events, flat_events and columns", field="columns")
    origin = Origin(seller_id=seller_id, clock=clock, traceparent=traceparent, of_commits=of_commits)
    if request.HasField("columns"):
        return sent_from_columns(request.columns, origin)
    events = request.flat_events or request.events
    check_size(len(events), "flat_events" if request.flat_events else "events")
    latest = origin.latest_micros
    columns = (
        flat_columns(request.flat_events, latest=latest)
        if request.flat_events
        else row_columns(request.events, latest=latest)
    )
    if columns is not None:
        return origin.sent(columns, size=len(events), places=range(len(events)))
    reading = _Reading(origin)
    if request.flat_events:
        reading.read(request.flat_events, _flat_time, _flat_value, flat_dimensions)
    else:
        reading.read(request.events, _time, _value, row_dimensions)
    return reading.sent(len(events))


@dataclass(slots=True)
class _Reading:
    """Events that are looked at one by one, on their way into columns."""

    origin: Origin
    ids: list[bytes] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """The strings of the batch, each with its place."""
    sources: list[int] = field(default_factory=list)
    customers: list[int] = field(default_factory=list)
    meters: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    decimals: list[int] = field(default_factory=list)
    wide: dict[int, Decimal] = field(default_factory=dict)
    dimension_sets: list[str] = field(default_factory=list)
    dimensions: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    faulty: list[Faulty] = field(default_factory=list)

    def read(
        self,
        events: Sequence[Any],  # Any: UsageEvent or FlatEvent, which name alike what they have in common
        time_of: Callable[[Any], int],
        value_of: Callable[[Any], tuple[int, int] | Decimal],
        dimensions_of: Callable[[Any], Mapping[str, str]],
    ) -> None:
        senders: dict[str, int] = {}
        keys: dict[str, int] = {}
        codes: dict[str, int] = {}
        sets: dict[tuple[tuple[str, str], ...], int] = {}
        latest = self.origin.latest_micros
        for place, event in enumerate(events):
            event_id, source = event.id, event.source
            identity: tuple[str, bytes] | None = None
            try:
                if not is_plain_key(event_id):
                    wire.text(event_id, field="id", max_length=KEY_LENGTH_MAX)
                sent_by = senders.get(source)
                if sent_by is None:
                    sent_by = senders[source] = self._key(source, "source")
                identity = (source, event_id.encode())
                used_by = keys.get(event.customer)
                if used_by is None:
                    used_by = keys[event.customer] = self._key(event.customer, "customer")
                meter = codes.get(event.meter)
                if meter is None:
                    meter = codes[event.meter] = self._number(check_code(event.meter, field="meter"))
                time = time_of(event)
                if time > latest:
                    raise in_future(self.origin.clock.latest)
                value = value_of(event)
                told = _UNTOLD
                if event.dimensions:
                    dimensions = dimensions_of(event)
                    combination = tuple(sorted(dimensions.items()))
                    told = sets.get(combination, _UNTOLD)
                    if not told:
                        self.dimension_sets.append(dimension_set(dimensions))
                        told = sets[combination] = len(self.dimension_sets)
            except InvalidArgument as fault:
                self.faulty.append(Faulty(place=place, sent_id=event_id, identity=identity, fault=alone(fault)))
                continue
            if isinstance(value, Decimal):
                self.wide[len(self.ids)] = value
                self.units.append(0)
                self.decimals.append(0)
            else:
                self.units.append(value[0])
                self.decimals.append(value[1])
            self.ids.append(identity[1])
            self.sources.append(sent_by)
            self.customers.append(used_by)
            self.meters.append(meter)
            self.times.append(time)
            self.dimensions.append(told)
            self.places.append(place)

    def sent(self, size: int) -> Sent:
        columns = Columns(
            ids=self.ids,
            strings=list(self.numbers),
            sources=_ints(self.sources),
            customers=_ints(self.customers),
            meters=_ints(self.meters),
            times=_ints(self.times),
            units=_ints(self.units),
            decimals=_ints(self.decimals),
            dimension_sets=self.dimension_sets,
            dimensions=_ints(self.dimensions),
        )
        return self.origin.sent(columns, size=size, places=self.places, wide=self.wide, faulty=self.faulty)

    def _key(self, text: str, name: str) -> int:
        if name == "source" and not self.origin.of_commits:
            check_source(text)
        return self._number(wire.text(text, field=name, max_length=KEY_LENGTH_MAX))

    def _number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _time(event: UsageEvent) -> int:
    time = event.time
    seconds, nanos = time.seconds, time.nanos
    micros = seconds * 1_000_000 + nanos // 1_000
    if 0 < micros < TIMES_END and 0 <= nanos < 1_000_000_000:
        return micros
    return (wire.parse_timestamp(time, field="time") - EARLIEST) // timedelta(microseconds=1)


def _value(event: UsageEvent) -> tuple[int, int] | Decimal:
    if not event.HasField("value"):
        return 1, 0
    text = event.value.value
    if _PLAIN_NUMBER.fullmatch(text):
        return int(text), 0
    found = _PLAIN_DECIMAL.fullmatch(text)
    if found:
        return int(text.replace(".", "", 1)), len(found[2])
    return check_value(wire.parse_decimal(event.value, field="value"))


def _flat_time(event: FlatEvent) -> int:
    return check_time(event.time_micros)


def _flat_value(event: FlatEvent) -> tuple[int, int]:
    if not event.HasField("units"):
        return 1, 0
    if event.decimal_places > DECIMALS_MAX:
        raise InvalidArgument(f"must have at most {DECIMALS_MAX} decimals", field="value")
    return event.units, event.decimal_places
