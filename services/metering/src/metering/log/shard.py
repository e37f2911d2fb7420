"""Knows how one shard of the log is written: by one owner, in groups, each a commit, each answered when it is durable.

    requests ─► waiting, by seller ─► group: prepared, as long as the one before is being written ─► written ─► answered

Whatever goes wrong with a commit, the owner cannot know any more what is stored: then all that were under way are told
so, and the shard is owned anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import asyncpg

from common.db import Database, DatabaseUnavailable
from common.pace import Pace, Stopwatch
from common.telemetry import Telemetry
from metering.domain.errors import IngestMoving, IngestOverloaded
from metering.log import ownership
from metering.log.backfills import Settlement
from metering.log.batch import Batch
from metering.log.group import Group, Stored, Waiting
from metering.log.owner import Connections, Owner
from metering.log.settling import Settling

WAITING_EVENTS_MAX: Final = 200_000
"""How much may wait; more is refused."""
SELLER_SHARE: Final = 2
"""No seller may have more waiting than this part of it."""
GROUP_EVENTS_MAX: Final = 20_000
GATHER_SECONDS: Final = 0.01
"""While a leaf gets its indexes, and the database has no processor to spare: what comes within this time is written
together. Each commit costs it two milliseconds, whatever is in it.
"""
GATHER_EVENTS: Final = 5_000
"""So many are not kept waiting for more."""
OWNER_SECONDS_MAX: Final = 5
"""How long a request waits for somebody to own the shard."""
FAILURE_SECONDS: Final = 0.2
LINGER_SECONDS: Final = 0.3
"""For so long a shard is still stored here that was given up: what is on its way to it was taken when it was ours."""
IDLE_SECONDS: Final = 10
RETRY_SECONDS: Final = 1
SHARD: Final = "shard"
"""Of a figure that each has for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """What all shards of one process have in common."""

    number: int
    """By which the others know it."""
    leaf_rows: int
    address: Callable[[], str]
    """Where the others reach it."""
    telemetry: Telemetry
    sealing: asyncio.Semaphore
    """For each leaf that gets its indexes the database sorts in memory."""


class Shard:
    def __init__(self, database: Database, number: int, replica: Replica) -> None:
        self.number = number
        self._database = database
        self._replica = replica
        self._log = replica.telemetry.log
        self._stored = replica.telemetry.meter.create_counter("saldo.usage_events.stored")
        self._memory_bytes = replica.telemetry.meter.create_gauge("saldo.usage_events.memory_bytes")
        self._waiting: dict[str, deque[Waiting]] = {}
        self._waiting_events: dict[str, int] = {}
        self._settling = Settling()
        self._pace = Pace()
        self._is_serving = False
        self._is_stopped = False
        self.owned = asyncio.Event()
        """Whether it is this replica that stores. For a moment it still does when that is over."""

    async def append(self, batch: Batch, asked: Sequence[tuple[str, bytes]] = ()) -> Stored:
        """Store what is new of a batch; returns when that is durable.

        Fails with IngestOverloaded when too much is waiting, with IngestMoving when it is not known whether it was
        stored, or nobody is there to store it: then the same batch is to be sent again.
        """
        if not self._is_serving:
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
        self._waiting.setdefault(seller_id, deque()).append(Waiting(batch, asked, done, Stopwatch()))
        self._waiting_events[seller_id] = own + size
        self._pace.wake()
        return await done

    async def settle(self, settlement: Settlement) -> None:
        """Close or revert a backfill; returns when that is durable. Fails as `append` does."""
        if not self._is_serving:
            await self._wait_for_owner()
        done = self._settling.ask(settlement)
        self._pace.wake()
        await done

    async def _wait_for_owner(self) -> None:
        try:
            async with asyncio.timeout(OWNER_SECONDS_MAX):
                while not self.owned.is_set():  # it may have been given up since somebody woke us
                    await self.owned.wait()
        except TimeoutError:
            message = "another replica stores usage events, or is about to"
            raise IngestMoving(message, retry_seconds=RETRY_SECONDS) from None

    @property
    def is_idle(self) -> bool:
        """Whether it can be given up without keeping anybody waiting for long."""
        return self.owned.is_set() and self._settling.paused is None

    def give_up(self) -> None:
        """Leave it to another replica: what comes from now on is handed on, what is here already is stored."""
        self.owned.clear()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._pace.stop)

    def stop(self) -> None:
        """Store what is waiting, then return from `own`, for good."""
        self._is_stopped = True
        self._pace.stop()

    async def own(self) -> None:
        """Be the owner until that is lost or given up. Returns at once if another replica is."""
        if self._is_stopped:
            return
        self._pace = Pace()
        self._taken = Stopwatch()
        try:
            async with (
                self._database.session() as writing,
                self._database.session() as looking,
                self._database.session() as sealing,
                self._database.session() as tending,
            ):
                await self._own(Connections(writing, looking, sealing, tending))
        except (DatabaseUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self._log.warning("shard lost", shard=self.number, error=str(error))
            await self._pace.rest(FAILURE_SECONDS)
        finally:
            self._end()

    async def _own(self, connections: Connections) -> None:
        await ownership.be_missed(connections.writing)
        epoch = await ownership.become_owner(
            connections.writing, self.number, address=self._replica.address(), replica=self._replica.number
        )
        if epoch is None:
            return
        owner = Owner(self.number, epoch, connections, leaf_rows=self._replica.leaf_rows, sealing=self._replica.sealing)
        await owner.open()
        self._is_serving = True
        self.owned.set()
        self._log.info("shard owned", shard=self.number, epoch=epoch, memory_mb=owner.size_bytes >> 20)
        beside = [asyncio.create_task(each) for each in (owner.seal_full_leaves(), owner.tend_open_leaf())]
        for each in beside:
            each.add_done_callback(lambda _: self._pace.wake())
        under_way = _UnderWay()
        try:
            await self._serve(owner, beside, under_way)
        finally:
            self._is_serving = False
            self.owned.clear()
            for each in beside:
                each.cancel()
            await asyncio.gather(*beside, under_way.stopped(), self._settling.stopped(), return_exceptions=True)
            self._refuse(under_way.senders())

    async def _serve(self, owner: Owner, beside: Sequence[asyncio.Task[None]], under_way: _UnderWay) -> None:
        async def settle(settlement: Settlement) -> None:
            async with self._database.session() as connection:
                await ownership.be_missed(connection)
                await ownership.write_to(connection, self.number)
                await owner.settle(connection, settlement)

        while True:
            self._pace.listen()
            for each in beside:
                if each.done():
                    each.result()
            if (written := under_way.written()) is not None:
                self._answer(owner, written)
            if self._settling.paused is not None:
                self._settling.go_on(settle, busy=under_way.sellers(), then=self._pace.wake)
            gather_seconds = self._gather_seconds(under_way) if owner.is_sealing else 0
            may_take = gather_seconds <= 0 and not owner.leaf_is_full
            taken = self._take(GROUP_EVENTS_MAX - under_way.group.size) if may_take else []
            if taken:
                self._taken = Stopwatch()
                await owner.prepare(taken, under_way.group)
            if under_way.may_write():
                under_way.write(owner, self._pace.wake)
            elif not under_way and owner.leaf_is_full:
                await owner.turn()
            elif not taken:
                if self._pace.stopping:
                    if not under_way:
                        return
                    await under_way.finished()
                await self._pace.pause(gather_seconds if gather_seconds > 0 else IDLE_SECONDS)

    def _gather_seconds(self, under_way: _UnderWay) -> float:
        """For how long it may pay to wait for more. A sender who is alone waits for nobody."""
        if not under_way or sum(self._waiting_events.values()) + under_way.group.size >= GATHER_EVENTS:
            return 0
        return GATHER_SECONDS - self._taken.seconds

    def _answer(self, owner: Owner, written: Group) -> None:
        for each, stored in zip(written.senders, written.found, strict=True):
            if not each.done.done():  # its sender may be gone
                each.done.set_result(stored)
        owner.answered(written)
        self._stored.add(written.size)
        self._memory_bytes.set(owner.size_bytes, {SHARD: self.number})

    def _take(self, room: int) -> list[Waiting]:
        """Who comes next: of every seller in turn, as long as there is room."""
        taken: list[Waiting] = []
        size = 0
        paused = self._settling.paused
        while size < room and (sellers := [each for each in self._waiting if each != paused]):
            for seller_id in sellers:
                queue = self._waiting[seller_id]
                each = queue.popleft()
                if not queue:
                    del self._waiting[seller_id]
                self._waiting_events[seller_id] -= len(each.batch)
                if not self._waiting_events[seller_id]:
                    del self._waiting_events[seller_id]
                taken.append(each)
                size += len(each.batch)
                if size >= room:
                    break
        return taken

    def _end(self) -> None:
        self.owned.clear()
        self._memory_bytes.set(0, {SHARD: self.number})
        waiting = [each for queue in self._waiting.values() for each in queue]
        self._waiting.clear()
        self._waiting_events.clear()
        self._refuse(waiting)
        self._settling.refuse()

    def _refuse(self, waiting: Sequence[Waiting]) -> None:
        for each in waiting:
            if not each.done.done():
                each.done.set_exception(
                    IngestMoving("it is not known whether this was stored: send it again", retry_seconds=RETRY_SECONDS)
                )


class _UnderWay:
    """What was taken and is not answered: a group that is being written, and one that is prepared meanwhile."""

    def __init__(self) -> None:
        self.group = Group()
        self._written = Group()
        self._writing: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        return self._writing is not None or bool(self.group.senders)

    def may_write(self) -> bool:
        return self._writing is None and bool(self.group.senders)

    def write(self, owner: Owner, then: Callable[[], None]) -> None:
        self._written, self.group = self.group, Group()
        self._writing = asyncio.create_task(owner.write(self._written))
        self._writing.add_done_callback(lambda _: then())

    def written(self) -> Group | None:
        """The group that is durable now; fails as its commit did."""
        if self._writing is None or not self._writing.done():
            return None
        self._writing.result()
        self._writing = None
        return self._written

    async def finished(self) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def stopped(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing

    def sellers(self) -> set[str]:
        """Of whom something is not stored yet."""
        written = () if self._writing is None else self._written.senders
        return {each.batch.seller_id for each in (*written, *self.group.senders)}

    def senders(self) -> list[Waiting]:
        return [*self._written.senders, *self.group.senders]
