"""Knows how a door gets hold of the world: a `Database` gives a `Tx`, and a `Tx` is all that a use case may touch.

One request, one message or one due job is one transaction at one instant. There is no `commit`: the door that opened
the transaction commits it. Row-level security beneath shows a transaction only the rows of its seller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

import asyncpg
from google.protobuf.message import Message
from sqlalchemy import CursorResult, Executable, pool
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common import clock, ids, outbox
from common.caller import EVERY_SELLER, Caller
from common.errors import Unavailable
from common.ids import SellerId

POOL_WAIT_SECONDS: Final = 10
STATEMENT_TIMEOUT: Final = "30s"
LOCK_TIMEOUT: Final = "10s"
IDLE_IN_TRANSACTION_TIMEOUT: Final = "60s"

# A connection that is gone before the first statement has harmed nobody; a pool full of them is tried once through.
LOST: Final = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError, OSError)


class DatabaseUnavailable(Unavailable):
    """The database did not answer. Whether the last commit happened is unknown: read by id, or repeat the request."""


class Tx:
    """One transaction, at one instant, for one seller.

    `execute` runs SQL, `emit` announces a fact if and only if the transaction commits, `now` is when it began, `new_id`
    mints an id, `seller_id` and `actor` say on whose behalf.
    """

    __slots__ = ("_connection", "_emitted", "actor", "driver", "now", "seller_id")

    def __init__(
        self,
        connection: AsyncConnection,
        driver: asyncpg.Connection,
        *,
        seller_id: SellerId,
        actor: str,
        now: datetime,
        emitted: list[outbox.Emitted],
    ) -> None:
        self._connection = connection
        self._emitted = emitted
        self.driver = driver  # for the hot paths: COPY, and statements over many rows
        self.seller_id = seller_id
        self.actor = actor
        self.now = now

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
    ) -> CursorResult[Any]:  # Any: rows are typed where store.py makes domain values of them
        """Run a statement; its result is already here."""
        return await self._connection.execute(statement, parameters)

    async def emit(self, event: Message) -> None:
        """Announce a fact: written to the outbox by the commit, published soon after."""
        self._emitted.append(outbox.emitted(event, seller_id=self.seller_id, at=self.now))

    def new_id(self, prefix: str) -> str:
        return ids.mint(prefix, self.now)

    async def for_seller(self, seller_id: SellerId) -> Tx:
        """The same transaction on behalf of one seller; only for a caller who acts for every seller."""
        if self.seller_id not in (EVERY_SELLER, seller_id):
            raise ValueError(f"a transaction of {self.seller_id} cannot act for {seller_id}")
        return Tx(
            self._connection,
            self.driver,
            seller_id=seller_id,
            actor=self.actor,
            now=await _now(self.driver, seller_id),
            emitted=self._emitted,
        )


class Database:
    """The service's own database: a bounded pool of connections, and the transactions on them."""

    def __init__(self, url: str, *, service: str, pool_size: int = 8) -> None:
        self.service = service
        self._url = url
        self._pool_size = pool_size
        self._engine: AsyncEngine = create_async_engine(
            url,
            # Transactions are begun and ended by hand, in one round trip each.
            isolation_level="AUTOCOMMIT",
            poolclass=pool.AsyncAdaptedQueuePool,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_reset_on_return=None,
            connect_args={
                "timeout": POOL_WAIT_SECONDS,
                "server_settings": {
                    "application_name": service,
                    "statement_timeout": STATEMENT_TIMEOUT,
                    "lock_timeout": LOCK_TIMEOUT,
                    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
                    "timezone": "UTC",
                    "jit": "off",
                },
            },
        )
        self._on_commit: list[Callable[[], None]] = []

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every commit: how relay and jobs learn promptly that there may be something to do."""
        self._on_commit.append(wake)

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self, caller: Caller) -> AsyncIterator[Tx]:
        """Begin, hand out the `Tx`, commit; roll back if the body raises.

        Fails with DatabaseUnavailable when there is no connection to be had, and when one is lost on the way.
        """
        async with self._connected(caller.seller_id) as (connection, driver):
            tx = Tx(
                connection,
                driver,
                seller_id=caller.seller_id,
                actor=caller.actor,
                now=await _now(driver, caller.seller_id),
                emitted=[],
            )
            yield tx
            await outbox.write(driver, tx._emitted)
            await driver.execute("COMMIT")
        for wake in self._on_commit:
            wake()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own, outside the pool, that sees every seller: for loops that hold locks."""
        try:
            connection = await asyncpg.connect(
                self._url.replace("postgresql+asyncpg://", "postgresql://", 1),
                timeout=POOL_WAIT_SECONDS,
                server_settings={"application_name": f"{self.service} loop", "timezone": "UTC", "jit": "off"},
            )
        except LOST as error:
            raise DatabaseUnavailable("the database cannot be reached") from error
        try:
            await connection.execute(f"SELECT set_config('saldo.seller', '{EVERY_SELLER}', false)")
            yield connection
        except LOST as error:
            raise DatabaseUnavailable("the database went away") from error
        finally:
            with suppress(*LOST, TimeoutError):
                await connection.close(timeout=POOL_WAIT_SECONDS)

    @asynccontextmanager
    async def _connected(self, seller_id: SellerId) -> AsyncIterator[tuple[AsyncConnection, asyncpg.Connection]]:
        connection, driver = await self._begin(seller_id)
        done = False
        try:
            yield connection, driver
            done = True
        except (InterfaceError, *LOST) as error:
            raise DatabaseUnavailable("the database went away") from error
        except DBAPIError as error:
            if error.connection_invalidated or isinstance(_cause(error), LOST):
                raise DatabaseUnavailable("the database went away") from error
            raise
        finally:
            await self._give_back(connection, driver, committed=done)

    async def _begin(self, seller_id: SellerId) -> tuple[AsyncConnection, asyncpg.Connection]:
        # Checked TypeID or "*": nothing that needs quoting can be in it.
        begin = f"BEGIN; SELECT set_config('saldo.seller', '{seller_id}', true)"
        error: Exception | None = None
        for _ in range(self._pool_size + 1):
            try:
                connection = await self._engine.connect()
            except (PoolTimeout, DBAPIError, *LOST) as failure:
                raise DatabaseUnavailable("no connection to the database is free") from failure
            try:
                driver = (await connection.get_raw_connection()).driver_connection
                assert isinstance(driver, asyncpg.Connection)
                await driver.execute(begin)
                return connection, driver
            except LOST as failure:
                error = failure
                await connection.invalidate()
                await connection.close()
            except BaseException:
                await connection.invalidate()
                await connection.close()
                raise
        raise DatabaseUnavailable("every connection to the database is gone") from error

    @staticmethod
    async def _give_back(connection: AsyncConnection, driver: asyncpg.Connection, *, committed: bool) -> None:
        try:
            if not committed and not driver.is_closed():
                await driver.execute("ROLLBACK")
        except BaseException:
            # A connection in doubt is not handed to anyone else.
            await connection.invalidate()
            raise
        finally:
            if driver.is_closed():
                await connection.invalidate()
            await connection.close()


async def _now(driver: asyncpg.Connection, seller_id: SellerId) -> datetime:
    if not ids.is_sandbox(seller_id):
        return clock.wall()
    time: datetime | None = await driver.fetchval("SELECT time FROM clocks WHERE seller_id = $1", seller_id)
    if time is not None:
        return time
    # Seen here for the first time: from now on jobs can be due by its clock.
    time = await driver.fetchval(
        "INSERT INTO clocks (seller_id, time) VALUES ($1, $2)"
        " ON CONFLICT (seller_id) DO UPDATE SET time = clocks.time RETURNING time",
        seller_id,
        ids.instant_of(seller_id),
    )
    assert time is not None
    return time


def _cause(error: DBAPIError) -> BaseException | None:
    return error.orig.__cause__ if error.orig is not None else None
