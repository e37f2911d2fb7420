"""Knows how one shard of the log is written: by one owner, in groups, each a commit, each answered when it is durable.

    requests ─► waiting, by seller ─► group ─► which are new? ─► rows ─► one transaction ─► answered
                                               memory, indexes           epoch, keys, positions, COPY

The owner knows by heart what was written. Whatever goes wrong with a commit, it cannot know any more: then it forgets
everything, fences whoever might still be at it, itself included, and reads the log anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import asyncpg
import numpy as np

from common.caller import EVERY_SELLER, service_caller
from common.crash import crashpoint, register
from common.db import Database, DatabaseUnavailable
from common.ids import SellerId
from common.pace import Pace
from common.telemetry import Telemetry
from metering.domain.errors import IngestMoving, IngestOverloaded
from metering.log import leaves
from metering.log.batch import Batch, Keys, Mask
from metering.log.leaves import Ingest, Leaf
from metering.log.memory import Memory
from metering.log.names import Names, Pairs
from metering.log.rows import rows

WAITING_EVENTS_MAX: Final = 200_000
"""How much may wait; more is refused."""
SELLER_SHARE: Final = 2
"""No seller may have more waiting than this part of it."""
GROUP_EVENTS_MAX: Final = 20_000
UNSEALED_MAX: Final = 3
"""How many full leaves may wait for their indexes before ingest waits for them."""
OWNER_SECONDS_MAX: Final = 5
"""How long a request waits for somebody to own the shard."""
STANDBY_SECONDS: Final = 0.5
FAILURE_SECONDS: Final = 0.2
IDLE_SECONDS: Final = 10
LOOK_SECONDS: Final = 1
CALM_EVENTS: Final = 20_000
"""Fewer than this between two looks is little."""
BARE_EVENTS: Final = 5_000
"""So many are read as fast as an index."""
STEP_KEYS: Final = 20_000
RETRY_SECONDS: Final = 1

BEFORE_COMMIT: Final = register("ingest.before_commit", "usage events are written and not committed")
COMMITTED: Final = register("ingest.committed", "usage events are committed and their senders do not know")
SEALED: Final = register("ingest.sealed", "a leaf of the log has its indexes, and its keys are in no filter")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch."""

    fresh: Mask | None
    """Which of its events were stored; None for all of them. The others had been before."""
    known: Sequence[bool]
    """Which of the events that were asked about had been before."""


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    pairs: Pairs
    asked: Sequence[tuple[str, bytes]]
    """Sources and ids of events that cannot be stored, of which it is to be said whether they had been before."""
    done: asyncio.Future[Stored]


class Shard:
    def __init__(
        self, database: Database, number: int, *, leaf_rows: int, address: Callable[[], str], telemetry: Telemetry
    ) -> None:
        self.number = number
        self._database = database
        self._leaf_rows = leaf_rows
        self._address = address
        self._log = telemetry.log
        self._stored = telemetry.meter.create_counter("saldo.usage_events.stored")
        self._memory_bytes = telemetry.meter.create_gauge("saldo.usage_events.memory_bytes")
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._waiting_events: dict[str, int] = {}
        self._pace = Pace()
        self.owned = asyncio.Event()

    async def append(self, batch: Batch, asked: Sequence[tuple[str, bytes]] = ()) -> Stored:
        """Store what is new of a batch; returns when that is durable.

        Fails with IngestOverloaded when too much is waiting, with IngestMoving when it is not known whether it was
        stored, or nobody is there to store it: then the same batch is to be sent again.
        """
        if not self.owned.is_set():
            await self._wait_for_owner()
        seller_id, size = batch.seller_id, len(batch)
        own = self._waiting_events.get(seller_id, 0)
        if sum(self._waiting_events.values()) + size > WAITING_EVENTS_MAX or (
            own + size > WAITING_EVENTS_MAX // SELLER_SHARE
        ):
            raise IngestOverloaded(
                f"{own} of your usage events are waiting to be stored", retry_seconds=RETRY_SECONDS, waiting=own
            )
        done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(seller_id, deque()).append(_Waiting(batch, Pairs.of(batch), asked, done))
        self._waiting_events[seller_id] = own + size
        self._pace.wake()
        return await done

    async def owner_address(self) -> str:
        async with self._database.transaction(service_caller(self._database.service, EVERY_SELLER)) as tx:
            return await leaves.owner_address(tx.driver, self.number)

    async def _wait_for_owner(self) -> None:
        try:
            async with asyncio.timeout(OWNER_SECONDS_MAX):
                await self.owned.wait()
        except TimeoutError:
            message = "another replica stores usage events, or is about to"
            raise IngestMoving(message, retry_seconds=RETRY_SECONDS) from None

    def stop(self) -> None:
        """Store what is waiting, then return from `run`."""
        self._pace.stop()

    async def run(self) -> None:
        while not self._pace.stopping:
            try:
                async with self._database.session() as connection, self._database.session() as second:
                    await self._own(connection, second)
            except (DatabaseUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                self._log.warning("shard lost", shard=self.number, error=str(error))
                await self._pace.rest(FAILURE_SECONDS)
            finally:
                self._give_up()

    async def _own(self, connection: asyncpg.Connection, second: asyncpg.Connection) -> None:
        await leaves.be_missed(connection)
        while (epoch := await leaves.become_owner(connection, self.number, address=self._address())) is None:
            await self._pace.rest(STANDBY_SECONDS)
            if self._pace.stopping:
                return
        owner = _Owner(self.number, epoch, connection, second, leaf_rows=self._leaf_rows)
        await owner.open()
        self.owned.set()
        self._log.info("shard owned", shard=self.number, epoch=epoch, memory_mb=owner.memory.size_bytes >> 20)
        sealing = asyncio.create_task(owner.seal_full_leaves())
        sealing.add_done_callback(lambda _: self._pace.wake())
        try:
            await self._serve(owner, sealing)
        finally:
            sealing.cancel()
            await asyncio.gather(sealing, return_exceptions=True)

    async def _serve(self, owner: _Owner, sealing: asyncio.Task[None]) -> None:
        while True:
            self._pace.listen()
            if sealing.done():
                sealing.result()
            taken = self._take()
            if not taken:
                if self._pace.stopping:
                    return
                await self._pace.pause(IDLE_SECONDS)
                continue
            try:
                found = await owner.store(taken)
            except BaseException:
                self.owned.clear()
                self._refuse(taken)
                raise
            for each, stored in zip(taken, found, strict=True):
                if not each.done.done():  # its sender may be gone
                    each.done.set_result(stored)
            self._stored.add(sum(len(each.batch) for each in taken))
            self._memory_bytes.set(owner.memory.size_bytes)

    def _take(self) -> list[_Waiting]:
        """The next group: of every seller in turn, as long as there is room."""
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and size < GROUP_EVENTS_MAX:
            for seller_id in list(self._waiting):
                queue = self._waiting[seller_id]
                each = queue.popleft()
                if not queue:
                    del self._waiting[seller_id]
                self._waiting_events[seller_id] -= len(each.batch)
                if not self._waiting_events[seller_id]:
                    del self._waiting_events[seller_id]
                taken.append(each)
                size += len(each.batch)
                if size >= GROUP_EVENTS_MAX:
                    break
        return taken

    def _give_up(self) -> None:
        self.owned.clear()
        waiting = [each for queue in self._waiting.values() for each in queue]
        self._waiting.clear()
        self._waiting_events.clear()
        self._refuse(waiting)

    def _refuse(self, waiting: Sequence[_Waiting]) -> None:
        for each in waiting:
            if not each.done.done():
                each.done.set_exception(
                    IngestMoving("it is not known whether this was stored: send it again", retry_seconds=RETRY_SECONDS)
                )


def _new(waiting: _Waiting, keys: list[bytes], stored: Stored) -> tuple[Batch, Pairs, list[bytes]]:
    """What of a batch is to be written: what had been before leaves nothing, not even a name."""
    if stored.fresh is None:
        return waiting.batch, waiting.pairs, keys
    places = np.flatnonzero(stored.fresh).tolist()
    batch = waiting.batch.only(places)
    return batch, Pairs.of(batch), [keys[n] for n in places]


class _Owner:
    """One time of owning a shard, from reading the log to the first failure."""

    def __init__(
        self, shard: int, epoch: int, connection: asyncpg.Connection, second: asyncpg.Connection, *, leaf_rows: int
    ) -> None:
        self._shard = shard
        self._epoch = epoch
        self._connection = connection
        self._second = second
        self._leaf_rows = leaf_rows
        self._names = Names()
        self._positions: dict[str, int] = {}
        self._leaf = Leaf(0, 0)
        self._following: int | None = None
        self._sequence = 0
        self._full = Pace()
        self._looked = (0, 0)
        self._indexed = 0
        self._judging = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self.memory = Memory(leaf_rows)

    async def open(self) -> None:
        """Read what has been written. In one snapshot: whoever was the owner before may still be storing a filter,
        which stands for keys that are then gone.
        """
        connection = self._connection
        self._leaf = await leaves.open_leaf(connection, self._shard)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            self._keys = Keys(await leaves.seed(connection))
            self._sequence = await leaves.last_sequence(connection, self._shard)
            self.memory = await leaves.remembered(connection, self._shard, leaf_rows=self._leaf_rows)

    async def store(self, group: Sequence[_Waiting]) -> list[Stored]:
        if self._leaf.row_count >= self._leaf_rows:
            await self._turn()
        keys = [self._keys.of_batch(each.batch) for each in group]
        asked = [
            [self._keys.of(each.batch.seller_id, source, event_id) for source, event_id in each.asked] for each in group
        ]
        found: list[Stored] = []
        async with self._judging:
            known = await self._known([key for each in (*keys, *asked) for key in each])
            for own, questions in zip(keys, asked, strict=True):
                fresh = self.memory.take(own, known=known)
                before = [key in known or self.memory.is_recent(key) for key in questions]
                found.append(Stored(fresh, before))
        await self._write(group, keys, found)
        return found

    async def _write(self, group: Sequence[_Waiting], keys: Sequence[list[bytes]], found: Sequence[Stored]) -> None:
        connection = self._connection
        await self._learn_positions({each.batch.seller_id for each in group} - self._positions.keys())
        new = [_new(*each) for each in zip(group, keys, found, strict=True)]
        await self._names.learn(connection, [(batch, pairs) for batch, pairs, _ in new])
        parts: list[bytes] = []
        ingests: list[Ingest] = []
        lasts: dict[str, int] = {}
        count = 0
        for batch, pairs, own in new:
            if not len(batch):
                continue
            last = self._positions[batch.seller_id]
            parts.append(
                rows(
                    batch,
                    positions=np.arange(last + 1, last + 1 + len(batch)),
                    streams=self._names.streams_of(batch, pairs),
                    sources=self._names.sources_of(batch),
                    keys=own,
                )
            )
            last += len(batch)
            self._positions[batch.seller_id] = lasts[batch.seller_id] = last
            ingests.append(
                Ingest(seller_id=batch.seller_id, position=last, traceparent=batch.traceparent, time=batch.time)
            )
            count += len(batch)
        if not count:
            return
        self._sequence += 1
        if not await leaves.begin(
            connection,
            shard=self._shard,
            epoch=self._epoch,
            leaf=self._leaf.number,
            sequence=self._sequence,
            keys=b"".join([key for _, _, own in new for key in own]),
            lasts=sorted(lasts.items()),
            ingests=ingests,
        ):
            raise DatabaseUnavailable("another replica owns the shard now")
        await leaves.write(connection, self._leaf.number, parts)
        crashpoint(BEFORE_COMMIT)
        await connection.execute("COMMIT")
        crashpoint(COMMITTED)
        self._leaf.row_count += count

    async def _known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those that stand in an index. What is remembered exactly needs no look there."""
        suspects = self.memory.suspects(keys)
        if not suspects:
            return set()
        of_generation = {each.number: each.leaves for each in self.memory.generations}
        found: set[bytes] = set()
        for generation, suspected in suspects.items():
            found |= await leaves.known(self._connection, suspected, leaves=of_generation[generation])
        return found

    async def _learn_positions(self, sellers: set[SellerId]) -> None:
        if not sellers:
            return
        rows = await self._connection.fetch(
            "INSERT INTO positions AS p (seller_id, last, shard) SELECT s, 0, $2 FROM unnest($1::text[]) AS s"
            " ON CONFLICT (seller_id) DO UPDATE SET shard = p.shard RETURNING seller_id, last",
            sorted(sellers),
            self._shard,
        )
        self._positions.update((row["seller_id"], row["last"]) for row in rows)

    async def _turn(self) -> None:
        """To the next leaf; later, if too many are waiting for their indexes."""
        while len(self.memory.recent) > UNSEALED_MAX:
            self._full.listen()
            await self._full.pause(1)
        async with self._preparing:
            following = self._following
            if following is None:
                following = await leaves.ready_leaf(self._connection, self._shard)
            await leaves.turn(self._connection, full=self._leaf, following=following)
            self._following = None
        self._leaf = Leaf(following, 0)
        self.memory.recent[following] = set()
        self._full.wake()

    async def seal_full_leaves(self) -> None:
        """Until the end of the shard's time with this owner."""
        while True:
            self._full.listen()
            async with self._preparing:
                if self._following is None:
                    self._following = await leaves.ready_leaf(self._second, self._shard)
            for leaf in await leaves.full_leaves(self._second, self._shard):
                await leaves.seal(self._second, leaf, generation=self.memory.upcoming_generation())
                crashpoint(SEALED)
                await self._settle(leaf)
                self._full.wake()
            await self._index_when_calm()
            await self._full.pause(LOOK_SECONDS)

    async def _index_when_calm(self) -> None:
        """While little comes in, the leaf that is being written has the index by which it is read; it costs a third of
        the speed, which nobody needs then. Without it a question reads the whole leaf.
        """
        leaf, count = self._leaf.number, self._leaf.row_count
        looked_at, before = self._looked
        self._looked = (leaf, count)
        is_calm = looked_at == leaf and count - before < CALM_EVENTS
        if is_calm and count >= BARE_EVENTS and self._indexed != leaf:
            await leaves.index_open(self._second, leaf)
            self._indexed = leaf

    async def _settle(self, leaf: int) -> None:
        """Move the keys of a leaf that has its index into the filter, in small steps: senders are waiting."""
        recent = self.memory.recent[leaf]
        generation = self.memory.generation_of(leaf)
        keys = iter(recent)
        while part := list(islice(keys, STEP_KEYS)):
            generation.filter.add(b"".join(part))
            await asyncio.sleep(0)
        if generation.is_complete:
            await leaves.keep_filter(self._second, self._shard, generation)
        # Known to the filter before they are forgotten here: no key is ever in neither.
        async with self._judging:
            del self.memory.recent[leaf]
        while recent:
            for _ in range(min(STEP_KEYS, len(recent))):
                recent.pop()
            await asyncio.sleep(0)
