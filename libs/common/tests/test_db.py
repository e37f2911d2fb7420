"""A transaction is all or nothing, sees its own seller only, and leaves no trace on its connection."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common import clock, ids
from common.caller import EVERY_SELLER, Caller, Role, service_caller
from common.db import Database, DatabaseUnavailable, TransactionBroken, Tx
from common.errors import Kind
from common.ids import SellerId
from common.testing import Databases
from libs.common.tests.notebook import store
from libs.common.tests.notebook.contracts import events_pb2, note_pb2
from libs.common.tests.notebook.main import PACKAGE
from tools.stack import Stack

EVERYBODY = service_caller("notebook", EVERY_SELLER)


def caller(seller: SellerId) -> Caller:
    return Caller(seller_id=seller, actor="tester", role=Role.OWNER)


def written(note_id: str) -> Any:
    return events_pb2.NoteWritten(note=note_pb2.Note(id=note_id, text="x"))


async def note_count(database: Database, who: Caller = EVERYBODY) -> int:
    async with database.transaction(who) as tx:
        return await store.note_count(tx)


async def outbox_count(database: Database) -> int:
    async with database.transaction(EVERYBODY) as tx:
        count: int = await tx.driver.fetchval("SELECT count(*) FROM outbox")
        return count


async def test_what_a_transaction_did_is_there_once_it_is_over(database: Database, seller: SellerId) -> None:
    """The least that a transaction promises."""
    async with database.transaction(caller(seller)) as tx:
        note_id = await store.add_note(tx, text="one")
        await tx.emit(written(note_id))
        assert (tx.seller_id, tx.actor) == (seller, "tester")
        assert await note_count(database) == 0
    assert await note_count(database) == 1
    assert await outbox_count(database) == 1


async def test_a_transaction_that_fails_leaves_nothing(database: Database, seller: SellerId) -> None:
    """Neither the change nor its announcement."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 # what is raised depends on all of it
        async with database.transaction(caller(seller)) as tx:
            await tx.emit(written(await store.add_note(tx, text="one")))
            raise ZeroDivisionError
    assert await note_count(database) == 0
    assert await outbox_count(database) == 0


async def test_an_error_that_the_use_case_hid_is_not_taken_for_success(database: Database, seller: SellerId) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then, and says no more about it."""
    with pytest.raises(TransactionBroken):  # noqa: PT012 # what is raised depends on all of it
        async with database.transaction(caller(seller)) as tx:
            await store.add_note(tx, text="one")
            with pytest.raises(DBAPIError):
                await tx.execute(text("SELECT 1/0"))
    assert await note_count(database) == 0
    assert await connections_are_clean(database)


async def test_a_statement_that_fails_spoils_its_own_transaction_only(url: str, seller: SellerId) -> None:
    """The same connection serves the next one, through SQLAlchemy as well as directly."""
    database = Database(url, service="notebook", pool_size=1)
    drivers = set()
    for _ in range(3):
        with pytest.raises(DBAPIError):  # noqa: PT012 # what is raised depends on all of it
            async with database.transaction(caller(seller)) as tx:
                drivers.add(tx.driver)
                await store.add_note(tx, text="never")
                await tx.execute(text("SELECT 1/0"))
        async with database.transaction(caller(seller)) as tx:
            drivers.add(tx.driver)
            await store.add_note(tx, text="kept")
    assert await note_count(database) == 3
    assert len(drivers) == 1
    await database.close()


async def test_a_constraint_that_fails_at_the_commit_fails_the_transaction(
    database: Database, seller: SellerId
) -> None:
    """An answer must never go out for something that was undone."""
    with pytest.raises(asyncpg.ForeignKeyViolationError):  # noqa: PT012 # what is raised depends on all of it
        async with database.transaction(caller(seller)) as tx:
            await tx.driver.execute("CREATE TEMP TABLE parents (id int PRIMARY KEY) ON COMMIT DROP")
            await tx.driver.execute(
                "CREATE TEMP TABLE children (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"
            )
            await tx.driver.execute("INSERT INTO children VALUES (1)")
            await store.add_note(tx, text="one")
    assert await note_count(database) == 0
    assert await connections_are_clean(database)


async def test_rows_of_another_seller_cannot_be_seen_or_written(database: Database, seller: SellerId) -> None:
    """Beneath the code: even a query that forgets the seller must not find them."""
    other = SellerId(ids.mint(ids.SELLER, clock.wall()))
    async with database.transaction(caller(seller)) as tx:
        await store.add_note(tx, text="mine")
    async with database.transaction(caller(other)) as tx:
        assert await store.note_count(tx) == 0
        assert await tx.driver.execute("UPDATE notes SET text = 'stolen'") == "UPDATE 0"
        assert await tx.driver.execute("DELETE FROM notes") == "DELETE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(caller(other)) as tx:
            await tx.driver.execute("INSERT INTO notes VALUES ($1, 'note_1', '', NULL, 0, '')", seller)
    assert await note_count(database, caller(seller)) == 1
    assert await note_count(database) == 1


async def test_every_table_is_protected(database: Database) -> None:
    """Also from its owner, which is who the service is."""
    async with database.transaction(EVERYBODY) as tx:
        bare = await tx.driver.fetch(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relkind = 'r' AND relname <> 'alembic_version'"
            " AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
        owner = await tx.driver.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    assert bare == []
    assert owner is False


async def test_without_a_seller_nothing_is_visible(database: Database, url: str, seller: SellerId) -> None:
    """Forgetting who asks has to fail closed, also on a connection that has served a seller before."""
    async with database.transaction(caller(seller)) as tx:
        await store.add_note(tx, text="one")
        driver = tx.driver
    assert await driver.fetchval("SELECT count(*) FROM notes") == 0
    fresh = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        assert await fresh.fetchval("SELECT count(*) FROM notes") == 0
    finally:
        await fresh.close()


async def test_the_seller_of_one_transaction_is_not_that_of_the_next(url: str, seller: SellerId) -> None:
    """Connections are used again; what they were for must not be."""
    database = Database(url, service="notebook", pool_size=1)
    other = SellerId(ids.mint(ids.SELLER, clock.wall()))
    drivers = set()
    for who in (seller, other, EVERY_SELLER, seller):
        async with database.transaction(caller(who)) as tx:
            drivers.add(tx.driver)
            assert await tx.driver.fetchval("SELECT current_setting('saldo.seller')") == who
    assert len(drivers) == 1, "this is about one and the same connection"
    await database.close()


async def test_a_transaction_that_is_cancelled_leaves_a_clean_connection(url: str, seller: SellerId) -> None:
    """A caller that hangs up must not leave a lock behind, nor half a transaction for the next one."""
    database = Database(url, service="notebook", pool_size=1)

    async def work(statement: str, *, through_sqlalchemy: bool) -> None:
        async with database.transaction(caller(seller)) as tx:
            await store.add_note(tx, text="never")
            await tx.driver.fetchval("SELECT pg_advisory_xact_lock(4711)")
            begun.set()
            await (tx.execute(text(statement)) if through_sqlalchemy else tx.driver.execute(statement))

    for statement, through_sqlalchemy in (
        ("SELECT pg_sleep(20)", False),
        ("SELECT pg_sleep(20)", True),
        ("SELECT 1", False),
        ("SELECT 1", True),
    ):
        begun = asyncio.Event()
        task = asyncio.create_task(work(statement, through_sqlalchemy=through_sqlalchemy))
        await begun.wait()
        if "sleep" in statement:
            await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5), database.transaction(EVERYBODY) as tx:
            assert await store.note_count(tx) == 0
            assert await tx.driver.fetchval("SELECT pg_try_advisory_xact_lock(4711)")
    await database.close()


async def test_a_transaction_that_waits_for_a_connection_may_be_cancelled(url: str, seller: SellerId) -> None:
    """Its turn goes to the next one."""
    database = Database(url, service="notebook", pool_size=1)
    async with database.transaction(caller(seller)):
        waiting = [asyncio.create_task(note_count(database)) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        waiting[1].cancel()
    assert await waiting[2] == 0
    assert await note_count(database) == 0
    await database.close()


async def test_too_many_at_once_are_told_so(url: str, seller: SellerId, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting has a limit; afterwards all goes on."""
    database = Database(url, service="notebook", pool_size=2)
    async with database.transaction(caller(seller)), database.transaction(caller(seller)):
        with monkeypatch.context() as patch:
            patch.setattr("common.db.POOL_WAIT_SECONDS", 0.1)  # not for making connections, which may take longer
            with pytest.raises(DatabaseUnavailable, match="free"):
                await note_count(database)
    assert await asyncio.gather(*(note_count(database) for _ in range(10))) == [0] * 10
    await database.close()


async def test_a_mistake_is_not_taken_for_a_lost_connection(database: Database, seller: SellerId) -> None:
    """Or a bug would be tried again for ever, and be reported as an outage."""
    with pytest.raises(FileNotFoundError):
        async with database.transaction(caller(seller)):
            raise FileNotFoundError("/nowhere")
    with pytest.raises(asyncpg.InterfaceError, match="another operation"):
        async with database.transaction(caller(seller)) as tx:
            await asyncio.gather(tx.driver.execute("SELECT pg_sleep(0.1)"), tx.driver.execute("SELECT 1"))
    assert await connections_are_clean(database)


async def test_what_a_statement_was_told_is_not_in_its_error(database: Database, seller: SellerId) -> None:
    """Errors are logged whole, and a parameter may be a payment token or a name."""
    with pytest.raises(DBAPIError) as failure:
        async with database.transaction(service_caller("notebook", seller)) as tx:
            await tx.execute(text("SELECT 1 / length(replace(:secret, :secret, ''))"), {"secret": "tok_secret"})
    assert "tok_secret" not in str(failure.value)


@pytest.mark.parametrize("moment", ["between statements", "in a statement", "in a statement of SQLAlchemy", "commit"])
async def test_a_connection_lost_on_the_way_is_an_outage(
    database: Database, seller: SellerId, moment: str, url: str
) -> None:
    """The caller may try again, and the next transaction gets another connection."""
    victim: list[int] = []

    async def end_it() -> None:
        await asyncio.sleep(0.1 if "in a statement" in moment else 0)
        async with database.transaction(EVERYBODY) as tx:
            await tx.driver.execute("SELECT pg_terminate_backend($1, 1000)", victim[0])

    with pytest.raises(DatabaseUnavailable) as raised:  # noqa: PT012 # what is raised depends on all of it
        async with database.transaction(caller(seller)) as tx:
            victim.append(await tx.driver.fetchval("SELECT pg_backend_pid()"))
            await store.add_note(tx, text="one")
            ending = asyncio.create_task(end_it())
            if moment == "in a statement":
                await tx.driver.execute("SELECT pg_sleep(10)")
            elif moment == "in a statement of SQLAlchemy":
                await tx.execute(text("SELECT pg_sleep(10)"))
            await ending
            if moment == "between statements":
                await store.note_count(tx)
    assert raised.value.kind is Kind.UNAVAILABLE
    await ending
    assert await note_count(database) == 0


async def test_who_only_reads_has_no_part_in_what_becomes_of_the_commit(database: Database, seller: SellerId) -> None:
    """What was read is right, whatever happens then. The connection is not given to anybody, nor is its place lost: all
    who come after get one.
    """
    for _ in range(10):
        async with (
            database.transaction(EVERYBODY) as other,
            database.transaction(caller(seller), only_reads=True) as tx,
        ):
            pid = await tx.driver.fetchval("SELECT pg_backend_pid()")
            assert await store.note_count(tx) == 0
            assert await other.driver.fetchval("SELECT pg_terminate_backend($1, 1000)", pid)
    assert await asyncio.gather(*(note_count(database) for _ in range(20))) == [0] * 20


async def test_a_database_that_is_closed_waits_for_those_who_read(url: str, seller: SellerId) -> None:
    """Or their connections would be left behind."""
    database = Database(url, service="notebook")
    async with database.transaction(caller(seller), only_reads=True) as tx:
        own = await tx.driver.fetchval("SELECT pg_backend_pid()")
    await database.close()
    another = Database(url, service="notebook")
    async with another.transaction(EVERYBODY) as tx:
        left = await tx.driver.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", own)
    await another.close()
    assert left == 0


async def test_connections_that_went_stale_harm_nobody(database: Database, seller: SellerId) -> None:
    """After a restart of the server the whole pool is: the first callers must not pay for that."""
    async with database.transaction(EVERYBODY) as tx:
        own = await tx.driver.fetchval("SELECT pg_backend_pid()")

        async def use() -> int:
            async with database.transaction(caller(seller)) as another:
                await asyncio.sleep(0.05)
                pid: int = await another.driver.fetchval("SELECT pg_backend_pid()")
                return pid

        pids = await asyncio.gather(*(use() for _ in range(7)))
        assert len({own, *pids}) == 8
        for pid in pids:
            assert await tx.driver.fetchval("SELECT pg_terminate_backend($1, 1000)", pid)
    assert await asyncio.gather(*(note_count(database) for _ in range(20))) == [0] * 20


@pytest.mark.fault
async def test_a_server_that_is_gone_is_an_outage_and_its_return_ends_it(servers: Stack, seller: SellerId) -> None:
    """In place: nobody restarts the process."""
    databases = Databases(servers.start().postgres_url)
    database = Database(await databases.create("notebook", migrated=PACKAGE), service="notebook")

    async def add() -> None:
        async with database.transaction(caller(seller)) as tx:
            await store.add_note(tx, text="one")

    await asyncio.gather(*(add() for _ in range(8)))
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(_hold(database, seller)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(servers.kill, "postgres")
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await add()
    assert [task.result() for task in held] == ["unavailable"] * 3
    with pytest.raises(DatabaseUnavailable):
        async with database.session():
            pass
    await asyncio.to_thread(servers.start_one, "postgres")
    await asyncio.gather(*(add() for _ in range(8)))
    assert await note_count(database) == 16
    await database.close()


async def _hold(database: Database, seller: SellerId) -> str:
    try:
        async with database.transaction(caller(seller)) as tx:
            await store.add_note(tx, text="never")
            await tx.driver.execute("SELECT pg_sleep(20)")
    except DatabaseUnavailable:
        return "unavailable"
    return "went on"


async def test_a_live_seller_has_wall_time_and_a_sandbox_its_own(database: Database, seller: SellerId) -> None:
    """No code but this may have to ask which of them it is."""
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    sandbox = SellerId(ids.mint(ids.SANDBOX, start))
    async with database.transaction(caller(seller)) as tx:
        assert abs(tx.now - clock.wall()) < timedelta(minutes=1)
        assert ids.instant_of(tx.new_id("note")) == tx.now.replace(microsecond=tx.now.microsecond // 1000 * 1000)
    async with database.transaction(caller(sandbox)) as tx:
        assert tx.now == start
        assert ids.instant_of(tx.new_id("note")) == start
        await tx.driver.execute("UPDATE clocks SET time = $1", start + timedelta(days=1))
    async with database.transaction(caller(sandbox)) as tx:
        assert tx.now == start + timedelta(days=1)


async def test_a_clock_that_is_first_seen_twice_at_once_is_one_clock(database: Database) -> None:
    """The first two calls of a sandbox may well come together."""
    sandbox = SellerId(ids.mint(ids.SANDBOX, datetime(2026, 1, 1, tzinfo=UTC)))

    async def now() -> datetime:
        async with database.transaction(caller(sandbox)) as tx:
            await asyncio.sleep(0.05)
            return tx.now

    assert len(set(await asyncio.gather(*(now() for _ in range(6))))) == 1


async def test_only_who_acts_for_all_may_act_for_one_of_them(database: Database, seller: SellerId) -> None:
    """Or a transaction could change sides."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    sandbox = SellerId(ids.mint(ids.SANDBOX, start))
    async with database.transaction(EVERYBODY) as tx:
        own = await tx.for_seller(sandbox)
        assert (own.seller_id, own.now) == (sandbox, start)
        note_id = await store.add_note(own, text="for a sandbox")
        await own.emit(written(note_id))
    async with database.transaction(EVERYBODY) as tx:
        row = await tx.driver.fetchrow("SELECT seller_id, time FROM outbox")
        assert row is not None
        assert (row["seller_id"], row["time"]) == (sandbox, start)
    async with database.transaction(caller(seller)) as tx:
        assert (await tx.for_seller(seller)).seller_id == seller
        with pytest.raises(ValueError, match="cannot act for"):
            await tx.for_seller(sandbox)


async def test_commits_wake_those_who_wait_for_them(database: Database, seller: SellerId) -> None:
    """Jobs after every commit but of those who only read; the relay when there is something to announce."""
    seen: list[str] = []
    database.on_commit(lambda: seen.append("commit"))
    database.on_emit(lambda: seen.append("emit"))
    async with database.transaction(caller(seller)) as tx:
        note_id = await store.add_note(tx, text="one")
    assert seen == ["commit"]
    async with database.transaction(caller(seller)) as tx:
        await tx.emit(written(note_id))
    assert seen == ["commit", "commit", "emit"]
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(caller(seller)):
            raise ZeroDivisionError
    async with database.transaction(caller(seller), only_reads=True) as tx:
        assert await tx.driver.fetchval("SELECT count(*) FROM notes") == 1
    assert seen == ["commit", "commit", "emit"]


async def test_limits_of_a_connection_are_set(database: Database) -> None:
    """A statement or a lock without end would hold up everybody behind it."""
    async with database.transaction(EVERYBODY) as tx:
        limits = [
            await tx.driver.fetchval(f"SHOW {name}")
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "timezone")
        ]
    assert limits == ["30s", "10s", "1min", "UTC"]


async def connections_are_clean(database: Database) -> bool:
    async with database.transaction(EVERYBODY) as tx:
        return bool(await _no_other_transaction(tx))


async def _no_other_transaction(tx: Tx) -> bool:
    open_: int = await tx.driver.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state LIKE '%transaction%'"
    )
    return open_ == 0
