"""Knows a request as columns: the events that are sound in themselves, those that are not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import compress
from typing import Final

import numpy as np

from common.errors import InvalidArgument
from common.ids import SellerId
from common.period import EARLIEST
from metering.convert.plain import Columns
from metering.log import Batch
from metering.log.batch import Ints

EVENTS_MAX: Final = 10_000
_MICROSECOND: Final = timedelta(microseconds=1)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What all events of a request have in common."""

    seller_id: SellerId
    clock: Clock
    traceparent: str
    of_commits: bool
    """Whether the reserved source may be among the sources."""

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


def check_size(size: int, name: str) -> None:
    if not 1 <= size <= EVENTS_MAX:
        raise InvalidArgument(f"must have 1 to {EVENTS_MAX} events", field=name)


def alone(fault: InvalidArgument) -> InvalidArgument:
    """Without what led to it: the frames, which hold the request, and hold the fault in turn."""
    return fault.with_traceback(None)
