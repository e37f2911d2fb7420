"""Knows what was written to a leaf by days of its streams: beside the rows, at a fraction of what PostgreSQL needs to
add them up once they are there.

    events as they are written ─► a leaf is full ─► stream, day: how many, their sum, the least, the greatest
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from metering.log.batch import Ints, Part
from metering.log.rows import DECIMALS_MAX, NUMERIC, numerics

DAY_MICROS: Final = 86_400_000_000
COLUMNS: Final = ("seller_id", "stream", "day", "event_count", "value_sum", "value_min", "value_max")

_POSTGRES_EPOCH_DAYS: Final = 10_957
_INT64_MAX: Final = 2**63 - 1

Columns = tuple[Ints, npt.NDArray[np.int32], Ints, npt.NDArray[np.int8]]
"""Of some events: their streams, days since 1970, and values as units and decimals."""


@dataclass(frozen=True, slots=True)
class Days:
    """What the events of a seller come to, in order of stream and day."""

    seller_id: str
    streams: Ints
    days: Ints
    """Since 1970."""
    counts: Ints
    sums: Ints
    """As the two that follow, in units of so many decimals."""
    least: Ints
    greatest: Ints
    decimals: int

    def rows(self) -> bytes:
        """As rows of a COPY."""
        seller = self.seller_id.encode()
        record = np.empty(
            len(self.streams),
            dtype=[
                ("fields", ">i2"),
                ("seller_length", ">i4"),
                ("seller", f"S{len(seller)}"),
                ("stream_length", ">i4"),
                ("stream", ">i8"),
                ("day_length", ">i4"),
                ("day", ">i4"),
                ("count_length", ">i4"),
                ("count", ">i8"),
                *((name, NUMERIC) for name in COLUMNS[4:]),
            ],
        )
        record["fields"] = len(COLUMNS)
        record["seller_length"] = len(seller)
        record["seller"] = seller
        record["stream_length"] = record["count_length"] = 8
        record["stream"] = self.streams
        record["day_length"] = 4
        record["day"] = self.days - _POSTGRES_EPOCH_DAYS
        record["count"] = self.counts
        for name, units in zip(COLUMNS[4:], (self.sums, self.least, self.greatest), strict=True):
            numerics(record[name], units, np.full(len(units), self.decimals))
        return record.tobytes()


@dataclass(frozen=True, slots=True)
class Written:
    last: int
    """The position of the last of them. All are in one commit."""
    columns: Columns


@dataclass(slots=True)
class Tally:
    """Of one leaf, for as long as it has no indexes."""

    is_exact: bool = True
    """Not if there is more in it than events with values of 64 bits: then the rows are to be added up."""
    size_bytes: int = 0
    """What it takes, about."""
    _written: dict[str, list[Written]] = field(default_factory=dict)

    def add(self, part: Part, streams: Ints, *, last: int) -> None:
        batch, places = part.batch, part.places
        if batch.wide or batch.correction is not None:
            self.is_exact = False
            self.size_bytes = 0
            self._written.clear()
        if not self.is_exact:
            return
        days = (batch.times[places] // DAY_MICROS).astype(np.int32)
        columns = (streams, days, batch.units[places], batch.decimals[places].astype(np.int8))
        self._written.setdefault(batch.seller_id, []).append(Written(last, columns))
        self.size_bytes += sum(each.nbytes for each in columns)

    def days(self, beyond: Mapping[str, int]) -> list[Days] | None:
        """By seller, what was written beyond the positions that are summed already; None when the rows are to be added
        up, as no number here is large enough. In any thread: nothing is added to a leaf that is full.
        """
        if not self.is_exact:
            return None
        found: list[Days] = []
        for seller_id, written in sorted(self._written.items()):
            rest = [each.columns for each in written if each.last > beyond.get(seller_id, 0)]
            days = _days(seller_id, rest) if rest else None
            if rest and days is None:
                return None
            found += [days] if days is not None else []
        return found


def _days(seller_id: str, written: Sequence[Columns]) -> Days | None:
    streams, days, units, places = (np.concatenate(each) for each in zip(*written, strict=True))
    decimals = int(places.max())
    factor = _POWERS[decimals - places]
    largest = max(int(units.max()), -int(units.min()))
    first_day, last_day = int(days.min()), int(days.max())
    width = last_day - first_day + 1
    if largest * int(factor.max()) * len(units) > _INT64_MAX or (int(streams.max()) + 1) * width > _INT64_MAX:
        return None
    code = streams * width + (days - first_day)
    order = np.argsort(code)
    code, units = code[order], (units * factor)[order]
    first = np.flatnonzero(np.diff(code, prepend=-1))
    streams, days = np.divmod(code[first], width)
    return Days(
        seller_id=seller_id,
        streams=streams,
        days=days + first_day,
        counts=np.diff(first, append=len(code)),
        sums=np.add.reduceat(units, first),
        least=np.minimum.reduceat(units, first),
        greatest=np.maximum.reduceat(units, first),
        decimals=decimals,
    )


_POWERS: Final = np.array([10**n for n in range(DECIMALS_MAX + 1)], dtype=np.int64)
