"""What was written to a leaf comes to the same by days as its events do when they are added up one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ids import SellerId
from metering.log.batch import Batch, Part
from metering.log.correction import Correction
from metering.log.tally import Tally

FIRST: Final = date(1970, 1, 1)
DAY_MICROS: Final = 86_400_000_000
INT64_MAX: Final = 2**63 - 1
Event = tuple[int, int, int, int]
"""Stream, microseconds since 1970, units, decimals."""
Told = dict[tuple[str, int, date], tuple[int, Decimal, Decimal, Decimal]]

# Days that meet, at their first and last microsecond, before 1970 and at both ends of the calendar.
times = st.one_of(
    st.builds(lambda day, rest: day * DAY_MICROS + rest, st.integers(-2, 2), st.sampled_from([0, 1, DAY_MICROS - 1])),
    st.sampled_from([-62_135_596_800_000_000, 253_402_300_799_999_999]),
)
events = st.tuples(st.integers(1, 4), times, st.integers(-(10**6), 10**6), st.sampled_from([0, 2, 6]))
batches = st.lists(st.tuples(st.sampled_from(["one", "two"]), st.lists(events, min_size=1, max_size=9)), max_size=6)


def batch(seller: str, chosen: Sequence[Event]) -> Batch:
    zeros = np.zeros(len(chosen), dtype=np.int64)
    _, at, units, decimals = (np.array(each, dtype=np.int64) for each in zip(*chosen, strict=True))
    return Batch(
        seller_id=SellerId(seller),
        time=datetime(2026, 1, 1, tzinfo=UTC),
        traceparent="",
        ids=[b"%d" % n for n in range(len(chosen))],
        strings=("x",),
        sources=zeros,
        customers=zeros,
        meters=zeros,
        times=at,
        units=units,
        decimals=decimals,
        wide={},
        dimension_sets=(),
        dimensions=zeros,
    )


def add(tally: Tally, written: Batch, chosen: Sequence[Event], *, last: int) -> None:
    streams = np.array([each[0] for each in chosen], dtype=np.int64)
    tally.add(Part(written, np.arange(len(chosen))), streams, last=last)


def told(tally: Tally, beyond: dict[str, int]) -> Told | None:
    days = tally.days(beyond)
    if days is None:
        return None
    return {
        (each.seller_id, stream, FIRST + timedelta(days=day)): (
            count,
            *(Decimal(units).scaleb(-each.decimals) for units in (total, least, greatest)),
        )
        for each in days
        for stream, day, count, total, least, greatest in zip(
            *(part.tolist() for part in (each.streams, each.days, each.counts, each.sums, each.least, each.greatest)),
            strict=True,
        )
    }


@given(batches, st.integers(0, 6))
def test_days_are_what_their_events_come_to(written: Sequence[tuple[str, list[Event]]], summed: int) -> None:
    """Of every seller for itself, and only what came after that which is summed already."""
    tally, positions, beyond = Tally(), defaultdict[str, int](int), dict[str, int]()
    values = defaultdict[tuple[str, int, date], list[Decimal]](list)
    for nth, (seller, chosen) in enumerate(written):
        positions[seller] += len(chosen)
        add(tally, batch(seller, chosen), chosen, last=positions[seller])
        if nth < summed:
            beyond[seller] = positions[seller]
            continue
        for stream, at, units, decimals in chosen:
            day = FIRST + timedelta(days=at // DAY_MICROS)
            values[seller, stream, day].append(Decimal(units).scaleb(-decimals))
    expected = {key: (len(of), sum(of, Decimal()), min(of), max(of)) for key, of in values.items()}
    assert told(tally, beyond) == expected


@pytest.mark.parametrize(
    "chosen",
    [
        [(1, 0, INT64_MAX, 0), (1, 0, 1, 0)],
        [(1, 0, -INT64_MAX - 1, 0)],
        [(1, 0, 10**9, 0), (2, 0, 1, 12)],
    ],
    ids=["a sum", "the least of all", "units of one size"],
)
def test_what_numbers_do_not_hold_is_left_to_the_database(chosen: list[Event]) -> None:
    """Nothing is ever cut off to fit: beyond 63 bits the rows are added up, where there is no limit."""
    tally = Tally()
    add(tally, batch("one", chosen), chosen, last=len(chosen))
    assert told(tally, {}) is None
    fits = [(1, 0, INT64_MAX // 2, 0), (1, 0, -5, 0)]
    other = Tally()
    add(other, batch("one", fits), fits, last=2)
    assert told(other, {}) == {
        ("one", 1, FIRST): (2, Decimal(INT64_MAX // 2 - 5), Decimal(-5), Decimal(INT64_MAX // 2))
    }


def test_what_is_more_than_an_event_is_left_to_the_database() -> None:
    """A value that is too wide for 64 bits, or a correction: then nothing that comes later makes it exact again."""
    chosen: list[Event] = [(1, 0, 7, 0)]
    wide, corrected = batch("one", chosen), batch("one", chosen)
    wide.wide = {0: Decimal("1e30")}
    corrected.correction = Correction(
        source="s", event_id="e", number=1, corrects=1, reason="wrong", actor="tester", request_id="r"
    )
    for spoiled in (wide, corrected):
        tally = Tally()
        add(tally, batch("one", chosen), chosen, last=1)
        assert tally.size_bytes == 21
        add(tally, spoiled, chosen, last=2)
        add(tally, batch("one", chosen), chosen, last=3)
        assert told(tally, {}) is None
        assert tally.size_bytes == 0
