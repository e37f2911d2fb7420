"""Knows how to make up usage events by the million, as requests that are ready to be sent, and what they come to."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import decimal_pb2

from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import DimensionSet, EventColumns, FlatEvent, UsageEvent

SOURCE: Final = "bench"
METERS: Final = ("calls", "bytes", "seconds")
MICROS: Final = 1_000_000
MONTH_SECONDS: Final = 30 * 24 * 3_600
REGIONS: Final = ("eu-west-1", "eu-central-1", "us-east-1", "ap-south-1")
BIG_UNITS: Final = 10_000
DECIMAL_PLACES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What usage events look like."""

    form: str = "columns"
    """Or flat, or rows."""
    batch: int = 1_000
    customers: int = 5_000
    id_length: int = 36
    dimensions: int = 0
    """How many names each event tells."""
    duplicates: int = 0
    """How many of a thousand are repeats of events that were sent some batches before."""
    new_first: int = 20
    """So many batches are there to be repeated."""
    is_ordered: bool = True
    """Whether they come in order of their time."""


@dataclass(slots=True)
class Journal:
    """What was sent, and what must be counted of it."""

    events: int = 0
    distinct: int = 0
    by_pair: Counter[tuple[int, int]] = field(default_factory=Counter)
    """The units of a customer and a meter, by their numbers."""


_Event: TypeAlias = tuple[str, int, int, int, int, int | None]
"""What `_Made` has of one; the region is None for an event without dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What is made up of one batch, in columns; customers, meters and regions by their numbers."""

    ids: list[str]
    customers: list[int]
    meters: list[int]
    units: list[int]
    times: list[int]
    regions: list[int]
    """Counted from 1; empty for events without dimensions."""

    def event(self, n: int) -> _Event:
        region = self.regions[n] if self.regions else None
        return self.ids[n], self.customers[n], self.meters[n], self.units[n], self.times[n], region

    def put(self, n: int, event: _Event) -> None:
        """The very same event once more: whichever comes first, it is the one that counts."""
        self.ids[n], self.customers[n], self.meters[n], self.units[n], self.times[n], region = event
        if region is not None:
            self.regions[n] = region


@dataclass(slots=True)
class Sender:
    """Makes requests of one shape; no two senders of different names make the same event."""

    shape: Shape
    name: str
    start_seconds: int
    chance: random.Random
    journal: Journal = field(default_factory=Journal)
    _sent: int = 0
    _recent: list[_Event] = field(default_factory=list)

    def requests(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield self._request().SerializeToString()

    def _request(self) -> pb.IngestEventsRequest:
        shape, chance = self.shape, self.chance
        size = shape.batch
        made = _Made(
            ids=[self._id() for _ in range(size)],
            customers=chance.choices(range(shape.customers), k=size),
            meters=chance.choices(range(len(METERS)), k=size),
            units=[chance.randrange(1, BIG_UNITS) for _ in range(size)],
            times=self._times(size),
            regions=chance.choices(range(1, len(REGIONS) + 1), k=size) if shape.dimensions else [],
        )
        repeated = size * shape.duplicates // 1_000
        old = self._recent[: len(self._recent) // 2]
        can_repeat = len(self._recent) >= shape.new_first * size
        repeats = chance.sample(range(size), repeated) if can_repeat else []
        for n, event in zip(repeats, chance.sample(old, len(repeats)), strict=True):
            made.put(n, event)
        new = sorted(set(range(size)) - set(repeats))
        self.journal.events += size
        self.journal.distinct += len(new)
        for n in new:
            self.journal.by_pair[made.customers[n], made.meters[n]] += made.units[n]
        if shape.duplicates:
            self._recent = [*self._recent[len(new) - shape.new_first * size :], *(made.event(n) for n in new)]
        form = {"columns": self._columns, "flat": self._flat, "rows": self._rows}[shape.form]
        request = form(made)
        request.exceptions_only = True
        return request

    def _columns(self, made: _Made) -> pb.IngestEventsRequest:
        names = sorted(set(made.customers))
        number = {each: n for n, each in enumerate(names, start=1 + len(METERS))}
        columns = EventColumns(
            strings=[SOURCE, *METERS, *(customer_of(each) for each in names)],
            ids="".join(made.ids).encode(),
            id_lengths=[self.shape.id_length],
            sources=[0],
            customers=[number[each] for each in made.customers],
            meters=[1 + each for each in made.meters],
            times_micros=made.times,
            units=made.units,
            decimal_places=DECIMAL_PLACES,
            dimension_sets=[
                DimensionSet(dimensions=self._dimensions(n)) for n in range(len(REGIONS) if made.regions else 0)
            ],
            dimensions=made.regions,
        )
        return pb.IngestEventsRequest(columns=columns)

    def _flat(self, made: _Made) -> pb.IngestEventsRequest:
        told = [[text for pair in self._dimensions(n).items() for text in pair] for n in range(len(REGIONS))]
        return pb.IngestEventsRequest(
            flat_events=[
                FlatEvent(
                    id=made.ids[n],
                    source=SOURCE,
                    customer=customer_of(made.customers[n]),
                    meter=METERS[made.meters[n]],
                    time_micros=made.times[n],
                    units=made.units[n],
                    decimal_places=DECIMAL_PLACES,
                    dimensions=told[made.regions[n] - 1] if made.regions else [],
                )
                for n in range(len(made.ids))
            ]
        )

    def _rows(self, made: _Made) -> pb.IngestEventsRequest:
        return pb.IngestEventsRequest(
            events=[
                UsageEvent(
                    id=made.ids[n],
                    source=SOURCE,
                    customer=customer_of(made.customers[n]),
                    meter=METERS[made.meters[n]],
                    time=Timestamp(seconds=made.times[n] // MICROS, nanos=made.times[n] % MICROS * 1_000),
                    value=decimal_pb2.Decimal(value=str(Decimal(made.units[n]).scaleb(-DECIMAL_PLACES))),
                    dimensions=self._dimensions(made.regions[n] - 1) if made.regions else {},
                )
                for n in range(len(made.ids))
            ]
        )

    def _id(self) -> str:
        self._sent += 1
        return f"{self.name}-{self._sent:010}-{self.chance.getrandbits(64):016x}".ljust(self.shape.id_length, "x")[
            : self.shape.id_length
        ]

    def _times(self, size: int) -> list[int]:
        start = self.start_seconds * MICROS
        if not self.shape.is_ordered:
            return [start + self.chance.randrange(MONTH_SECONDS * MICROS) for _ in range(size)]
        return [start + (self._sent - size + n) * 1_000 % (MONTH_SECONDS * MICROS) for n in range(size)]

    def _dimensions(self, region: int) -> dict[str, str]:
        return {f"dimension-{n}": f"{REGIONS[region]}-{n}" for n in range(self.shape.dimensions)}


def customer_of(number: int) -> str:
    return f"customer-{number:06}"
