"""The servers everything stands on come back where they were, keep what they promised, and leave nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest
from nats.js.api import StreamConfig

from tools import servers as programs
from tools.databases import create_databases
from tools.stack import CHECKOUT, ServerFailed, Stack

GONE_TIMEOUT_SECONDS = 30


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that the servers' account can reach, unlike pytest's own temporary folders."""
    folder = Path(tempfile.mkdtemp(prefix="saldo-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    stack = Stack(folder, environment={})
    try:
        yield stack
    finally:
        stack.discard()


def test_starting_twice_starts_once(stack: Stack) -> None:
    """`make up` after `make up` must not give a second set of servers on the same data."""
    assert stack.start() == stack.start()


def test_everything_is_where_the_stack_says(stack: Stack) -> None:
    """Data that lies elsewhere is data nobody finds or deletes."""
    pid = stack.start().pids["postgres"]
    assert Path(psutil.Process(pid).cwd()) == stack.home / "postgres"
    assert (stack.home / "nats" / "jetstream").is_dir()


def test_passwords_are_for_their_owner_only(stack: Stack, folder: Path) -> None:
    """On a shared machine other people can connect to loopback, but must not be able to log in."""
    stack.start()
    stack.passwords(["catalog"])
    secrets = [*stack.home.glob("*.password"), stack.home / "nats.conf", folder / "run" / "passwords.json"]
    assert len(secrets) == 4
    assert {path.stat().st_mode & 0o077 for path in (*secrets, stack.home / "postgres", folder / "run")} == {0}


def test_servers_listen_on_loopback_only(stack: Stack) -> None:
    """A laptop in a café must not offer its books to the network."""
    addresses = {
        connection.laddr.ip
        for pid in stack.start().pids.values()
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


async def test_a_stranger_cannot_log_in(stack: Stack) -> None:
    """Neither without a password nor with a wrong one, to either server."""
    running = stack.start()
    address = running.postgres_url.rpartition("@")[2]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://saldo:wrong@{address}")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.nats_url.rpartition(":")[2]))
    writer.write(b'CONNECT {"user": "saldo", "pass": "wrong"}\r\nPING\r\n')
    answer = await asyncio.wait_for(reader.read(), timeout=10)
    assert b"Authorization Violation" in answer
    assert b"PONG" not in answer
    writer.close()


async def test_postgres_keeps_commits_through_a_kill(stack: Stack) -> None:
    """And comes back at the same address, so that services merely reconnect."""
    running = stack.start()
    connection = await asyncpg.connect(running.postgres_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (id int)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    busy = await asyncpg.connect(running.postgres_url)
    query = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 1000000000)"))
    await asyncio.sleep(0.1)
    stack.kill("postgres")

    pid = stack.start_one("postgres")

    assert pid != running.pids["postgres"]
    again = await asyncpg.connect(running.postgres_url)
    assert await again.fetchval("SELECT count(*) FROM kept") == 1
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
        await query
    await again.close()
    for lost in (connection, busy):
        lost.terminate()


async def test_nats_keeps_acknowledged_messages_through_a_kill(stack: Stack) -> None:
    """What JetStream has acknowledged, the outbox forgets."""
    running = stack.start()
    client = await nats.connect(running.nats_url)
    await client.jetstream().add_stream(StreamConfig(name="KEPT", subjects=["kept.>"]))
    await client.jetstream().publish("kept.one", b"1")
    await client.close()
    stack.kill("nats")

    stack.start_one("nats")

    client = await nats.connect(running.nats_url)
    assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
    await client.close()


def test_both_come_back_after_a_power_cut(stack: Stack) -> None:
    """`make up` is all it takes after a crash of the machine."""
    before = stack.start()
    stack.kill("postgres")
    stack.kill("nats")
    after = stack.start()
    assert (after.postgres_url, after.nats_url) == (before.postgres_url, before.nats_url)


def test_a_process_number_used_again_does_not_keep_postgres_down(stack: Stack) -> None:
    """After a restart of a container the number in the lock file belongs to somebody else."""
    stack.start()
    stack.kill("postgres")
    lock = stack.home / "postgres" / "postmaster.pid"
    lock.write_text(lock.read_text().replace(lock.read_text().split()[0], str(os.getpid()), 1))
    stack.start()
    assert all(state.running for state in stack.status())


def test_a_taken_port_moves_a_stack_but_never_a_single_server(stack: Stack) -> None:
    """Services know the address of a running stack: a single server that moved would be lost to them."""
    stack.start()
    stack.stop()
    port = int(stack.status()[1].address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(ServerFailed, match="taken"):
            stack.start_one("nats")
        assert f":{port}" not in stack.start().nats_url


def test_stopping_ends_both(stack: Stack) -> None:
    """Nothing is left running, and stopping again is no error."""
    pids = stack.start().pids
    stack.stop()
    stack.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    assert [state.running for state in stack.status()] == [False, False]
    assert stack.servers() is None


def test_servers_of_ones_own_are_left_alone(tmp_path: Path) -> None:
    """Whoever names a server in the environment runs it."""
    own = {"SALDO_POSTGRES_URL": "postgresql://me@db/postgres", "SALDO_NATS_URL": "nats://bus:4222"}
    stack = Stack(tmp_path / "unused", environment=own)
    running = stack.start()
    assert (running.environment(), running.pids) == (own, {})
    stack.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_root_runs_the_servers_without_privileges_even_from_a_closed_home(tmp_path: Path) -> None:
    """A clone below a home of mode 700 works, and nobody's permissions are changed for it."""
    (tmp_path / "home").mkdir(mode=0o700)
    stack = Stack(tmp_path / "home" / "clone" / ".saldo", environment={})
    try:
        running = stack.start()
        assert {psutil.Process(pid).uids().effective for pid in running.pids.values()}.isdisjoint({0})
        assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
        (elsewhere,) = {Path(psutil.Process(running.pids["postgres"]).cwd()).parent}
        assert not elsewhere.is_relative_to(tmp_path)
        shutil.copytree(tmp_path / "home" / "clone", tmp_path / "home" / "copy")
        copy = Stack(tmp_path / "home" / "copy" / ".saldo", environment={})
        copy.discard()
        assert all(state.running for state in stack.status())
    finally:
        stack.discard()
    assert not elsewhere.exists()


def test_a_start_that_was_cut_short_is_begun_anew(folder: Path) -> None:
    """Half a data folder must never be taken for one."""
    cut_short = folder / "cut-short"
    (cut_short / "postgres.new" / "base").mkdir(parents=True)
    stack = Stack(cut_short, volatile=True, environment={})
    stack.start()
    stack.stop()
    assert not cut_short.exists()


def test_a_temporary_stack_ends_with_its_owner() -> None:
    """A test run that is killed must not leave servers behind, for nobody would ever stop them."""
    script = "from tools.stack import Stack; s = Stack.temporary(); print(*s.start().pids.values(), s.folder)"
    owner = subprocess.Popen(
        [sys.executable, "-c", f"{script}; import sys, time; sys.stdout.flush(); time.sleep(600)"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    *pids, folder = owner.stdout.readline().split()
    assert all(psutil.pid_exists(int(pid)) for pid in pids)

    owner.kill()
    owner.communicate()

    give_up = time.monotonic() + GONE_TIMEOUT_SECONDS
    while Path(folder).exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not Path(folder).exists()
    assert not any(
        programs.runs(int(pid), part) for pid in pids for part in (f"{folder}/postgres", f"{folder}/nats.conf")
    )


async def test_every_service_has_a_database_nobody_else_may_enter() -> None:
    """The rule that services share nothing is kept by PostgreSQL, not by good manners."""
    admin_url = os.environ["SALDO_POSTGRES_URL"]
    passwords = {"stack_test_one": "p@ss/word:1", "stack_test_two": "two"}
    await create_databases(admin_url, passwords, passwords=passwords)
    urls = await create_databases(admin_url, passwords, passwords=passwords)
    admin = await asyncpg.connect(admin_url)
    try:
        one = await asyncpg.connect(urls["stack_test_one"])
        await one.execute("CREATE TABLE mine (id int)")
        rights = await one.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        assert rights is not None
        assert tuple(rights) == (False, False, False)
        await one.close()
        intruder = urls["stack_test_two"].rpartition("/")[0] + "/stack_test_one"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(intruder)
    finally:
        for name in passwords:
            await admin.execute(f"DROP DATABASE {name}")
            await admin.execute(f"DROP ROLE {name}")
        await admin.close()
