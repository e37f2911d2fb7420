"""Knows the three ways of sending usage events, which end in the same columns, and how each event is answered.

What is plainly right is taken as it is, which is nearly everything; the rest is looked at one by one, and told what is
wrong with it. Only the form of the whole batch is the fault of the caller; all else is the fault of an event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import compress
from typing import Any, Final

import numpy as np

from common import wire
from common.errors import InvalidArgument
from common.ids import SellerId
from common.period import EARLIEST, LATEST
from metering.convert.dimensions import dimension_set, flat_dimensions, row_dimensions
from metering.convert.plain import DECIMALS_MAX, TIMES_END, Columns, are_plain_keys, flat_columns, row_columns
from metering.domain.dimension import check_dimension_count
from metering.domain.meter import check_code
from metering.domain.usage_event import KEY_LENGTH_MAX, check_value, in_future
from metering.log import Batch
from metering.log.batch import Ints, Mask
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import EventColumns, FlatEvent, UsageEvent

EVENTS_MAX: Final = 10_000
STRINGS_MAX: Final = 3 * EVENTS_MAX
"""Of columns: each event has a source, a customer and a meter."""
DIMENSION_SETS_MAX: Final = EVENTS_MAX

_MICROSECOND: Final = timedelta(microseconds=1)
# Eighteen digits always fit into 64 bits.
_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_PLAIN_DECIMAL: Final = re.compile(r"-?([0-9]{1,6})\.([0-9]{1,12})", re.ASCII)
_CONTROL_BYTES: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SPACE, _DELETE = 0x20, 0x7F
"""What lies between them in ASCII is plain."""
_UNTOLD: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The seller's time, and how far a usage event may lie ahead of it."""

    now: datetime
    ahead_max: timedelta

    @property
    def latest(self) -> datetime:
        return self.now + self.ahead_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulty:
    """An event that is not stored."""

    place: int
    sent_id: str
    identity: tuple[str, bytes] | None
    """Source and id; None when what was sent cannot identify anything."""
    fault: InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request as columns."""

    size: int
    batch: Batch
    places: Sequence[int]
    """Which event of the request each of the batch is."""
    faulty: Sequence[Faulty]

    @property
    def asked(self) -> list[tuple[str, bytes]]:
        """A repeat is a duplicate whatever else it says."""
        return [each.identity for each in self.faulty if each.identity is not None]

    @property
    def meters(self) -> set[str]:
        return self._names(self.batch.meters)

    def customers(self) -> set[str]:
        return self._names(self.batch.customers)

    def _names(self, column: Ints) -> set[str]:
        is_named = np.zeros(len(self.batch.strings), dtype=np.bool_)
        is_named[column] = True
        return set(compress(self.batch.strings, is_named.tolist()))


def sent_from_proto(request: pb.IngestEventsRequest, *, seller_id: SellerId, clock: Clock, traceparent: str) -> Sent:
    forms = [bool(request.events), bool(request.flat_events), request.HasField("columns")]
    if sum(forms) > 1:
        raise InvalidArgument("must be the only one of events, flat_events and columns", field="columns")
    origin = _Origin(seller_id=seller_id, clock=clock, traceparent=traceparent)
    if request.HasField("columns"):
        return _from_columns(request.columns, origin)
    events = request.flat_events or request.events
    _check_size(len(events), "flat_events" if request.flat_events else "events")
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


def _check_size(size: int, name: str) -> None:
    if not 1 <= size <= EVENTS_MAX:
        raise InvalidArgument(f"must have 1 to {EVENTS_MAX} events", field=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What all events of a request have in common."""

    seller_id: SellerId
    clock: Clock
    traceparent: str

    @property
    def latest_micros(self) -> int:
        return (self.clock.latest - EARLIEST) // _MICROSECOND

    def sent(
        self,
        columns: Columns,
        *,
        size: int,
        places: Sequence[int],
        wide: Mapping[int, Decimal] | None = None,
        faulty: Sequence[Faulty] = (),
    ) -> Sent:
        batch = Batch(
            seller_id=self.seller_id,
            time=self.clock.now,
            traceparent=self.traceparent,
            ids=columns.ids,
            strings=columns.strings,
            sources=columns.sources,
            customers=columns.customers,
            meters=columns.meters,
            times=columns.times,
            units=columns.units,
            decimals=columns.decimals,
            wide=wide or {},
            dimension_sets=columns.dimension_sets,
            dimensions=columns.dimensions,
        )
        return Sent(size=size, batch=batch, places=places, faulty=faulty)


@dataclass(slots=True)
class _Reading:
    """Events that are looked at one by one, on their way into columns."""

    origin: _Origin
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
        keys: dict[str, int] = {}
        codes: dict[str, int] = {}
        sets: dict[tuple[tuple[str, str], ...], int] = {}
        latest = self.origin.latest_micros
        for place, event in enumerate(events):
            event_id, source = event.id, event.source
            identity: tuple[str, bytes] | None = None
            try:
                if not _is_plain_key(event_id):
                    wire.text(event_id, field="id", max_length=KEY_LENGTH_MAX)
                sent_by = keys.get(source)
                if sent_by is None:
                    sent_by = keys[source] = self._key(source, "source")
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
                self.faulty.append(Faulty(place=place, sent_id=event_id, identity=identity, fault=_alone(fault)))
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
    return (wire.parse_timestamp(time, field="time") - EARLIEST) // _MICROSECOND


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
    return _checked_time(event.time_micros)


def _flat_value(event: FlatEvent) -> tuple[int, int]:
    if not event.HasField("units"):
        return 1, 0
    if event.decimal_places > DECIMALS_MAX:
        raise InvalidArgument(f"must have at most {DECIMALS_MAX} decimals", field="value")
    return event.units, event.decimal_places


def _checked_time(micros: int) -> int:
    if not micros:
        raise InvalidArgument("is required", field="time")
    if not 0 < micros < TIMES_END:
        raise InvalidArgument(f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}", field="time")
    return micros


def _from_columns(columns: EventColumns, origin: _Origin) -> Sent:
    names = ("id_lengths", "sources", "customers", "meters", "times_micros", "units", "dimensions")
    size = max(len(getattr(columns, name)) for name in names)
    if len(columns.id_lengths) == 1 and columns.id_lengths[0]:
        size = max(size, len(columns.ids) // columns.id_lengths[0])
    _check_size(size, "columns")
    for name, sent, most in (
        ("strings", columns.strings, STRINGS_MAX),
        ("dimension_sets", columns.dimension_sets, DIMENSION_SETS_MAX),
    ):
        if len(sent) > most:
            raise InvalidArgument(f"must have at most {most} elements", field=f"columns.{name}")
    wide = {name: _spread(np.array(getattr(columns, name), dtype=np.int64), size, name) for name in names}
    lengths = wide["id_lengths"]
    if int(lengths.sum()) != len(columns.ids):
        raise InvalidArgument("must be as long as all of id_lengths together", field="columns.ids")
    for name, count in (
        ("sources", len(columns.strings)),
        ("customers", len(columns.strings)),
        ("meters", len(columns.strings)),
        ("dimensions", len(columns.dimension_sets) + 1),
    ):
        if int(wide[name].max()) >= count:
            raise InvalidArgument("refers to what there is not", field=f"columns.{name}")
    if columns.decimal_places > DECIMALS_MAX:
        raise InvalidArgument(f"must be at most {DECIMALS_MAX}", field="columns.decimal_places")
    found = _Faults(size)
    strings = list(columns.strings)
    ids = _cut(columns.ids, lengths)
    found.look(_odd_ids(columns.ids, ids, lengths), lambda n: _check_id(ids[n]))
    identified = ~found.bad
    odd = _odd_keys(strings)
    sources, customers = wide["sources"], wide["customers"]
    found.look(odd[sources], lambda n: _check_key(strings[sources[n]], "source"))
    identified &= ~found.bad
    found.look(odd[customers], lambda n: _check_key(strings[customers[n]], "customer"))
    meters = wide["meters"]
    used = [n for n in np.unique(meters).tolist() if not _is_code(strings[n])]
    if used:
        found.look(np.isin(meters, used), lambda n: check_code(strings[meters[n]], field="meter"))
    times = wide["times_micros"]
    found.look((times <= 0) | (times >= TIMES_END), lambda n: _checked_time(int(times[n])))
    found.look(times > origin.latest_micros, lambda _: _raise(in_future(origin.clock.latest)))
    sets = [_DimensionSet.of(each.dimensions) for each in columns.dimension_sets]
    broken = [n for n, each in enumerate(sets, start=1) if each.fault is not None]
    if broken:
        found.look(np.isin(wide["dimensions"], broken), lambda n: sets[wide["dimensions"][n] - 1].check())
    units = wide["units"] if len(columns.units) else np.ones(size, dtype=np.int64)
    decimals = np.full(size, columns.decimal_places if len(columns.units) else 0, dtype=np.int64)
    good: Any = slice(None)  # Any: a slice is an index like an array of places
    places: Sequence[int] = range(size)
    if found.faults:
        good = np.flatnonzero(~found.bad)
        places = good.tolist()
        kept = [ids[n] for n in places]
    else:
        kept = ids
    return origin.sent(
        Columns(
            ids=kept,
            strings=strings,
            sources=sources[good],
            customers=customers[good],
            meters=meters[good],
            times=times[good],
            units=units[good],
            decimals=decimals[good],
            dimension_sets=[each.text for each in sets],
            dimensions=wide["dimensions"][good],
        ),
        size=size,
        places=places,
        faulty=[
            Faulty(
                place=n,
                sent_id=ids[n].decode(errors="replace"),
                identity=(strings[sources[n]], ids[n]) if identified[n] else None,
                fault=fault,
            )
            for n, fault in sorted(found.faults.items())
        ],
    )


class _Faults:
    """What is wrong with which event; of several things the first that is looked at."""

    def __init__(self, size: int) -> None:
        self.bad: Mask = np.zeros(size, dtype=np.bool_)
        self.faults: dict[int, InvalidArgument] = {}

    def look(self, odd: Mask, check: Callable[[int], object]) -> None:
        """At those that are not plainly right: `check` says by raising what is wrong, if anything is."""
        if not odd.any():
            return
        for n in np.flatnonzero(odd & ~self.bad).tolist():
            try:
                check(n)
            except InvalidArgument as fault:
                self.faults[n] = _alone(fault)
                self.bad[n] = True


@dataclass(frozen=True, slots=True)
class _DimensionSet:
    text: str
    fault: InvalidArgument | None

    @classmethod
    def of(cls, sent: Mapping[str, str]) -> _DimensionSet:
        try:
            check_dimension_count(len(sent), field="dimensions")
            return cls(dimension_set(dict(sent)), None)
        except InvalidArgument as fault:
            return cls("{}", fault)

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault


def _spread(column: Ints, size: int, name: str) -> Ints:
    """One element per event, a single one being that of all, and none of what may be left out being 0."""
    if len(column) == size:
        return column
    if len(column) == 1:
        return np.repeat(column, size)
    if not len(column) and name in ("units", "dimensions"):
        return np.zeros(size, dtype=np.int64)
    raise InvalidArgument("must have one element per event, or a single one", field=f"columns.{name}")


def _cut(blob: bytes, lengths: Ints) -> list[bytes]:
    length = int(lengths[0])
    if length and (lengths == length).all():
        return list(np.frombuffer(blob, dtype=f"V{length}").tolist())
    ends = np.cumsum(lengths).tolist()
    return [blob[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _odd_ids(blob: bytes, ids: Sequence[bytes], lengths: Ints) -> Mask:
    odd: Mask = (lengths < 1) | (lengths > KEY_LENGTH_MAX)
    sent = np.frombuffer(blob, dtype=np.uint8)
    if len(sent) and not _SPACE < int(sent.min()) <= int(sent.max()) < _DELETE:
        odd |= np.array([not _is_plain(each) for each in ids], dtype=np.bool_)
    return odd


def _is_plain(event_id: bytes) -> bool:
    return event_id.isascii() and _CONTROL_BYTES.search(event_id) is None and event_id == event_id.strip()


def _check_id(event_id: bytes) -> None:
    try:
        text = event_id.decode()
    except UnicodeDecodeError:
        raise InvalidArgument("must be UTF-8", field="id") from None
    _check_key(text, "id")


def _check_key(text: str, name: str) -> None:
    wire.text(text, field=name, max_length=KEY_LENGTH_MAX)


def _is_plain_key(text: str) -> bool:
    """Surely right; what is not may be right all the same."""
    return 0 < len(text) <= KEY_LENGTH_MAX and text.isprintable() and text == text.strip()


def _odd_keys(texts: Sequence[str]) -> Mask:
    """Which of them are not surely right; looked at one by one only if they are not all."""
    if are_plain_keys(texts):
        return np.zeros(len(texts), dtype=np.bool_)
    return np.array([not _is_plain_key(each) for each in texts], dtype=np.bool_)


def _is_code(text: str) -> bool:
    try:
        check_code(text)
    except InvalidArgument:
        return False
    return True


def _alone(fault: InvalidArgument) -> InvalidArgument:
    """Without what led to it: the frames, which hold the request, and hold the fault in turn."""
    return fault.with_traceback(None)


def _raise(fault: InvalidArgument) -> None:
    raise fault
