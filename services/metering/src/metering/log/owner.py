"""Knows what it is to own a shard: which events are new, how they are written, and when a full leaf gets its indexes.

    which are new? ─► rows ─► one transaction               a leaf is full ─► indexes, sums ─► its keys go to the filter
    memory, indexes           epoch, keys, positions, COPY

The owner knows by heart what was written. What it prepares it takes as written: when anything fails, it knows too much,
and is not used any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import numpy as np

from common.crash import crashpoint, register
from common.errors import SaldoError
from common.ids import SellerId
from common.pace import Pace, Stopwatch
from metering.domain.backfill import EVENTS_MAX
from metering.domain.errors import BackfillFull, BackfillNotOpen, IngestOverloaded
from metering.log import backfills, commits, leaves
from metering.log.backfills import Loaded, Loading, Settlement
from metering.log.batch import Batch, KeyArray, Keys, Mask, Part, as_keys
from metering.log.commits import Corrected, Ingest
from metering.log.group import Group, Waiting, new_of, shared_out
from metering.log.keyset import KeySet
from metering.log.leaves import Leaf
from metering.log.memory import Filter, Memory
from metering.log.names import Names, Pairs
from metering.log.rows import correction_rows, rows
from metering.log.tally import Tally
from metering.log.tending import Tending

UNSEALED_MAX: Final = 6
"""How many leaves may be without their indexes before ingest waits for them."""
PUT_OFF_MAX: Final = 3
"""How many full leaves wait for senders, if those"""
SENDERS_SECONDS: Final = 0.05
"""wait longer than this,"""
CALM_SECONDS: Final = 1
"""and the last did so less than this ago."""
LOOK_SECONDS: Final = 1
STEP_PLACES: Final = 50_000
"""Of a set of keys: so much of it is looked at in a millisecond or two,"""
STEP_SECONDS: Final = 0.02
"""and then it is for others to go on."""

LOADING_EVENTS_MAX: Final = 5_000_000
"""In all backfills that are open: their keys are known by heart."""
LOADED_EXPECTED: Final = 10_000
"""By many backfills; the others grow."""
RETRY_SECONDS: Final = 60

BEFORE_COMMIT: Final = register("ingest.before_commit", "usage events are written and not committed")
COMMITTED: Final = register("ingest.committed", "usage events are committed and their senders do not know")
SEALED: Final = register("ingest.sealed", "a leaf of the log has its indexes, and its keys are in no filter")
BEFORE_SETTLED: Final = register("backfill.before_commit", "a backfill is settled, and that is not committed")
SETTLED: Final = register("backfill.committed", "a backfill is closed or reverted, and nobody has been told")


@dataclass(frozen=True, slots=True)
class Connections:
    """One for each of what goes on at the same time."""

    writing: asyncpg.Connection
    looking: asyncpg.Connection
    sealing: asyncpg.Connection
    tending: asyncpg.Connection


def _move(keys: KeySet, into: Filter, first: int) -> None:
    into.add(keys.part(first, STEP_PLACES))


def _written(rows: Sequence[bytes]) -> Iterator[bytes]:
    yield from rows
    crashpoint(BEFORE_COMMIT)


class Owner:
    """One time of owning a shard, from reading the log to the first failure."""

    def __init__(
        self, shard: int, epoch: int, connections: Connections, *, leaf_rows: int, sealing: asyncio.Semaphore
    ) -> None:
        self._shard = shard
        self._epoch = epoch
        self._writing = connections.writing
        self._looking = connections.looking
        self._sealing = connections.sealing
        self._leaf_rows = leaf_rows
        self._turns_to_seal = sealing
        self._names = Names()
        self._positions: dict[str, int] = {}
        self._leaf = Leaf(0, 0)
        self._tallies: dict[int, Tally] = {}
        self._following: int | None = None
        self._sequence = 0
        self._full = Pace()
        self._tending = Tending(connections.tending, lambda: self._leaf)
        self._judging = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self._loading: dict[int, Loading] = {}
        self._undone: dict[str, list[tuple[int, int]]] = {}
        self._unfrozen: list[int] = []
        self._answered = Stopwatch()
        self._wait_seconds = 0.0
        self.is_sealing = False
        self.memory = Memory(leaf_rows)

    async def open(self) -> None:
        """Read what has been written. In one snapshot: whoever was the owner before may still be storing a filter,
        which stands for keys that are then gone.
        """
        connection = self._looking
        self._leaf = await leaves.open_leaf(connection, self._shard)
        self._tallies[self._leaf.number] = Tally(is_exact=not self._leaf.row_count)
        await connection.execute(leaves.ONE_PLAN)
        for each in (self._writing, self._sealing):
            await each.execute(leaves.WRITE_BEHIND)
        await self._sealing.execute(leaves.SAMPLE)
        await commits.prepare(self._writing)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            self._keys = Keys(await leaves.seed(connection))
            self._sequence = await leaves.last_sequence(connection, self._shard)
            self.memory = await leaves.remembered(connection, self._shard, leaf_rows=self._leaf_rows)
            self._undone = await backfills.undone(connection, self._shard)
            self._loading = await backfills.open_ones(connection, self._shard)
            for number, loading in self._loading.items():
                keys = self.memory.backfills[number] = KeySet(loading.count)
                await leaves.remember(connection, self._shard, backfills.segment_of(number), keys)

    @property
    def size_bytes(self) -> int:
        """What it knows by heart takes, about."""
        return self.memory.size_bytes + sum(each.size_bytes for each in self._tallies.values())

    @property
    def leaf_is_full(self) -> bool:
        """Then nothing more may be prepared, and as soon as all that is prepared is written: `turn`."""
        return self._leaf.row_count >= self._leaf_rows

    async def prepare(self, senders: Sequence[Waiting], group: Group) -> None:
        """Decide which of their events are new, as if the group were written, and add their rows to it."""
        group.senders += senders
        keys: list[KeyArray] = []
        for each in senders:
            keys.append(self._keys.of_batch(each.batch))
            await asyncio.sleep(0)  # whoever is being written is not to wait until all of these are prepared
        own = np.concatenate(keys)
        asked = as_keys([self._keys.of(each.batch.seller_id, *event) for each in senders for event in each.asked])
        if special := any(each.batch.backfill is not None or each.batch.correction is not None for each in senders):
            await self._learn_backfills(senders)
        async with self._judging:
            known = await self._known(np.concatenate([own, asked]))
            if special:
                fresh = self._take_each(senders, keys, known[: len(own)])
            else:
                fresh = self.memory.take(own, known=known[: len(own)])
            before = known[len(own) :] | self.memory.is_recent(asked)
        found = shared_out(senders, fresh, before)
        group.found += found
        await self._learn_positions({each.batch.seller_id for each in senders} - self._positions.keys())
        new = [new_of(*each) for each in zip(senders, keys, found, strict=True)]
        await self._names.learn(self._looking, [(part, pairs) for part, pairs, _ in new])
        for part, pairs, own in new:
            if len(part):
                self._add(group, part, pairs, own)
                await asyncio.sleep(0)

    async def _learn_backfills(self, senders: Sequence[Waiting]) -> None:
        unknown = {each.batch.backfill for each in senders if each.batch.backfill is not None} - self._loading.keys()
        if unknown:
            found = await backfills.begin_loading(self._looking, unknown)
            self._loading.update(found)
            self.memory.backfills.update((number, KeySet(LOADED_EXPECTED)) for number in found)

    def _take_each(self, senders: Sequence[Waiting], keys: Sequence[KeyArray], known: Mask) -> Mask:
        """What is new of each, one after the other: of what is refused, nothing."""
        found: list[Mask] = []
        first = 0
        for each, own in zip(senders, keys, strict=True):
            before, first = known[first : first + len(own)], first + len(own)
            refusal = self._refusal(each.batch, own, before)
            if refusal is not None and not each.done.done():  # its sender may be gone
                each.done.set_exception(refusal)
            if refusal is not None or self._is_undone(each.batch):
                found.append(np.zeros(len(own), dtype=np.bool_))
            else:
                found.append(self.memory.take(own, known=before, backfill=each.batch.backfill))
        return np.concatenate(found)

    def _is_undone(self, batch: Batch) -> bool:
        """Whether it corrects what was reverted since somebody looked at it."""
        if batch.correction is None:
            return False
        return backfills.are_undone(self._undone.get(batch.seller_id, ()), batch.correction.corrects)

    def _refusal(self, batch: Batch, keys: KeyArray, known: Mask) -> SaldoError | None:
        """Why a batch cannot be loaded into its backfill."""
        if batch.backfill is None:
            return None
        loading = self._loading.get(batch.backfill)
        if loading is None:
            return BackfillNotOpen("the backfill is not open any more")
        loaded = sum(each.count for each in self._loading.values())
        if loading.count + len(keys) <= EVENTS_MAX and loaded + len(keys) <= LOADING_EVENTS_MAX:
            return None
        new = int(np.count_nonzero(~(known | self.memory.is_recent(keys))))
        if loading.count + new > EVENTS_MAX:
            message = f"it has {loading.count} usage events, and can have {EVENTS_MAX}"
            return BackfillFull(message, event_count=loading.count, limit=EVENTS_MAX)
        if loaded + new > LOADING_EVENTS_MAX:
            return IngestOverloaded("too much is in backfills that are open", retry_seconds=RETRY_SECONDS)
        return None

    def _load(self, group: Group, part: Part, pairs: Pairs, keys: KeyArray) -> None:
        """As `_add`, with positions that are counted from its begin."""
        batch = part.batch
        assert batch.backfill is not None, "it is loaded"
        loading = self._loading[batch.backfill]
        loaded = group.loaded.setdefault(batch.backfill, Loaded())
        positions = np.arange(loading.count + 1, loading.count + 1 + len(part))
        streams, sources = self._names.streams_of(part, pairs), self._names.sources_of(part)
        loaded.rows.append(rows(part, positions=positions, streams=streams, sources=sources, keys=keys))
        loaded.keys.append(keys.tobytes())
        loading.count += len(part)
        loaded.count = loading.count

    def _add(self, group: Group, part: Part, pairs: Pairs, keys: KeyArray) -> None:
        batch = part.batch
        if batch.backfill is not None:
            self._load(group, part, pairs, keys)
            return
        last = self._positions[batch.seller_id]
        positions = np.arange(last + 1, last + 1 + len(part))
        streams, sources = self._names.streams_of(part, pairs), self._names.sources_of(part)
        write = rows if batch.correction is None else correction_rows
        written = write(part, positions=positions, streams=streams, sources=sources, keys=keys)
        self._tallies[self._leaf.number].add(part, streams, last=last + len(part))
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
        if not group.lasts and not group.loaded:
            return
        await self._tending.make_way(self._writing, sender_count=len(group.senders))
        self._sequence += 1
        begin = commits.begin(
            shard=self._shard,
            epoch=self._epoch,
            leaf=self._leaf.number,
            sequence=self._sequence,
            keys=b"".join(group.keys),
            lasts=sorted(group.lasts.items()),
            ingests=group.ingests,
        )
        if not group.corrected and not group.loaded:
            await commits.commit_rows(self._writing, begin, self._leaf.number, _written(group.rows))
        else:
            await self._write_all(begin, group)
        crashpoint(COMMITTED)

    async def _write_all(self, begin: str, group: Group) -> None:
        """As `commits.commit_rows`, of a group in which there is more."""
        await commits.start(self._writing, begin)
        if group.rows:
            await commits.write(self._writing, self._leaf.number, group.rows)
        if group.corrected:
            await commits.write_corrections(self._writing, self._leaf.number, group.corrected)
        for number, loaded in group.loaded.items():
            self._sequence += 1
            await backfills.load(
                self._writing, shard=self._shard, sequence=self._sequence, number=number, loaded=loaded
            )
        crashpoint(BEFORE_COMMIT)
        await commits.commit(self._writing)

    def answered(self, group: Group) -> None:
        """How long senders wait at present."""
        self._answered = Stopwatch()
        self._wait_seconds = group.senders[0].since.seconds

    @property
    def _can_put_off(self) -> bool:
        """Whether leaves should not be given their indexes just now: both want the same processors and disk."""
        is_recent = self._answered.seconds < CALM_SECONDS
        return is_recent and self._wait_seconds > SENDERS_SECONDS and len(self.memory.recent) - 1 <= PUT_OFF_MAX

    async def _known(self, keys: KeyArray) -> Mask:
        """Which stand in an index. What is remembered exactly needs no look there."""
        known = np.zeros(len(keys), dtype=np.bool_)
        generations = (*self.memory.generations, *self.memory.backfilled)
        of_generation = {each.number: each.leaves for each in generations}
        for generation, places in self.memory.suspects(keys).items():
            known[places] |= await leaves.known(self._looking, keys[places], leaves=of_generation[generation])
        return known

    async def _learn_positions(self, sellers: set[SellerId]) -> None:
        if not sellers:
            return
        rows = await self._looking.fetch(
            "SELECT seller_id, last FROM positions WHERE seller_id = ANY ($1::text[]) AND shard = $2",
            sorted(sellers),
            self._shard,
        )
        assert len(rows) == len(sellers), "whose shard this is was decided before, for ever"
        self._positions.update((row["seller_id"], row["last"]) for row in rows)

    async def settle(self, connection: asyncpg.Connection, asked: Settlement) -> None:
        """Close or revert a backfill, of a seller of whom nothing is under way. Then all that is known is so."""
        loading = self._loading.get(asked.number)
        key_count = loading.count if loading is not None else 0
        generation = self.memory.generation_for(key_count)
        if not asked.is_revert:
            await backfills.make_room(connection, asked.number, shard=self._shard, generation=generation.number)
        async with connection.transaction():
            settled = await backfills.settle(
                connection, asked, shard=self._shard, epoch=self._epoch, generation=generation.number
            )
            crashpoint(BEFORE_SETTLED)
        crashpoint(SETTLED)
        if settled.leaf is not None:
            keys = self.memory.backfills[asked.number]
            for first in range(0, keys.places, STEP_PLACES):
                await asyncio.to_thread(_move, keys, generation.filter, first)
            self.memory.join(generation, settled.leaf, key_count=key_count)
            self._unfrozen.append(settled.leaf)
            self._full.wake()
        if settled.undone is not None:
            self._undone.setdefault(asked.seller_id, []).append(settled.undone)
        if asked.seller_id in self._positions:
            self._positions[asked.seller_id] = settled.last
        # Known to the filter before they are forgotten here, as with a leaf that has got its indexes.
        async with self._judging:
            self.memory.backfills.pop(asked.number, None)
            self._loading.pop(asked.number, None)

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
        self._tallies[following] = Tally()
        self.memory.begin_leaf(following)
        self._full.wake()

    async def seal_full_leaves(self) -> None:
        """Until the end of the shard's time with this owner."""
        while True:
            self._full.listen()
            async with self._preparing:
                if self._following is None:
                    self._following = await leaves.ready_leaf(self._sealing, self._shard)
            if self.memory.spare is None:
                await self._keep_spare(KeySet(self._leaf_rows))
            for leaf in await leaves.full_leaves(self._sealing, self._shard):
                if self._can_put_off:
                    break
                async with self._turns_to_seal:
                    self.is_sealing = True
                    await leaves.seal(
                        self._sealing,
                        leaf,
                        generation=self.memory.upcoming_generation(),
                        tally=self._tallies.pop(leaf, None),
                    )
                self.is_sealing = False
                crashpoint(SEALED)
                await self._settle(leaf)
                self._full.wake()
            await self._settle_backfills()
            await self._full.pause(LOOK_SECONDS)

    async def _settle_backfills(self) -> None:
        while self._unfrozen:
            await leaves.freeze(self._sealing, self._unfrozen.pop())
        for generation in self.memory.backfilled[:-1]:
            if not generation.is_kept:
                await leaves.keep_filter(self._sealing, self._shard, generation)
                generation.is_kept = True

    async def tend_open_leaf(self) -> None:
        """Until the end of the shard's time with this owner."""
        await self._tending.run()

    async def _settle(self, leaf: int) -> None:
        """Move the keys of a leaf that has its index into the filter, in small steps with time between: senders are
        waiting, and nobody waits for this.
        """
        recent = self.memory.recent[leaf]
        generation = self.memory.generation_of(leaf)
        for first in range(0, recent.places, STEP_PLACES):
            await asyncio.to_thread(_move, recent, generation.filter, first)
            await asyncio.sleep(STEP_SECONDS)
        if generation.is_complete:
            await leaves.keep_filter(self._sealing, self._shard, generation)
        # Known to the filter before they are forgotten here: no key is ever in neither.
        async with self._judging:
            del self.memory.recent[leaf]
        if self.memory.spare is None:
            await self._keep_spare(recent)

    async def _keep_spare(self, keys: KeySet) -> None:
        """For the next leaf. Its memory is fetched beside whoever is writing, who would wait for it."""
        await asyncio.to_thread(keys.clear)
        self.memory.spare = keys
