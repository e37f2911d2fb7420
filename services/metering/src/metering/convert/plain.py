"""Knows how usage events that come one by one are read a column at a time, as long as all of a batch are plainly right.

That is nearly always so, and several times as fast as to look at each of them. Of a batch in which anything is odd
nothing is read here: what is wrong with which event, if anything is, shows when they are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import numpy as np

from common.errors import InvalidArgument
from common.period import EARLIEST, LATEST
from metering.convert.dimensions import dimension_set, flat_dimensions, row_dimensions
from metering.domain.dimension import DIMENSIONS_MAX
from metering.domain.meter import check_code
from metering.domain.usage_event import KEY_LENGTH_MAX, QUOTA_SOURCE
from metering.log.batch import Ints
from saldo.metering.v1.usage_event_pb2 import FlatEvent, UsageEvent

DECIMALS_MAX: Final = 12
DIGITS_MAX: Final = 18
"""So many always fit into 64 bits."""
TIMES_END: Final = (LATEST - EARLIEST) // timedelta(microseconds=1)
"""In microseconds since 1970."""
_NANOS_END: Final = 1_000_000_000

_ONE: Final = b"1"
_SIGNS: Final = {b"", b"-", b".", b"-."}
"""What is left of a plain number without its digits."""
_ODD_POINTS: Final = (b"\n.", b".\n", b"-.")
_FLAT: Final = attrgetter("id", "source", "customer", "meter", "time_micros", "units", "decimal_places")
_ROW: Final = attrgetter("id", "source", "customer", "meter", "time.seconds", "time.nanos", "value.value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The events of a whole batch, as `metering.log.batch` has them."""

    ids: list[bytes]
    strings: list[str]
    sources: Ints
    customers: Ints
    meters: Ints
    times: Ints
    units: Ints
    decimals: Ints
    dimension_sets: list[str]
    dimensions: Ints


def flat_columns(sent: Sequence[FlatEvent], *, latest: int) -> Columns | None:
    """None if anything is odd; as is a time after `latest`, in microseconds since 1970."""
    events = list(sent)
    ids, sources, customers, meters, times, units, decimals = zip(*map(_FLAT, events), strict=True)
    own_units, own_decimals = np.array(units, dtype=np.int64), np.array(decimals, dtype=np.int64)
    for n in np.flatnonzero(own_units == 0).tolist():
        if not events[n].HasField("units"):
            own_units[n], own_decimals[n] = 1, 0
    if int(own_decimals.max()) > DECIMALS_MAX:
        return None
    return _columns(
        *(ids, sources, customers, meters),
        times=np.array(times, dtype=np.int64),
        values=(own_units, own_decimals),
        dimensions=_told(events, lambda each: tuple(each.dimensions), flat_dimensions, longest=2 * DIMENSIONS_MAX),
        latest=latest,
    )


def row_columns(sent: Sequence[UsageEvent], *, latest: int) -> Columns | None:
    """As `flat_columns`."""
    events = list(sent)
    ids, sources, customers, meters, seconds, nanos, values = zip(*map(_ROW, events), strict=True)
    whole, part = np.array(seconds, dtype=np.int64), np.array(nanos, dtype=np.int64)
    if not (0 <= int(part.min()) <= int(part.max()) < _NANOS_END and int(abs(whole).max()) < TIMES_END // 1_000_000):
        return None
    numbers = _plain_numbers(events, values)
    if numbers is None:
        return None
    return _columns(
        *(ids, sources, customers, meters),
        times=whole * 1_000_000 + part // 1_000,
        values=numbers,
        dimensions=_told(events, _items, row_dimensions, longest=DIMENSIONS_MAX),
        latest=latest,
    )


def _columns(
    ids: Sequence[str],
    sources: Sequence[str],
    customers: Sequence[str],
    meters: Sequence[str],
    *,
    times: Ints,
    values: tuple[Ints, Ints],
    dimensions: tuple[list[str], Ints] | None,
    latest: int,
) -> Columns | None:
    if dimensions is None or not 0 < int(times.min()) <= int(times.max()) <= min(latest, TIMES_END - 1):
        return None
    strings = list(dict.fromkeys(chain(sources, customers, meters)))
    if not (are_plain_keys(ids) and are_plain_keys(strings) and _are_codes(set(meters))):
        return None
    numbers = {each: n for n, each in enumerate(strings)}
    if QUOTA_SOURCE in numbers:
        return None
    place_of = numbers.__getitem__
    return Columns(
        ids=[each.encode() for each in ids],
        strings=strings,
        sources=np.array(list(map(place_of, sources)), dtype=np.int64),
        customers=np.array(list(map(place_of, customers)), dtype=np.int64),
        meters=np.array(list(map(place_of, meters)), dtype=np.int64),
        times=times,
        units=values[0],
        decimals=values[1],
        dimension_sets=dimensions[0],
        dimensions=dimensions[1],
    )


def is_plain_key(text: str) -> bool:
    """Surely right; what is not may be right all the same."""
    return 0 < len(text) <= KEY_LENGTH_MAX and text.isprintable() and text == text.strip()


def are_plain_keys(texts: Sequence[str]) -> bool:
    """Surely right, all of them: there is no space at their ends, nor anywhere else."""
    together = "".join(texts)
    lengths = list(map(len, texts))
    return together.isprintable() and " " not in together and min(lengths) > 0 and max(lengths) <= KEY_LENGTH_MAX


def _are_codes(texts: set[str]) -> bool:
    try:
        for each in texts:
            check_code(each, field="meter")
    except InvalidArgument:
        return False
    return True


def _plain_numbers(events: Sequence[UsageEvent], values: Sequence[str]) -> tuple[Ints, Ints] | None:
    """Their digits, and how many of these are decimals."""
    try:
        texts = [each.encode("ascii") for each in values]
    except UnicodeEncodeError:
        return None
    if not all(texts):
        for n, text in enumerate(texts):
            if not text:
                if events[n].HasField("value"):
                    return None
                texts[n] = _ONE
    together = b"\n".join(texts)
    if not set(together.translate(None, b"0123456789").split(b"\n")) <= _SIGNS:
        return None
    framed = b"\n%b\n" % together
    if any(each in framed for each in _ODD_POINTS):
        return None
    digits = together.replace(b".", b"").split(b"\n")
    if len(digits) != len(texts) or max(map(len, digits)) > DIGITS_MAX:
        return None
    try:
        units = np.array(list(map(int, digits)), dtype=np.int64)
    except ValueError:
        return None
    if b"." not in together:
        return units, np.zeros(len(texts), dtype=np.int64)
    decimals = np.array([len(text) - at - 1 if (at := text.find(b".")) > 0 else 0 for text in texts], dtype=np.int64)
    return (units, decimals) if int(decimals.max()) <= DECIMALS_MAX else None


def _told(
    events: Sequence[Any],  # Any: UsageEvent or FlatEvent, which name alike what they have in common
    told_of: Callable[[Any], object],
    dimensions_of: Callable[[Any], Mapping[str, str]],
    *,
    longest: int,
) -> tuple[list[str], Ints] | None:
    """The sets of dimensions there are, and which each event has, counted from 1. What is told alike is looked at
    once.
    """
    lengths = [len(each.dimensions) for each in events]
    if max(lengths) > longest:
        return None
    places: dict[object, int] = {}
    sets: dict[str, int] = {}
    found = np.zeros(len(events), dtype=np.int64)
    for n in np.flatnonzero(lengths).tolist():
        event = events[n]
        told = told_of(event)
        place = places.get(told)
        if place is None:
            try:
                text = dimension_set(dimensions_of(event))
            except InvalidArgument:
                return None
            place = places[told] = sets.setdefault(text, len(sets) + 1)
        found[n] = place
    return list(sets), found


def _items(event: UsageEvent) -> tuple[tuple[str, str], ...]:
    sent = event.dimensions
    return tuple([(name, sent[name]) for name in sent])


def check_time(micros: int) -> int:
    if not micros:
        raise InvalidArgument("is required", field="time")
    if not 0 < micros < TIMES_END:
        raise InvalidArgument(f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}", field="time")
    return micros
