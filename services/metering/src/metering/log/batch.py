"""Knows a batch of usage events as columns, the one form that every way of sending ends in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import repeat
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from common.ids import SellerId
from metering.log.correction import Correction

Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Fixed: TypeAlias = npt.NDArray[Any]  # Any: records of numpy, whose fields are named where they are made
KeyArray: TypeAlias = npt.NDArray[np.void]

KEY: Final = np.dtype("V16")
NO_DIMENSIONS: Final = 0
SEPARATOR: Final = "\x1f"
"""No key contains it: control characters are refused."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """Usage events of one seller that are sound in themselves: the n-th of every column is the n-th event's."""

    seller_id: SellerId
    time: datetime
    """When it came, by the seller's clock."""
    traceparent: str
    ids: list[bytes]
    """In UTF-8."""
    strings: Sequence[str]
    """What the three columns refer to that follow."""
    sources: Ints
    customers: Ints
    meters: Ints
    times: Ints
    """Microseconds since 1970."""
    units: Ints
    decimals: Ints
    """How many of the last digits of `units` are decimals."""
    wide: Mapping[int, Decimal]
    """The values that do not fit, by the place of their events."""
    dimension_sets: Sequence[str]
    """JSON objects."""
    dimensions: Ints
    """In `dimension_sets`, counted from 1; 0 for none."""
    correction: Correction | None = None
    """Then it is stored whole or not at all."""
    backfill: int | None = None
    """The number of the one that it is loaded into."""

    @property
    def identities(self) -> list[bytes]:
        """What tells its events from all others of their sources."""
        return self.ids if self.correction is None else self.correction.identities[: len(self)]

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, places: Sequence[int]) -> Batch:
        """Some of its events."""
        chosen = np.array(places, dtype=np.int64)
        return replace(
            self,
            ids=[self.ids[n] for n in places],
            sources=self.sources[chosen],
            customers=self.customers[chosen],
            meters=self.meters[chosen],
            times=self.times[chosen],
            units=self.units[chosen],
            decimals=self.decimals[chosen],
            wide={nth: self.wide[n] for nth, n in enumerate(places) if n in self.wide} if self.wide else self.wide,
            dimensions=self.dimensions[chosen],
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Some events of a batch: those at its places, of which there may be none."""

    batch: Batch
    places: Ints

    def __len__(self) -> int:
        return len(self.places)


class Keys:
    """How an event's identity becomes 16 bytes that stand for it: XXH3-128 of its id, seeded with seller and source.

    And with a number that is drawn once for each database: nobody outside can make two identities that come to one key.
    By chance the first two of a million million are expected with a probability of 1 to 10^14.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._seeds: dict[tuple[str, str], int] = {}

    def of(self, seller_id: str, source: str, event_id: bytes) -> bytes:
        return xxhash.xxh3_128_digest(event_id, self._seed_of(seller_id, source))

    def of_batch(self, batch: Batch) -> KeyArray:
        digest = xxhash.xxh3_128_digest
        sources = batch.sources
        if len(sources) and (sources == sources[0]).all():
            seed = self._seed_of(batch.seller_id, batch.strings[sources[0]])
            return as_keys(map(digest, batch.identities, repeat(seed)))
        seeds = {n: self._seed_of(batch.seller_id, batch.strings[n]) for n in np.unique(sources).tolist()}
        return as_keys(map(digest, batch.identities, map(seeds.__getitem__, sources.tolist())))

    def _seed_of(self, seller_id: str, source: str) -> int:
        known = self._seeds.get((seller_id, source))
        if known is None:
            if len(self._seeds) >= SEEDS_MAX:
                self._seeds.clear()
            known = xxhash.xxh3_64_intdigest(f"{seller_id}{SEPARATOR}{source}".encode(), self._seed)
            self._seeds[seller_id, source] = known
        return known


def as_keys(digests: Iterable[bytes]) -> KeyArray:
    return np.frombuffer(b"".join(digests), dtype=KEY)


SEEDS_MAX: Final = 100_000
