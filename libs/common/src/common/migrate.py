"""Knows how a service's database gets its shape: alembic, without ini files, one hand-written version after another.

`migrations/env.py` of a service is two lines; its first version calls `create_chassis()` and `protect`s its tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from alembic import command, context, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

LOCK_KEY: Final = 7_203_155  # any number: one migration at a time per database

CHASSIS_TABLES: Final = frozenset(
    {
        "aggregate_sequences",
        "alembic_version",
        "clocks",
        "dead_letters",
        "inbox",
        "job_failures",
        "outbox",
        "outbox_waiting",
        "requests",
    }
)

_CHASSIS_1: Final = """
CREATE SEQUENCE progress;

CREATE TABLE clocks (
    seller_id text PRIMARY KEY,
    time timestamptz NOT NULL,
    hold_until timestamptz
);
COMMENT ON TABLE clocks IS 'simulated time of the sandboxes seen here';

CREATE TABLE requests (
    seller_id text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    response bytea,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seller_id, method, request_id)
);
COMMENT ON TABLE requests IS 'what was answered to a request_id (AIP-155)';
CREATE INDEX requests_create_time ON requests USING brin (create_time);

CREATE TABLE aggregate_sequences (
    seller_id text NOT NULL,
    aggregate_id text NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (seller_id, aggregate_id)
);
COMMENT ON TABLE aggregate_sequences IS 'how many events each aggregate has announced';

CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    seller_id text NOT NULL,
    subject text NOT NULL,
    aggregate_id text NOT NULL,
    sequence bigint NOT NULL,
    time timestamptz NOT NULL,
    traceparent text NOT NULL,
    payload bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (seller_id, aggregate_id, sequence)
);
COMMENT ON TABLE outbox IS 'every event announced, in order; the record of which NATS is the transport';
CREATE INDEX outbox_create_time ON outbox USING brin (create_time);

-- Beside the events: to take a number off this list costs a tenth of what a mark in the event's own row would.
CREATE TABLE outbox_waiting (
    position bigint PRIMARY KEY,
    seller_id text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
COMMENT ON TABLE outbox_waiting IS 'which events of the outbox are still to be published';

CREATE TABLE inbox (
    event_id text PRIMARY KEY,
    seller_id text NOT NULL,
    subject text NOT NULL,
    progress bigint NOT NULL DEFAULT nextval('progress'),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE inbox IS 'events that have been handled, each with its effects in one commit';
CREATE INDEX inbox_create_time ON inbox USING brin (create_time);

CREATE TABLE dead_letters (
    id text PRIMARY KEY,
    seller_id text NOT NULL,
    subject text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    discard_time timestamptz,
    discard_reason text
);
COMMENT ON TABLE dead_letters IS 'messages and job rows that could not be processed and wait for a decision';

CREATE TABLE job_failures (
    job text NOT NULL,
    id text NOT NULL,
    seller_id text NOT NULL,
    attempts integer NOT NULL,
    next_try_time timestamptz NOT NULL,
    error text NOT NULL,
    dead boolean NOT NULL DEFAULT false,
    PRIMARY KEY (job, id)
);
COMMENT ON TABLE job_failures IS 'job rows whose last try failed';
"""


def create_chassis() -> None:
    """The tables that every service has: outbox, inbox, requests, clocks, dead letters."""
    run_script(_CHASSIS_1)
    protect(*sorted(CHASSIS_TABLES - {"alembic_version"}))


def run_script(sql: str) -> None:
    """Run several statements, in the transaction of the migration under way."""
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None
    adapted.run_async(lambda driver: driver.execute(sql))


def protect(*tables: str) -> None:
    """Let a transaction see and write only the rows of its own seller, the owner of the tables included.

    Without a seller the setting is empty and nothing is visible: forgetting fails closed.
    """
    seller = "current_setting('saldo.seller', true)"
    for table in tables:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY seller ON {table} USING (seller_id = {seller} OR {seller} = '*')")


def run_env(metadata: MetaData) -> None:
    """The whole of a service's `migrations/env.py`."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate(url: str, package: str, *, revision: str = "head") -> None:
    """Bring the database at `url` to the newest version of `package`, for example `invoicing`, or to an older one on
    the way there. Repeatable.
    """
    await _with_connection(url, lambda connection: _upgrade(connection, package, revision))


async def differences(url: str, metadata: MetaData) -> list[Any]:  # Any: alembic describes differences as loose tuples
    """What the database has and `store.py` does not say, and the other way round; nothing after `migrate`."""
    found: list[Any] = []  # Any: as said
    await _with_connection(url, lambda connection: found.extend(_compare(connection, metadata)))
    return found


def _upgrade(connection: Connection, package: str, revision: str) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
    connection.commit()
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


def _compare(connection: Connection, metadata: MetaData) -> Sequence[Any]:  # Any: see differences
    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and name in CHASSIS_TABLES)

    options = {"compare_type": True, "compare_server_default": True, "include_object": ours}
    found: Sequence[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), metadata
    )  # Any: loose
    return found


async def _with_connection(url: str, work: Any) -> None:  # Any: SQLAlchemy's run_sync takes any callable
    engine = create_async_engine(url, poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()
