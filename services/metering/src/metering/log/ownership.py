"""Knows how replicas own shards, as the database tells it: each by a lock, for as long as its connections live.

    REPLICA_CLASS   the number of a replica that is there, and takes shards    one connection of each replica
    OWNER_CLASS     a shard                                                    the connection by which it is written
    OWNED_BY_CLASS  the number of the replica                                  the same connection

Whoever dies loses all three, and no clock has a say in it. The epoch of a shard fences whoever still believes in it.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from metering.log.sharing import Seen

MISSED_SECONDS: Final = 4
OWNER_CLASS: Final = 7_203_158
REPLICA_CLASS: Final = 7_203_161
OWNED_BY_CLASS: Final = 7_203_162
"""Of the advisory locks by which replicas own shards, and are known to each other."""


async def be_missed(connection: asyncpg.Connection) -> None:
    """Let the database notice within seconds when we are gone without a word, as with the power of the machine: for as
    long as it believes in this connection, nobody else becomes the owner."""
    await connection.execute(
        "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2;"
        f" SET tcp_user_timeout = {MISSED_SECONDS * 1_000}"
    )


async def write_to(connection: asyncpg.Connection, shard: int) -> None:
    """Say to which shard it is written: the database refuses positions of sellers who are in another one. A replica of
    a release that knows one shard only says nothing, and is refused too."""
    await connection.execute("SELECT set_config('saldo.shard', $1, false)", str(shard))


async def appear(connection: asyncpg.Connection, replica: int) -> None:
    """Be one of those among whom the shards are divided, for as long as the connection is open."""
    await connection.execute("SELECT pg_advisory_lock_shared($1, $2)", REPLICA_CLASS, replica)


async def look(connection: asyncpg.Connection) -> Seen:
    """Who is there, and who owns what."""
    shards = await connection.fetch("SELECT shard FROM shards")
    locks = await connection.fetch(_LOCKS, [REPLICA_CLASS, OWNER_CLASS, OWNED_BY_CLASS])
    by_class: dict[int, list[asyncpg.Record]] = {}
    for row in locks:
        by_class.setdefault(row["class"], []).append(row)
    replica_of = {row["pid"]: row["number"] for row in by_class.get(OWNED_BY_CLASS, ())}
    return Seen(
        shards=frozenset(row["shard"] for row in shards),
        replicas=frozenset(row["number"] for row in by_class.get(REPLICA_CLASS, ())),
        owners={row["number"]: replica_of.get(row["pid"]) for row in by_class.get(OWNER_CLASS, ())},
    )


async def become_owner(connection: asyncpg.Connection, shard: int, *, address: str, replica: int) -> int | None:
    """Fence whoever owned the shard before; the epoch that is ours. None while another one is connected."""
    await connection.execute("SELECT pg_advisory_lock_shared($1, $2)", OWNED_BY_CLASS, replica)
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", OWNER_CLASS, shard):
        return None
    await write_to(connection, shard)
    # Waits for a commit of the owner before that is still under way: every commit holds this row.
    epoch: int = await connection.fetchval(
        "INSERT INTO shards AS s (shard, epoch, address) VALUES ($1, 1, $2)"
        " ON CONFLICT (shard) DO UPDATE SET epoch = s.epoch + 1, address = excluded.address RETURNING epoch",
        shard,
        address,
    )
    return epoch


async def owner_addresses(connection: asyncpg.Connection) -> dict[int, str]:
    """Of the last owner of each shard; empty where there was none."""
    return {row["shard"]: row["address"] for row in await connection.fetch("SELECT shard, address FROM shards")}


# Of this database only: a server has several, and the numbers of their locks may be the same.
_LOCKS: Final = """
SELECT l.classid::bigint AS class, l.objid::bigint AS number, l.pid FROM pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = ANY ($1::oid[])
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
"""
