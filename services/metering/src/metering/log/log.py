"""Knows the log as a whole: its shards, which of them this replica owns, and in which one a seller's events are."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import asyncpg

from common.caller import EVERY_SELLER, service_caller
from common.db import Database, DatabaseUnavailable
from common.pace import Pace
from common.telemetry import Telemetry
from metering.log import leaves, ownership
from metering.log.backfills import Settlement
from metering.log.batch import Batch, Keys
from metering.log.group import Stored
from metering.log.sellers import Sellers
from metering.log.shard import Replica, Shard
from metering.log.sharing import Sharing

LOOK_SECONDS: Final = 0.25
"""A shard that was left is noticed within so long."""
FAILURE_SECONDS: Final = 0.2
SEALED_TOGETHER: Final = 2
"""Leaves of all shards of a replica."""
REPLICAS_MAX: Final = 2**31
"""Numbers of replicas are drawn below."""


class Log:
    def __init__(
        self,
        database: Database,
        *,
        leaf_rows: int,
        telemetry: Telemetry,
        address: Callable[[], str] = str,
        shards: int = 1,
    ) -> None:
        """`address` is where other replicas reach this one, `shards` among how many sellers who are new are divided."""
        self._database = database
        self._telemetry = telemetry
        self._keys: Keys | None = None
        self._sellers = Sellers(database, shards=shards)
        self._replica = Replica(
            number=secrets.randbelow(REPLICAS_MAX),
            leaf_rows=leaf_rows,
            address=address,
            telemetry=telemetry,
            sealing=asyncio.Semaphore(SEALED_TOGETHER),
        )
        self._sharing = Sharing(self._replica.number, shards=shards)
        self._shards: dict[int, Shard] = {}
        self._owning: dict[int, asyncio.Task[None]] = {}
        self._pace = Pace()

    async def keys(self) -> Keys:
        """Of the events in the log. Asks the database once."""
        if self._keys is None:
            async with self._database.transaction(service_caller(self._database.service, EVERY_SELLER)) as tx:
                self._keys = Keys(await leaves.seed(tx.driver))
        return self._keys

    async def shard_of(self, seller_id: str) -> Shard:
        """Asks the database once for each seller, and decides it for one who is new."""
        return self._shard(await self._sellers.shard_of(seller_id))

    async def append(self, batch: Batch, asked: Sequence[tuple[str, bytes]] = ()) -> Stored:
        return await (await self.shard_of(batch.seller_id)).append(batch, asked)

    async def settle(self, settlement: Settlement) -> None:
        """Close or revert a backfill."""
        await (await self.shard_of(settlement.seller_id)).settle(settlement)

    async def owner_addresses(self) -> Mapping[int, str]:
        """Where the replicas are reached that store each of the shards, or did last; empty where none ever has."""
        async with self._database.transaction(service_caller(self._database.service, EVERY_SELLER)) as tx:
            return await ownership.owner_addresses(tx.driver)

    @property
    def owned_shards(self) -> list[int]:
        """Those that this replica stores."""
        return [number for number, shard in self._shards.items() if shard.owned.is_set()]

    def stop(self) -> None:
        """Take no more shards, store what is waiting in those that are owned, then return from `run`."""
        self._pace.stop()
        for number in self._owning:
            self._shards[number].stop()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as owning:
            while not self._pace.stopping:
                try:
                    async with self._database.session() as session:
                        await ownership.be_missed(session)
                        await ownership.appear(session, self._replica.number)
                        await self._share(session, owning)
                except (
                    DatabaseUnavailable,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                    OSError,
                    TimeoutError,
                ) as lost:
                    self._telemetry.log.warning("replicas not seen", error=str(lost))
                    await self._pace.rest(FAILURE_SECONDS)

    async def _share(self, session: asyncpg.Connection, owning: asyncio.TaskGroup) -> None:
        while not self._pace.stopping:
            self._pace.listen()
            seen = await ownership.look(session)
            now = time.monotonic()
            self._own(self._sharing.take(seen, now=now), owning)
            if len(self.owned_shards) == len(self._owning) and self._sharing.is_to_give(seen, now=now):
                self._give_up_one()
            await self._pace.pause(LOOK_SECONDS)

    def _own(self, numbers: Iterable[int], owning: asyncio.TaskGroup) -> None:
        for number in numbers:
            if number not in self._owning and not self._pace.stopping:
                task = self._owning[number] = owning.create_task(self._shard(number).own(), name=f"shard {number}")
                task.add_done_callback(partial(self._ended, number))

    def _ended(self, number: int, _: asyncio.Task[None]) -> None:
        del self._owning[number]
        self._pace.wake()

    def _give_up_one(self) -> None:
        idle = [number for number in self.owned_shards if self._shards[number].is_idle]
        if idle:
            number = max(idle)
            self._telemetry.log.info("shard given up", shard=number)
            self._shards[number].give_up()

    def _shard(self, number: int) -> Shard:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = Shard(self._database, number, self._replica)
        return shard
