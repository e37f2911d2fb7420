"""Knows how a door gets hold of the world: a `Database` gives a `Tx`, and a `Tx` is all that a use case may touch.

One request, one message or one due job is one transaction at one instant. There is no `commit`: the door that opened
the transaction commits it. Row-level security beneath shows a transaction only the rows of its seller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final

import asyncpg
from google.protobuf.message import Message
from sqlalchemy import CursorResult, Executable, pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common import clock, ids, outbox
from common.caller import EVERY_SELLER, Caller
from common.driver import Connection
from common.errors import Unavailable
from common.ids import SellerId
from common.outbox import Answer
from common.vault import Vault

POOL_WAIT_SECONDS: Final = 10
ROLLBACK_SECONDS: Final = 5
STATEMENT_TIMEOUT: Final = "30s"
LOCK_TIMEOUT: Final = "10s"
IDLE_IN_TRANSACTION_TIMEOUT: Final = "60s"
# What is due in a service with many jobs is a long question, asked all the time: it is to be planned once.
QUESTION_LENGTH_MAX: Final = 128 * 1_024
# For a server that has vanished without a word; one that is there has given up before.
SILENCE_SECONDS: Final = 40

ONE_PLAN: Final = "SET plan_cache_mode = force_generic_plan;"
"""For a connection whose questions differ in the time alone, or the seller. To plan one takes far longer than to answer
it, and PostgreSQL would plan the first five of each anew before it comes to the same plan for all that follow."""

GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # how asyncpg takes it when the server goes away while it looks up a type
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What says by itself that the connection is lost."""

LOST: Final = (*GONE, asyncpg.InterfaceError, asyncpg.TooManyConnectionsError, OSError)
"""What an attempt to reach the database fails with when the database cannot be reached."""


class DatabaseUnavailable(Unavailable):
    """The database did not answer. Whether the last commit happened is unknown: read by id, or repeat the request."""


class TransactionBroken(Exception):
    """A statement failed, the use case hid it, and so the database has undone everything. Nothing was stored."""


class Tx:
    """One transaction, at one instant, for one seller.

    `execute` runs SQL, `emit` announces a fact if and only if the transaction commits, `now` is when it began, `new_id`
    mints an id, `seller_id` and `actor` say on whose behalf, `vault` has the keys of personal data.
    """

    __slots__ = ("_answer", "_connection", "_emitted", "actor", "driver", "now", "seller_id", "vault")

    def __init__(
        self,
        connection: AsyncConnection,
        driver: asyncpg.Connection,
        *,
        seller_id: SellerId,
        actor: str,
        now: datetime,
        emitted: list[outbox.Emitted],
        vault: Vault,
    ) -> None:
        self._connection = connection
        self._emitted = emitted
        self._answer: Answer | None = None
        self.driver = driver  # for the hot paths: COPY, and statements over many rows
        self.seller_id = seller_id
        self.actor = actor
        self.now = now
        self.vault = vault

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
    ) -> CursorResult[Any]:  # Any: rows are typed where store.py makes domain values of them
        """Run a statement; its result is already here."""
        return await self._connection.execute(statement, parameters)

    async def emit(self, event: Message, *, traceparent: str = "") -> None:
        """Announce a fact: written to the outbox by the commit, published soon after.

        `traceparent`: where many are worked on together, the trace that this one goes on with.
        """
        self._emitted.append(outbox.emitted(event, seller_id=self.seller_id, at=self.now, traceparent=traceparent))

    def new_id(self, prefix: str) -> str:
        return ids.mint(prefix, self.now)

    def remember(self, answer: Answer) -> None:
        """For the door: what to answer if the same request comes again; written by the commit, like the events."""
        self._answer = answer

    @property
    def has_told(self) -> bool:
        """Whether there is something to announce, or to remember, that goes with the commit."""
        return bool(self._emitted) or self._answer is not None

    async def for_seller(self, seller_id: SellerId) -> Tx:
        """The same transaction on behalf of one seller; only for a caller who acts for every seller."""
        if self.seller_id not in (EVERY_SELLER, seller_id):
            raise ValueError(f"a transaction of {self.seller_id} cannot act for {seller_id}")
        return Tx(
            self._connection,
            self.driver,
            seller_id=seller_id,
            actor=self.actor,
            now=await now_of(self.driver, seller_id),
            emitted=self._emitted,
            vault=self.vault,
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """A connection, as SQLAlchemy and as asyncpg know it."""

    connection: AsyncConnection
    driver: asyncpg.Connection


class Answers:
    """How the answers to commands are kept, which may be given again: as they are, unless a service knows better."""

    async def kept(self, _tx: Tx, _request: Message, response: Message) -> bytes:
        return response.SerializeToString()

    async def told(self, _tx: Tx, kept: bytes) -> bytes:
        """The response, as bytes, of what `kept` made of it."""
        return kept


class Database:
    """The service's own database: a bounded number of connections, and the transactions on them."""

    def __init__(
        self,
        url: str,
        *,
        service: str,
        pool_size: int = 8,
        vault: Vault | None = None,
        answers: Answers | None = None,
    ) -> None:
        """`vault` and `answers` are for a service that keeps personal data."""
        self.service = service
        self.vault = vault or Vault()
        self.answers = answers or Answers()
        self._url = url
        self._pool_size = pool_size
        self._engine: AsyncEngine = create_async_engine(
            url,
            # Transactions are begun and ended by hand, in one round trip each; and connections are kept here, since
            # taking one from SQLAlchemy's pool costs as much as a statement.
            isolation_level="AUTOCOMMIT",
            poolclass=pool.NullPool,
            # What a statement was given is somebody's token, name or address, and no error may repeat it.
            hide_parameters=True,
            connect_args={
                "connection_class": Connection,
                "timeout": POOL_WAIT_SECONDS,
                "command_timeout": SILENCE_SECONDS,
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
        self._idle: list[_Held] = []
        self._turns = asyncio.Semaphore(pool_size)
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._on_commit: list[Callable[[], None]] = []
        self._on_emit: list[Callable[[], None]] = []

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every commit of more than reading: how jobs learn that there may be something to do."""
        self._on_commit.append(wake)

    def on_emit(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every commit that announces something: how the relay learns of it promptly."""
        self._on_emit.append(wake)

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*self._ending)
        while self._idle:
            await _discard(self._idle.pop())
        await self._engine.dispose()

    def transaction(self, caller: Caller, *, only_reads: bool = False) -> AbstractAsyncContextManager[Tx]:
        """Begin, hand out the `Tx`, commit; roll back if the body raises. Who only reads wakes nobody, and waits for no
        commit.

        Fails with DatabaseUnavailable when there is no connection to be had, and when one is lost on the way.
        """
        return _Transaction(self, caller, only_reads=only_reads)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own, beside the others, that sees every seller: for loops that hold locks."""
        try:
            connection = await asyncpg.connect(
                self._url.replace("postgresql+asyncpg://", "postgresql://", 1),
                connection_class=Connection,
                max_cacheable_statement_size=QUESTION_LENGTH_MAX,
                timeout=POOL_WAIT_SECONDS,
                command_timeout=SILENCE_SECONDS,
                server_settings={"application_name": f"{self.service} loop", "timezone": "UTC", "jit": "off"},
            )
        except LOST as error:
            raise DatabaseUnavailable("the database cannot be reached") from error
        try:
            await connection.execute(f"SELECT set_config('saldo.seller', '{EVERY_SELLER}', false)")
            yield connection
        except Exception as error:
            if is_lost(error, connection):
                raise DatabaseUnavailable("the database went away") from error
            raise
        finally:
            with suppress(*LOST):
                await connection.close(timeout=ROLLBACK_SECONDS)

    async def begin(self, seller_id: SellerId) -> _Held:
        """A connection with a transaction under way. Connections that the server has dropped meanwhile harm nobody."""
        await self._take_turn()
        try:
            # Checked TypeID or "*": nothing that needs quoting can be in it.
            begin = f"BEGIN; SELECT set_config('saldo.seller', '{seller_id}', true)"
            while self._idle:
                held = self._idle.pop()
                try:
                    await held.driver.execute(begin)
                    return held
                except BaseException as error:
                    lost = is_lost(error, held.driver)
                    await _discard(held)
                    if not lost:
                        raise
            held = await self._connect()
            try:
                await held.driver.execute(begin)
            except BaseException:
                await _discard(held)
                raise
            return held
        except (DBAPIError, *LOST) as error:
            self._turns.release()
            raise DatabaseUnavailable("no connection to the database is to be had") from error
        except BaseException:
            self._turns.release()
            raise

    def end_reading(self, held: _Held) -> None:
        """Nothing depends on this commit, and so nobody waits for it."""
        ending = asyncio.create_task(self._end_reading(held))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end_reading(self, held: _Held) -> None:
        try:
            await held.driver.execute("COMMIT")
        except (asyncpg.PostgresError, *LOST) as error:
            await self.roll_back(held, error)
        else:
            await self._give_back(held)

    async def commit(self, held: _Held, tx: Tx) -> None:
        try:
            await outbox.write(held.driver, tx._emitted, answer=tx._answer)
            ended = await held.driver.execute("COMMIT")
            if ended != "COMMIT":
                raise TransactionBroken("a statement failed and the use case went on as if it had not")
        except BaseException as error:
            if await self.roll_back(held, error):
                raise DatabaseUnavailable("the database went away during the commit") from error
            raise
        await self._give_back(held)
        for wake in self._on_commit:
            wake()
        if tx._emitted:
            for wake in self._on_emit:
                wake()

    async def roll_back(self, held: _Held, error: BaseException) -> bool:
        """Undo and give the connection back; whether the error was that it is lost."""
        lost, well = is_lost(error, held.driver), False
        try:
            if not lost and not held.driver.is_closed():
                async with asyncio.timeout(ROLLBACK_SECONDS):
                    await held.driver.execute("ROLLBACK")
                well = True
        except (asyncpg.PostgresError, *LOST):
            # The server does it by itself when the connection ends; what the body raised says more.
            lost = lost or isinstance(error, OSError)
        finally:
            # A connection in doubt is not handed to anyone else.
            if well:
                await self._give_back(held)
            else:
                self._turns.release()
                await _discard(held)
        return lost

    async def _give_back(self, held: _Held) -> None:
        self._turns.release()
        if self._closed or held.connection.invalidated or held.driver.is_closed():
            await _discard(held)
        else:
            self._idle.append(held)

    async def _take_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(POOL_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("no connection to the database is free") from None

    async def _connect(self) -> _Held:
        connection = await self._engine.connect()
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, asyncpg.Connection)
        return _Held(connection, driver)


class _Transaction(AbstractAsyncContextManager[Tx]):
    __slots__ = ("_caller", "_database", "_held", "_only_reads", "_tx")

    def __init__(self, database: Database, caller: Caller, *, only_reads: bool) -> None:
        self._database = database
        self._caller = caller
        self._only_reads = only_reads

    async def __aenter__(self) -> Tx:
        caller = self._caller
        held = self._held = await self._database.begin(caller.seller_id)
        try:
            now = await now_of(held.driver, caller.seller_id)
        except BaseException as error:
            if await self._database.roll_back(held, error):
                raise DatabaseUnavailable("the database went away") from error
            raise
        tx = self._tx = Tx(
            held.connection,
            held.driver,
            seller_id=caller.seller_id,
            actor=caller.actor,
            now=now,
            emitted=[],
            vault=self._database.vault,
        )
        return tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._only_reads and not self._tx.has_told:
            self._database.end_reading(self._held)
        elif error is None:
            await self._database.commit(self._held, self._tx)
        elif await self._database.roll_back(self._held, error):
            raise DatabaseUnavailable("the database went away") from error


def is_lost(error: BaseException, driver: asyncpg.Connection) -> bool:
    """Whether this error means that the connection is gone, and not that somebody made a mistake."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_lost(_cause(error), driver))
    if isinstance(error, GONE):
        return True
    return isinstance(error, asyncpg.InterfaceError | OSError) and driver.is_closed()


async def _discard(held: _Held) -> None:
    with suppress(DBAPIError, *LOST):
        if held.driver.is_closed() or held.driver.is_in_transaction():
            held.driver.terminate()
        await held.connection.close()


async def now_of(driver: asyncpg.Connection, seller_id: SellerId) -> datetime:
    """What time it is for a seller."""
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


def _cause(error: DBAPIError) -> BaseException:
    """What asyncpg raised, beneath SQLAlchemy's two layers around it."""
    return (error.orig.__cause__ if error.orig is not None else None) or error
