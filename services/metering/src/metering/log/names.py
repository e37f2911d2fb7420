"""Knows the numbers that stand in the log for what repeats: the pair of meter and customer, and the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import numpy as np

from metering.log.batch import Ints, Part

NAMES_MAX: Final = 1_000_000
"""How many are kept at hand, about 300 bytes each."""

Pair = tuple[str, str, str]
"""Seller, meter, customer."""


@dataclass(slots=True)
class Pairs:
    """The pairs of meter and customer in a part of a batch: which there are, and which each event has."""

    meters: Ints
    customers: list[int]
    """Of each pair, in the strings of the batch; in order of the meters."""
    of_each: Ints
    streams: Sequence[int | None] = ()
    """The number of each pair, as soon as it has been looked for; None for one that is not at hand."""

    @classmethod
    def of(cls, part: Part) -> Pairs:
        batch, places = part.batch, part.places
        width = max(1, len(batch.strings))
        codes, of_each = np.unique(batch.meters[places] * width + batch.customers[places], return_inverse=True)
        meters, customers = np.divmod(codes, width)
        return cls(meters, customers.tolist(), of_each)


@dataclass(slots=True)
class Names:
    """Those at hand of one shard. What is not is looked up, and added by the transaction that first needs it."""

    streams: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """By seller and meter, then by customer."""
    sources: dict[tuple[str, str], int] = field(default_factory=dict)
    stream_count: int = 0

    async def learn(self, connection: asyncpg.Connection, parts: Sequence[tuple[Part, Pairs]]) -> None:
        if self.stream_count + len(self.sources) > NAMES_MAX:
            # All of them: which of them are needed will show at once.
            self.streams.clear()
            self.sources.clear()
            self.stream_count = 0
        streams: set[Pair] = set()
        sources: set[tuple[str, str]] = set()
        for part, pairs in parts:
            seller, strings = part.batch.seller_id, part.batch.strings
            pairs.streams = self._known(part, pairs)
            if None in pairs.streams:
                for meter, customer in zip(pairs.meters.tolist(), pairs.customers, strict=True):
                    if strings[customer] not in self.streams[seller, strings[meter]]:
                        streams.add((seller, strings[meter], strings[customer]))
            sources.update((seller, strings[n]) for n in _used(part).tolist())
        if streams:
            rows = await connection.fetch(_STREAMS, *map(list, zip(*sorted(streams), strict=True)))
            for row in rows:
                self.streams[row["seller_id"], row["meter"]][row["customer"]] = row["stream"]
            self.stream_count += len(rows)
        sources -= self.sources.keys()
        if sources:
            rows = await connection.fetch(_SOURCES, *map(list, zip(*sorted(sources), strict=True)))
            self.sources.update(((row["seller_id"], row["source"]), row["number"]) for row in rows)

    def streams_of(self, part: Part, pairs: Pairs) -> Ints:
        """Those of events whose names were learned."""
        known = self._known(part, pairs) if None in pairs.streams else pairs.streams
        return np.array(known, dtype=np.int64)[pairs.of_each]

    def sources_of(self, part: Part) -> Ints:
        seller, strings, known = part.batch.seller_id, part.batch.strings, self.sources
        sources, used = part.batch.sources[part.places], _used(part)
        if len(used) == 1:
            return np.full(len(sources), known[seller, strings[used[0]]], dtype=np.int64)
        table = np.zeros(len(strings), dtype=np.int64)
        table[used] = [known[seller, strings[n]] for n in used.tolist()]
        found: Ints = table[sources]
        return found

    def _known(self, part: Part, pairs: Pairs) -> list[int | None]:
        seller, strings = part.batch.seller_id, part.batch.strings
        customers = list(map(strings.__getitem__, pairs.customers))
        found: list[int | None] = []
        first = 0
        for meter in pairs.meters[np.flatnonzero(np.diff(pairs.meters, prepend=-1))].tolist():
            of_meter = self.streams.setdefault((seller, strings[meter]), {})
            end = int(np.searchsorted(pairs.meters, meter, side="right"))
            found += map(of_meter.get, customers[first:end])
            first = end
        return found


def _used(part: Part) -> Ints:
    """Which sources; nearly always it is one."""
    sources = part.batch.sources[part.places]
    return sources[:1] if (sources == sources[:1]).all() else np.unique(sources)


# Rows that are there are not returned by ON CONFLICT DO NOTHING, and an update of them would be a row more to sweep up.
_STREAMS: Final = """
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS n (seller_id, meter, customer)
), added AS (
    INSERT INTO usage_streams (seller_id, meter, customer, customer_known)
    SELECT a.*, EXISTS (SELECT FROM customer_names n WHERE (n.seller_id, n.name) = (a.seller_id, a.customer))
    FROM asked a WHERE NOT EXISTS (
        SELECT FROM usage_streams s WHERE (s.seller_id, s.meter, s.customer) = (a.seller_id, a.meter, a.customer))
    RETURNING seller_id, meter, customer, stream
)
SELECT * FROM added
UNION ALL
SELECT s.seller_id, s.meter, s.customer, s.stream FROM asked JOIN usage_streams s USING (seller_id, meter, customer)
"""
_SOURCES: Final = """
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS n (seller_id, source)
), added AS (
    INSERT INTO usage_sources (seller_id, source)
    SELECT a.* FROM asked a WHERE NOT EXISTS (
        SELECT FROM usage_sources s WHERE (s.seller_id, s.source) = (a.seller_id, a.source))
    RETURNING seller_id, source, number
)
SELECT * FROM added
UNION ALL
SELECT s.seller_id, s.source, s.number FROM asked JOIN usage_sources s USING (seller_id, source)
"""
