"""Knows how usage events are read that are sent as columns: all of a column at once, and one by one what is odd."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from common import wire
from common.errors import InvalidArgument
from metering.convert.dimensions import dimension_set
from metering.convert.plain import (
    DECIMALS_MAX,
    TIMES_END,
    Columns,
    are_plain_keys,
    check_time,
    is_plain_key,
)
from metering.convert.sent import EVENTS_MAX, Faulty, Origin, Sent, alone, check_size
from metering.domain.dimension import check_dimension_count
from metering.domain.meter import check_code
from metering.domain.usage_event import KEY_LENGTH_MAX, QUOTA_SOURCE, check_source, in_future
from metering.log.batch import Ints, Mask
from saldo.metering.v1.usage_event_pb2 import EventColumns

STRINGS_MAX: Final = 3 * EVENTS_MAX
"""Each event has a source, a customer and a meter."""
DIMENSION_SETS_MAX: Final = EVENTS_MAX

_CONTROL_BYTES: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SPACE, _DELETE = 0x20, 0x7F
"""What lies between them in ASCII is plain."""


def sent_from_columns(columns: EventColumns, origin: Origin) -> Sent:
    names = ("id_lengths", "sources", "customers", "meters", "times_micros", "units", "dimensions")
    size = max(len(getattr(columns, name)) for name in names)
    if len(columns.id_lengths) == 1 and columns.id_lengths[0]:
        size = max(size, len(columns.ids) // columns.id_lengths[0])
    check_size(size, "columns")
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
    if QUOTA_SOURCE in strings and not origin.of_commits:
        reserved = [n for n, each in enumerate(strings) if each == QUOTA_SOURCE]
        found.look(np.isin(sources, reserved), lambda n: check_source(strings[sources[n]]))
    identified &= ~found.bad
    found.look(odd[customers], lambda n: _check_key(strings[customers[n]], "customer"))
    meters = wide["meters"]
    used = [n for n in np.unique(meters).tolist() if not _is_code(strings[n])]
    if used:
        found.look(np.isin(meters, used), lambda n: check_code(strings[meters[n]], field="meter"))
    times = wide["times_micros"]
    found.look((times <= 0) | (times >= TIMES_END), lambda n: check_time(int(times[n])))
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
                self.faults[n] = alone(fault)
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


def _odd_keys(texts: Sequence[str]) -> Mask:
    """Which of them are not surely right; looked at one by one only if they are not all."""
    if are_plain_keys(texts):
        return np.zeros(len(texts), dtype=np.bool_)
    return np.array([not is_plain_key(each) for each in texts], dtype=np.bool_)


def _is_code(text: str) -> bool:
    try:
        check_code(text)
    except InvalidArgument:
        return False
    return True


def _raise(fault: InvalidArgument) -> None:
    raise fault
