"""Knows how far the copy is, and how long a question waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.db import Tx
from metering.domain.errors import UsageCopyBehind
from metering.domain.usage import UsageQuery

POLL_SECONDS: Final = 0.02
RETRY_SECONDS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What of a seller's rows may not count."""

    is_corrected: bool
    """Whether the seller has ever corrected anything."""
    reverted: Sequence[tuple[int, int, int]]
    """Of each backfill that was reverted, the positions of its first and last row, and that of its revert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What there is to be asked about."""

    streams: Mapping[tuple[str, str], int]
    """The number of each pair of meter and name that there is."""
    last: int
    """Through which position the answer goes that is through none."""
    undone: Undone

    def streams_of(self, query: UsageQuery) -> tuple[int, ...]:
        names = ((query.meter, name) for name in query.customers)
        return tuple(self.streams[name] for name in names if name in self.streams)

    def through(self, query: UsageQuery) -> int:
        return self.last if query.through_position is None else min(query.through_position, self.last)


async def ready(tx: Tx, queries: Sequence[UsageQuery], *, complete: bool, wait_seconds: float) -> Copy:
    """Wait until all is copied that was stored before the question, for so long at most.

    Fails then with UsageCopyBehind if the answer is to be complete, or a position is asked about that is not reached.
    """
    names = sorted({(query.meter, name) for query in queries for name in query.customers})
    meters, customers = [meter for meter, _ in names], [name for _, name in names]
    began = time.monotonic()
    row = await tx.driver.fetchrow(_READY, tx.seller_id, meters, customers)
    assert row is not None, "what is read from one row is a row"
    last: int = row["last"]
    # Nobody waits for what he did not ask about.
    target = max(min(last, last if each.through_position is None else each.through_position) for each in queries)
    while row["copied"] < target or row["is_partial"]:
        if time.monotonic() - began > wait_seconds:
            if complete or row["is_partial"] or any((each.through_position or 0) > row["copied"] for each in queries):
                raise UsageCopyBehind(
                    f"usage is counted through position {row['copied']} of {last}",
                    retry_seconds=RETRY_SECONDS,
                    through_position=row["copied"],
                )
            last = row["copied"]
            break
        await asyncio.sleep(POLL_SECONDS)
        row = await tx.driver.fetchrow(_READY, tx.seller_id, meters, customers)
        assert row is not None, "what is read from one row is a row"
    streams = {name: stream for name, stream in zip(names, row["streams"], strict=True) if stream is not None}
    undone = Undone(is_corrected=row["is_corrected"], reverted=row["reverted"])
    return Copy(streams=streams, last=last, undone=undone)


# A leaf that was archived when it was copied, and restored since, is copied by and by.
_READY: Final = """
SELECT coalesce((SELECT p.last FROM positions p WHERE p.seller_id = $1), 0) AS last,
       coalesce((SELECT c.position FROM usage_copies c WHERE c.seller_id = $1), 0) AS copied,
       EXISTS (SELECT FROM usage_corrections c WHERE c.seller_id = $1) AS is_corrected,
       ARRAY(
           SELECT (b.first_position, b.last_position, b.revert_position) FROM usage_backfills b
           WHERE b.seller_id = $1 AND b.revert_position IS NOT NULL
       ) AS reverted,
       EXISTS (
           SELECT FROM usage_leaves l WHERE l.state = 'SEALED' AND l.copied_count < l.row_count
       ) AS is_partial,
       ARRAY(
           SELECT (SELECT n.stream FROM usage_streams n
                   WHERE (n.seller_id, n.meter, n.customer) = ($1, a.meter, a.customer))
           FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a (meter, customer, nth) ORDER BY a.nth
       ) AS streams
"""
