"""Knows how the leaf that is being written is kept readable.

much comes       its pages tell between which streams their rows lie: batches are written in order of their streams,
                 and what was written since is looked through a few times a second
little comes     indexes by stream, which cost a third of the speed with which one writes; and every so often what has
                 come is added to the sums of days, so that little is left to be read one by one
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import asyncpg

from metering.log import leaves, sums
from metering.log.leaves import Leaf

TEND_SECONDS: Final = 0.25
BUSY_EVENTS: Final = 12_500
"""More than this between two looks is much."""
CALM_EVENTS: Final = 5_000
"""Fewer than this is little."""
BUSY_SENDERS: Final = 4
"""When so many wait at once, and what comes is not little, it is much."""
CALM_LOOKS: Final = 4
"""After so many looks in a row that found little, a leaf gets an index,"""
EVENTS_PER_LOOK: Final = 40_000
"""and one more for so many events that are in it: who writes waits until it is made, and what comes in bursts does not
get it for every pause.
"""
BARE_EVENTS: Final = 5_000
"""So many are read as fast as an index."""
SUM_LOOKS: Final = 20
"""After so many looks in a row that found little, what has come is summed: who pauses for a moment is not to wait for
that.
"""
SUMMED_EVENTS: Final = 50_000
"""When so many have come they are summed, unless they are spread too thin: then when twice as many have."""


class Tending:
    def __init__(self, connection: asyncpg.Connection, leaf: Callable[[], Leaf]) -> None:
        self._connection = connection
        self._leaf = leaf
        self._seen = Leaf(0, 0)
        self._calm_looks = 0
        self._is_indexed = False
        self._rest_is_indexed = False
        self._has_tried = False
        self._summed = 0
        self._sum_at = SUMMED_EVENTS

    async def make_way(self, writing: asyncpg.Connection, *, sender_count: int) -> None:
        """Take the indexes away if much comes in, and so many wait for their commit. By who writes, between two
        commits: anybody else would wait for a moment in which nothing is written, while it is the indexes that make the
        writing last.
        """
        leaf = self._leaf()
        much = CALM_EVENTS if sender_count >= BUSY_SENDERS else BUSY_EVENTS
        if (
            (self._is_indexed or self._rest_is_indexed)
            and not self._has_tried
            and leaf.number == self._seen.number
            and leaf.row_count - self._seen.row_count > much
        ):
            self._has_tried = True  # when somebody is reading just now, again after the next look
            self._is_indexed = self._rest_is_indexed = not await leaves.bare_open(writing, leaf.number)

    async def run(self) -> None:
        """For ever."""
        while True:
            leaf = self._leaf()
            await self._look(Leaf(leaf.number, leaf.row_count))
            await asyncio.sleep(TEND_SECONDS)

    async def _look(self, leaf: Leaf) -> None:
        seen, self._seen = self._seen, leaf
        self._has_tried = False
        if leaf.number != seen.number:
            self._is_indexed = await leaves.is_indexed(self._connection, leaf.number)
            self._rest_is_indexed = False
            self._calm_looks = 0
            self._summed, self._sum_at = 0, SUMMED_EVENTS
            return
        came = leaf.row_count - seen.row_count
        self._calm_looks = self._calm_looks + 1 if came < CALM_EVENTS else 0
        is_calm = self._calm_looks >= CALM_LOOKS + leaf.row_count // EVENTS_PER_LOOK
        if is_calm and not self._is_indexed and leaf.row_count >= BARE_EVENTS:
            await leaves.index_open(self._connection, leaf.number)
            self._is_indexed = True
        elif is_calm and self._is_indexed and self._summed and not self._rest_is_indexed:
            await leaves.index_rest(self._connection, leaf.number)
            self._rest_is_indexed = True
        elif came and not self._is_indexed:
            await leaves.tell_pages(self._connection, leaf.number)
        if self._calm_looks >= SUM_LOOKS and leaf.row_count - self._summed >= self._sum_at:
            await self._sum(leaf)

    async def _sum(self, leaf: Leaf) -> None:
        left = await sums.sum_open(self._connection, leaf.number, at_least=sums.DENSE)
        # What is prepared and not committed yet the next time has.
        self._summed, self._sum_at = leaf.row_count - left, max(SUMMED_EVENTS, 2 * left)
