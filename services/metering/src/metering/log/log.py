"""Knows the log as a whole: its shards, and which seller's events are in which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from common.caller import EVERY_SELLER, service_caller
from common.db import Database
from common.telemetry import Telemetry
from metering.log import leaves
from metering.log.backfills import Settlement
from metering.log.batch import Batch, Keys
from metering.log.owner import Stored
from metering.log.shard import Shard


class Log:
    def __init__(
        self, database: Database, *, leaf_rows: int, telemetry: Telemetry, address: Callable[[], str] = str
    ) -> None:
        """`address` is where other replicas reach this one."""
        self._database = database
        self._keys: Keys | None = None
        self._shards = [Shard(database, 0, leaf_rows=leaf_rows, address=address, telemetry=telemetry)]

    async def keys(self) -> Keys:
        """Of the events in the log. Asks the database once."""
        if self._keys is None:
            async with self._database.transaction(service_caller(self._database.service, EVERY_SELLER)) as tx:
                self._keys = Keys(await leaves.seed(tx.driver))
        return self._keys

    async def append(self, batch: Batch, asked: Sequence[tuple[str, bytes]] = ()) -> Stored:
        return await self._shards[0].append(batch, asked)

    async def settle(self, settlement: Settlement) -> None:
        """Close or revert a backfill."""
        await self._shards[0].settle(settlement)

    @property
    def owned(self) -> asyncio.Event:
        """Whether it is this replica that stores."""
        return self._shards[0].owned

    async def owner_address(self) -> str:
        """Where the replica is reached that stores, or did last; empty when none ever has."""
        return await self._shards[0].owner_address()

    def stop(self) -> None:
        for each in self._shards:
            each.stop()

    async def run(self) -> None:
        await asyncio.gather(*(each.run() for each in self._shards))
