"""A gateway that moves no money and does as its tokens say, with a durable record of its own of what it captured.

It stands for a company elsewhere: its record is in a database that payments never reads, and what reaches it goes on
when the caller has stopped waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg

from payments.domain import decline
from payments.gateways import Captured, CaptureOrder, Declined, GatewayUnavailable, GatewayUnknown, Outcome
from payments.gateways.script import Step, parse

CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 10
CONNECTIONS_MAX: Final = 8
UNDER_WAY_MAX: Final = 1_000
BUSY_MARGIN: Final = timedelta(seconds=30)
"""How long past its delay an attempt counts as under way, should the process that works on it have died."""

_SCHEMA_LOCK: Final = 7_203_158
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS captures (
    attempt_id text PRIMARY KEY,
    seller_id text NOT NULL,
    invoice_id text NOT NULL,
    token text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('CAPTURED', 'DECLINED')),
    code text NOT NULL,
    capture_number bigint UNIQUE,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((outcome = 'CAPTURED') = (capture_number IS NOT NULL)),
    CHECK ((outcome = 'DECLINED') = (code <> ''))
);
COMMENT ON TABLE captures IS 'exactly what was captured and what was declined, one row per attempt, for ever';
CREATE SEQUENCE IF NOT EXISTS capture_numbers OWNED BY captures.capture_number;
CREATE TABLE IF NOT EXISTS arrivals (
    attempt_id text PRIMARY KEY,
    seller_id text NOT NULL,
    token text NOT NULL,
    step_number integer NOT NULL,
    busy_until timestamptz NOT NULL,
    UNIQUE (seller_id, token, step_number)
);
COMMENT ON TABLE arrivals IS 'which step of its token each attempt follows, and until when it is being worked on';
"""

_RECORDED: Final = """
SELECT seller_id, invoice_id, token, amount_minor, currency, outcome, code, capture_number
FROM captures WHERE attempt_id = $1
"""
_BUSY: Final = "SELECT busy_until > clock_timestamp() FROM arrivals WHERE attempt_id = $1"
# An attempt that comes again takes another step, unless the work on the one it had was cut off.
_ARRIVE: Final = """
INSERT INTO arrivals AS a (attempt_id, seller_id, token, step_number, busy_until)
VALUES ($1, $2, $3, (SELECT coalesce(max(step_number), 0) + 1 FROM arrivals WHERE seller_id = $2 AND token = $3),
        '-infinity')
ON CONFLICT (attempt_id) DO UPDATE SET step_number =
    CASE WHEN a.busy_until = '-infinity' THEN excluded.step_number ELSE a.step_number END
RETURNING step_number
"""
_WORK_UNTIL: Final = "UPDATE arrivals SET busy_until = clock_timestamp() + $2 WHERE attempt_id = $1"
# Only while it is its turn: once `find` may have said that nothing is under way, nothing is captured any more.
_RECORD: Final = """
INSERT INTO captures (attempt_id, seller_id, invoice_id, token, amount_minor, currency, outcome, code, capture_number)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $7 = 'CAPTURED' THEN nextval('capture_numbers') END
FROM arrivals WHERE attempt_id = $1 AND step_number = $9 AND busy_until > clock_timestamp()
ON CONFLICT (attempt_id) DO NOTHING
"""
_FINISH: Final = "UPDATE arrivals SET busy_until = '-infinity' WHERE attempt_id = $1 AND step_number = $2"

_Connection = asyncpg.pool.PoolConnectionProxy
_LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    OSError,
)


class SimulatedGateway:
    name: Final = "simulated"
    processing_max: Final = timedelta(minutes=10)
    key_lifetime: Final = timedelta(hours=24)
    simulated: Final = True
    moves_real_money: Final = False

    def __init__(self, url: str) -> None:
        """`url` names its own database; tables are created at the first call."""
        self._url = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._opening = asyncio.Lock()
        self._pool: asyncpg.Pool | None = None
        self._under_way: set[asyncio.Task[Outcome]] = set()

    def check_token(self, token: str) -> None:
        parse(token)

    async def capture(self, order: CaptureOrder) -> Outcome:
        if len(self._under_way) >= UNDER_WAY_MAX:
            raise GatewayUnavailable("too many attempts are under way")
        work = asyncio.create_task(self._take(order), name=f"simulated gateway {order.attempt_id}")
        self._under_way.add(work)
        work.add_done_callback(self._finished)
        # A caller that hangs up does not undo what the gateway has begun.
        return await asyncio.shield(work)

    async def find(self, order: CaptureOrder) -> Outcome | None:
        async with self._connection() as connection, connection.transaction():
            await _lock(connection, order)
            if await connection.fetchval(_BUSY, order.attempt_id):
                raise GatewayUnknown("the attempt is under way")
            return await self._recorded(connection, order)

    async def close(self) -> None:
        for work in self._under_way:
            work.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    async def _take(self, order: CaptureOrder) -> Outcome:
        """An order comes in: answer what is on record, or follow the next step of the token's script."""
        script = parse(order.token)
        async with self._connection() as connection, connection.transaction():
            await _lock(connection, order)
            if recorded := await self._recorded(connection, order):
                return recorded
            if await connection.fetchval(_BUSY, order.attempt_id):
                raise GatewayUnknown("the attempt is under way")
            number: int = await connection.fetchval(_ARRIVE, order.attempt_id, order.seller_id, order.token)
            step = script.step(number)
            delay = timedelta(milliseconds=step.delay_milliseconds)
            await connection.execute(_WORK_UNTIL, order.attempt_id, delay + BUSY_MARGIN)
            if not delay:
                recorded = await self._do(connection, order, step, number)
        if delay:
            # No connection is held meanwhile: a slow bank must not keep others from theirs.
            await asyncio.sleep(delay.total_seconds())
            async with self._connection() as connection, connection.transaction():
                await _lock(connection, order)
                recorded = await self._do(connection, order, step, number)
        if recorded is None or not step.answers:
            raise GatewayUnknown("no answer came")
        return recorded

    async def _do(self, connection: _Connection, order: CaptureOrder, step: Step, number: int) -> Outcome | None:
        """Carry a step out, if it still is its turn; what is on record for the attempt then."""
        if step.captures or step.code:
            await self._record(connection, order, step, number)
        await connection.execute(_FINISH, order.attempt_id, number)
        return await self._recorded(connection, order)

    @staticmethod
    async def _record(connection: _Connection, order: CaptureOrder, step: Step, number: int) -> None:
        await connection.execute(
            _RECORD,
            order.attempt_id,
            order.seller_id,
            order.invoice_id,
            order.token,
            order.amount.minor,
            order.amount.currency,
            "CAPTURED" if step.captures else "DECLINED",
            step.code,
            number,
        )

    @staticmethod
    async def _recorded(connection: _Connection, order: CaptureOrder) -> Outcome | None:
        row = await connection.fetchrow(_RECORDED, order.attempt_id)
        if row is None:
            return None
        particulars = (order.seller_id, order.invoice_id, order.token, order.amount.minor, order.amount.currency)
        if tuple(row)[: len(particulars)] != particulars:
            raise GatewayUnknown("the attempt id has been used for another order")
        if row["outcome"] == "CAPTURED":
            return Captured(f"sim_{row['capture_number']:06}")
        return Declined(code=row["code"], retryable=decline.retryable(row["code"]))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        try:
            pool = self._pool or await self._open()
            async with pool.acquire(timeout=CONNECT_SECONDS) as connection:
                yield connection
        except (*_LOST, TimeoutError) as error:
            raise GatewayUnknown("the gateway does not answer") from error

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=CONNECTIONS_MAX,
                    timeout=CONNECT_SECONDS,
                    command_timeout=STATEMENT_SECONDS,
                    server_settings={"application_name": "simulated gateway", "timezone": "UTC"},
                )
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
                    await connection.execute(_SCHEMA)
                self._pool = pool
            return self._pool

    def _finished(self, work: asyncio.Task[Outcome]) -> None:
        self._under_way.discard(work)
        if not work.cancelled():
            # Whoever still waits is told; nobody may be waiting any more.
            work.exception()


async def _lock(connection: _Connection, order: CaptureOrder) -> None:
    """One at a time per token: attempts take its steps in turn, and `find` sees either all of a call or nothing."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{order.seller_id} {order.token}"
    )
