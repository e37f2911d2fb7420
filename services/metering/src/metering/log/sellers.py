"""Knows in which shard a seller's usage events are: decided when a seller is first seen, and never again.

What is decided is a row of `positions`, which has one for each seller, so of two replicas that decide at once one is
right and the other goes by it, whatever their settings say. All of a seller's events being in one shard is what makes
it enough for a shard to know its own.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import xxhash

from common.caller import EVERY_SELLER, service_caller
from common.db import Database

SELLERS_MAX: Final = 100_000
"""So many are kept at hand."""


class Sellers:
    def __init__(self, database: Database, *, shards: int) -> None:
        """`shards` is among how many those are divided that are new."""
        self._database = database
        self._shards = shards
        self._known: dict[str, int] = {}

    async def shard_of(self, seller_id: str) -> int:
        known = self._known.get(seller_id)
        if known is not None:
            return known
        async with self._database.transaction(service_caller(self._database.service, EVERY_SELLER)) as tx:
            found = await _decided(tx.driver, seller_id)
            if found is None:
                await tx.driver.execute(_DECIDE, seller_id, shard_for(seller_id, shards=self._shards))
                found = await _decided(tx.driver, seller_id)
        assert found is not None, "what was there before, or was added, is there"
        if len(self._known) >= SELLERS_MAX:
            self._known.clear()
        self._known[seller_id] = found
        return found


def shard_for(seller_id: str, *, shards: int) -> int:
    """Where a seller who is new belongs: as many in one as in another, about."""
    return xxhash.xxh3_64_intdigest(seller_id.encode()) % shards


async def _decided(connection: asyncpg.Connection, seller_id: str) -> int | None:
    found: int | None = await connection.fetchval("SELECT shard FROM positions WHERE seller_id = $1", seller_id)
    return found


# A shard that has sellers is one of those that are always owned, however many are set.
_DECIDE: Final = """
WITH shard AS (
    INSERT INTO shards (shard) VALUES ($2) ON CONFLICT (shard) DO NOTHING
)
INSERT INTO positions (seller_id, last, shard) VALUES ($1, 0, $2) ON CONFLICT (seller_id) DO NOTHING
"""
