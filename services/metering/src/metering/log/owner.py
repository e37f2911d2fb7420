"""Knows what it is to own a shard: which events are new, how they are written, and when a full leaf gets its indexes.

    which are new? ─► rows ─► one transaction               a leaf is full ─► indexes, sums ─► its keys go to the filter
    memory, indexes           epoch, keys, positions, COPY

The owner knows by heart what was written. What it prepares it takes as written: when anything fails, it knows too much,
and is not used any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import asyncpg
import numpy as np

from common.crash import crashpoint, register
from common.db import DatabaseUnavailable
from common.ids import SellerId
from common.pace import Pace
from metering.log import leaves
from metering.log.batch import Batch, KeyArray, Keys, Mask, Part, as_keys
from metering.log.leaves import Corrected, Ingest, Leaf
from metering.log.memory import Memory
from metering.log.names import Names, Pairs
from metering.log.rows import COLUMNS, CORRECTION_COLUMNS, correction_rows, rows
from metering.log.tending import Tending

UNSEALED_MAX: Final = 6
"""How many full leaves may wait for their indexes before ingest waits for them."""
LOOK_SECONDS: Final = 1
STEP_PLACES: Final = 50_000
"""Of a set of keys: so much of it is looked at in a millisecond or two."""

BEFORE_COMMIT: Final = register("ingest.before_commit", "usage events are written and not committed")
COMMITTED: Final = register("ingest.committed", "usage events are committed and their senders do not know")
SEALED: Final = register("ingest.sealed", "a leaf of the log has its indexes, and its keys are in no filter")


@dataclass(frozen=True, slots=True)
class Connections:
    """One for each of what goes on at the same time."""

    writing: asyncpg.Connection
    looking: asyncpg.Connection
    sealing: asyncpg.Connection
    tending: asyncpg.Connection


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch."""

    fresh: Mask | None
    """Which of its events were stored; None for all of them. The others had been before."""
    known: Sequence[bool]
    """Which of the events that were asked about had been before."""


@dataclass(slots=True)
class Waiting:
    """A sender that waits."""

    batch: Batch
    asked: Sequence[tuple[str, bytes]]
    """Sources and ids of events that cannot be stored, of which it is to be said whether they had been before."""
    done: asyncio.Future[Stored]


@dataclass(slots=True)
class Group:
    """What is written in one transaction, and who is told then what."""

    senders: list[Waiting] = field(default_factory=list)
    found: list[Stored] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    corrected: list[Corrected] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    lasts: dict[str, int] = field(default_factory=dict)
    """The last position of each seller."""
    ingests: list[Ingest] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(each.batch) for each in self.senders)


def _new(waiting: Waiting, keys: KeyArray, stored: Stored) -> tuple[Part, Pairs, KeyArray]:
    """What of a batch is to be written: what had been before leaves nothing, not even a name."""
    places = np.arange(len(waiting.batch))
    if stored.fresh is not None:
        # Another correction was faster: of one that is not stored whole, nothing is.
        places = np.flatnonzero(stored.fresh) if waiting.batch.correction is None else places[:0]
    part = Part(waiting.batch, places)
    return part, Pairs.of(part), keys[places]


def _shared_out(group: Sequence[Waiting], fresh: Mask, before: Mask) -> list[Stored]:
    """What was found out about all of a group, by its batches."""
    found: list[Stored] = []
    is_all_new = bool(fresh.all())
    own = asked = 0
    for each in group:
        own, first_own = own + len(each.batch), own
        asked, first_asked = asked + len(each.asked), asked
        part = fresh[first_own:own]
        found.append(Stored(None if is_all_new or part.all() else part, before[first_asked:asked].tolist()))
    return found


class Owner:
    """One time of owning a shard, from reading the log to the first failure."""

    def __init__(self, shard: int, epoch: int, connections: Connections, *, leaf_rows: int) -> None:
        self._shard = shard
        self._epoch = epoch
        self._writing = connections.writing
        self._looking = connections.looking
        self._sealing = connections.sealing
        self._leaf_rows = leaf_rows
        self._names = Names()
        self._positions: dict[str, int] = {}
        self._leaf = Leaf(0, 0)
        self._following: int | None = None
        self._sequence = 0
        self._full = Pace()
        self._tending = Tending(connections.tending, lambda: self._leaf)
        self._judging = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self.memory = Memory(leaf_rows)

    async def open(self) -> None:
        """Read what has been written. In one snapshot: whoever was the owner before may still be storing a filter,
        which stands for keys that are then gone.
        """
        connection = self._looking
        self._leaf = await leaves.open_leaf(connection, self._shard)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            self._keys = Keys(await leaves.seed(connection))
            self._sequence = await leaves.last_sequence(connection, self._shard)
            self.memory = await leaves.remembered(connection, self._shard, leaf_rows=self._leaf_rows)

    @property
    def leaf_is_full(self) -> bool:
        """Then nothing more may be prepared, and as soon as all that is prepared is written: `turn`."""
        return self._leaf.row_count >= self._leaf_rows

    async def prepare(self, senders: Sequence[Waiting], group: Group) -> None:
        """Decide which of their events are new, as if the group were written, and add their rows to it."""
        group.senders += senders
        keys = [self._keys.of_batch(each.batch) for each in senders]
        own = np.concatenate(keys)
        asked = as_keys([self._keys.of(each.batch.seller_id, *event) for each in senders for event in each.asked])
        async with self._judging:
            known = await self._known(np.concatenate([own, asked]))
            fresh = self.memory.take(own, known=known[: len(own)])
            before = known[len(own) :] | self.memory.is_recent(asked)
        found = _shared_out(senders, fresh, before)
        group.found += found
        await self._learn_positions({each.batch.seller_id for each in senders} - self._positions.keys())
        new = [_new(*each) for each in zip(senders, keys, found, strict=True)]
        await self._names.learn(self._looking, [(part, pairs) for part, pairs, _ in new])
        for part, pairs, own in new:
            if len(part):
                self._add(group, part, pairs, own)

    def _add(self, group: Group, part: Part, pairs: Pairs, keys: KeyArray) -> None:
        batch = part.batch
        last = self._positions[batch.seller_id]
        positions = np.arange(last + 1, last + 1 + len(part))
        streams, sources = self._names.streams_of(part, pairs), self._names.sources_of(part)
        write = rows if batch.correction is None else correction_rows
        written = write(part, positions=positions, streams=streams, sources=sources, keys=keys)
        if batch.correction is None:
            group.rows.append(written)
        else:
            group.corrected.append(
                Corrected(
                    seller_id=batch.seller_id,
                    correction=batch.correction,
                    position=last + 1,
                    is_amended=len(part) > 1,
                    stream=int(streams[0]),
                    day=datetime.fromtimestamp(int(batch.times[0]) // 1_000_000, UTC).date(),
                    rows=written,
                    create_time=batch.time,
                )
            )
        group.keys.append(keys.tobytes())
        last += len(part)
        self._positions[batch.seller_id] = group.lasts[batch.seller_id] = last
        group.ingests.append(
            Ingest(seller_id=batch.seller_id, position=last, traceparent=batch.traceparent, time=batch.time)
        )
        self._leaf.row_count += len(part)

    async def write(self, group: Group) -> None:
        """Make durable what was prepared."""
        if not group.lasts:
            return
        self._sequence += 1
        if not await leaves.begin(
            self._writing,
            shard=self._shard,
            epoch=self._epoch,
            leaf=self._leaf.number,
            sequence=self._sequence,
            keys=b"".join(group.keys),
            lasts=sorted(group.lasts.items()),
            ingests=group.ingests,
        ):
            raise DatabaseUnavailable("another replica owns the shard now")
        if group.rows:
            await leaves.write(self._writing, self._leaf.number, group.rows, columns=COLUMNS)
        if group.corrected:
            corrected = [each.rows for each in group.corrected]
            await leaves.write(self._writing, self._leaf.number, corrected, columns=CORRECTION_COLUMNS)
            await leaves.keep_corrections(self._writing, group.corrected)
        crashpoint(BEFORE_COMMIT)
        await self._writing.execute("COMMIT")
        crashpoint(COMMITTED)

    async def _known(self, keys: KeyArray) -> Mask:
        """Which stand in an index. What is remembered exactly needs no look there."""
        known = np.zeros(len(keys), dtype=np.bool_)
        of_generation = {each.number: each.leaves for each in self.memory.generations}
        for generation, places in self.memory.suspects(keys).items():
            known[places] |= await leaves.known(self._looking, keys[places], leaves=of_generation[generation])
        return known

    async def _learn_positions(self, sellers: set[SellerId]) -> None:
        if not sellers:
            return
        rows = await self._looking.fetch(
            "INSERT INTO positions AS p (seller_id, last, shard) SELECT s, 0, $2 FROM unnest($1::text[]) AS s"
            " ON CONFLICT (seller_id) DO UPDATE SET shard = p.shard RETURNING seller_id, last",
            sorted(sellers),
            self._shard,
        )
        self._positions.update((row["seller_id"], row["last"]) for row in rows)

    async def turn(self) -> None:
        """To the next leaf; later, if too many are waiting for their indexes."""
        while len(self.memory.recent) > UNSEALED_MAX:
            self._full.listen()
            await self._full.pause(1)
        async with self._preparing:
            following = self._following
            if following is None:
                following = await leaves.ready_leaf(self._writing, self._shard)
            await leaves.turn(self._writing, full=self._leaf, following=following)
            self._following = None
        self._leaf = Leaf(following, 0)
        self.memory.begin_leaf(following)
        self._full.wake()

    async def seal_full_leaves(self) -> None:
        """Until the end of the shard's time with this owner."""
        while True:
            self._full.listen()
            async with self._preparing:
                if self._following is None:
                    self._following = await leaves.ready_leaf(self._sealing, self._shard)
            for leaf in await leaves.full_leaves(self._sealing, self._shard):
                await leaves.seal(self._sealing, leaf, generation=self.memory.upcoming_generation())
                crashpoint(SEALED)
                await self._settle(leaf)
                self._full.wake()
            await self._full.pause(LOOK_SECONDS)

    async def tend_open_leaf(self) -> None:
        """Until the end of the shard's time with this owner."""
        await self._tending.run()

    async def _settle(self, leaf: int) -> None:
        """Move the keys of a leaf that has its index into the filter, in small steps: senders are waiting."""
        recent = self.memory.recent[leaf]
        generation = self.memory.generation_of(leaf)
        for first in range(0, recent.places, STEP_PLACES):
            generation.filter.add(recent.part(first, STEP_PLACES))
            await asyncio.sleep(0)
        if generation.is_complete:
            await leaves.keep_filter(self._sealing, self._shard, generation)
        # Known to the filter before they are forgotten here: no key is ever in neither.
        async with self._judging:
            del self.memory.recent[leaf]
