"""Knows how one PostgreSQL and one nats-server are laid out, started, found ready and ended."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from tools.accounts import Account, identity, make_private_folder, write_private
from tools.binaries import Binaries, ServerFailed

HOST = "127.0.0.1"
ADMIN = "saldo"
PORTS = range(15_000, 20_000)
SERVICE_PORTS = range(20_000, 30_000)
"""Apart from those of the servers: both are chosen before the other listens, and are remembered."""
PORT_TRIES_MAX = 200
PORT_PATIENCE_SECONDS = 3.0

INITDB_TIMEOUT_SECONDS = 120
READY_TIMEOUT_SECONDS = 90  # a crash recovery is the longest of starts
LAUNCHES_MAX = 5
PAUSE_SECONDS = 0.25
KILL_SECONDS = 10.0
POLL_SECONDS = 0.02
LOG_BYTES_MAX = 10_000_000

POSTGRES_ALWAYS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # no second way in, and no limit on the length of the folder's name
    "max_connections": "300",
    "max_locks_per_transaction": "256",
    "scram_iterations": "1",  # stretching is for weak passwords; ours are 256 random bits
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}
# What a power cut may not touch: a stack that outlives its commands.
POSTGRES_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # By default a checkpoint comes with every gigabyte, every few seconds of much usage, and commits wait for its
    # flushes; and what it does not keep of the log's files is made anew, while a commit waits.
    "max_wal_size": "8GB",
    "min_wal_size": "2GB",
    "shared_buffers": "512MB",
    # By default it writes four megabytes a second, and a commit first writes out a page for each that it fills.
    "bgwriter_delay": "50ms",
    "bgwriter_lru_maxpages": "1000",
    "bgwriter_lru_multiplier": "4",
}
# What nobody will miss: a stack that ends with its test run.
POSTGRES_VOLATILE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
NATS_MEMORY_BYTES = 256_000_000
NATS_STORE_BYTES_DURABLE = 16_000_000_000
NATS_STORE_BYTES_VOLATILE = 64_000_000_000  # every test makes streams of its own, and a stream reserves its limit


class Server(Protocol):
    """One server in one folder: what it takes to keep it running."""

    @property
    def name(self) -> str: ...

    @property
    def account(self) -> Account | None: ...

    @property
    def mark(self) -> str:
        """The argument on the command line of this very server that no other process has."""

    @property
    def stop_signals(self) -> tuple[tuple[signal.Signals, float], ...]:
        """Ways to end it, politest first, each with the seconds it is given."""

    def url(self, port: int) -> str: ...

    def prepare(self, port: int, binaries: Binaries) -> list[str | Path]:
        """Make sure that its data exists and nothing is in the way; return the command that serves it."""

    def is_ready(self, pid: int, port: int) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """Data in `<home>/postgres`, the administrator's password beside it."""

    home: Path
    account: Account | None
    volatile: bool
    name: str = "postgres"

    @property
    def mark(self) -> str:
        return str(self._data)

    @property
    def stop_signals(self) -> tuple[tuple[signal.Signals, float], ...]:
        fast, immediate, kill = (signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, KILL_SECONDS)
        return (immediate, kill) if self.volatile else (fast, immediate, kill)

    def url(self, port: int) -> str:
        return f"postgresql://{ADMIN}:{self._password.read_text()}@{HOST}:{port}/postgres"

    def prepare(self, port: int, binaries: Binaries) -> list[str | Path]:
        if not self._data.exists():
            self._initialize(binaries)
        self._clear_crash()
        settings = POSTGRES_ALWAYS | (POSTGRES_VOLATILE if self.volatile else POSTGRES_DURABLE)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [binaries.postgres / "postgres", "-D", self._data, "-p", str(port), *options]

    def is_ready(self, pid: int, port: int) -> bool:
        lines = self._lock_file()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    @property
    def _data(self) -> Path:
        return self.home / "postgres"

    @property
    def _password(self) -> Path:
        return self.home / "postgres.password"

    def _lock_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _initialize(self, binaries: Binaries) -> None:
        """In a folder beside, then renamed: a start killed halfway leaves nothing that looks like data."""
        unfinished = self.home / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        make_private_folder(unfinished, self.account)
        _keep_secret(self._password, self.account)
        command: list[str | Path] = [
            binaries.postgres / "initdb",
            "--pgdata", unfinished,
            "--username", ADMIN,
            "--pwfile", self._password,
            "--auth", "scram-sha-256",
            "--encoding", "UTF8",
            "--locale", "C",
            "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8",
            "--set", f"scram_iterations={POSTGRES_ALWAYS['scram_iterations']}",
        ]  # fmt: skip
        if self.volatile:
            command.append("--no-sync")
        done = subprocess.run(
            command,
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_SECONDS,
            check=False,
            **identity(self.account),
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed: {done.stderr.strip()[-2000:]}")
        unfinished.rename(self._data)

    def _clear_crash(self) -> None:
        """After a kill -9, make room for a new start, which PostgreSQL itself would refuse for as long as
        a busy orphan holds the old memory, or for ever if its old process number went to a stranger."""
        lines = self._lock_file()
        if not lines or runs(int(lines[0]), self.mark):
            return
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "postgres" and process.cwd() == str(self._data):
                    process.kill()
                    process.wait(timeout=5)
        (self._data / "postmaster.pid").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nats:
    """JetStream in `<home>/nats`, settings and password beside it."""

    home: Path
    account: Account | None
    volatile: bool
    name: str = "nats"

    @property
    def mark(self) -> str:
        return str(self._settings)

    @property
    def stop_signals(self) -> tuple[tuple[signal.Signals, float], ...]:
        return ((signal.SIGTERM, 10.0), (signal.SIGKILL, KILL_SECONDS))

    def url(self, port: int) -> str:
        return f"nats://{ADMIN}:{self._password.read_text()}@{HOST}:{port}"

    def prepare(self, port: int, binaries: Binaries) -> list[str | Path]:
        store = self.home / "nats"
        make_private_folder(store, self.account)
        _keep_secret(self._password, self.account)
        settings = {
            "server_name": "saldo",
            "host": HOST,
            "port": port,
            "authorization": {"user": ADMIN, "password": self._password.read_text()},
            "jetstream": {
                "store_dir": str(store),
                "max_memory_store": NATS_MEMORY_BYTES,
                "max_file_store": NATS_STORE_BYTES_VOLATILE if self.volatile else NATS_STORE_BYTES_DURABLE,
                # An acknowledged message survives a power cut; by default up to two minutes of them are lost.
                "sync_interval": "2m" if self.volatile else "always",
            },
        }
        write_private(self._settings, json.dumps(settings, indent=2), self.account)
        return [binaries.nats, "--config", self._settings]

    def is_ready(self, pid: int, port: int) -> bool:
        try:
            with socket.create_connection((HOST, port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    @property
    def _settings(self) -> Path:
        return self.home / "nats.conf"

    @property
    def _password(self) -> Path:
        return self.home / "nats.password"


Spawned = Callable[[subprocess.Popen[bytes], int], None]


def launch(server: Server, binaries: Binaries, *, port: int | None, log: Path, spawned: Spawned) -> None:
    """Start the server at `port`, or at a free one, and wait until it answers.

    `spawned` hears of every process before anything is waited for, so that none is ever forgotten. A start
    that ends at once is repeated: somebody may have taken the port in the moment since it was found free.
    """
    give_up = time.monotonic() + READY_TIMEOUT_SECONDS
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
    for _ in range(LAUNCHES_MAX):
        chosen = port if port is not None else free_port()
        command = server.prepare(chosen, binaries)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **identity(server.account),
            )
        spawned(process, chosen)
        if await_ready(server, process.pid, chosen, give_up=give_up):
            return
        if time.monotonic() > give_up:
            break
        time.sleep(PAUSE_SECONDS)
    raise ServerFailed(f"{server.name} does not come up\n{_last_lines(log)}")


def await_ready(server: Server, pid: int, port: int, *, give_up: float | None = None) -> bool:
    """Whether the server answers before it ends and before `give_up`, a moment of the monotonic clock."""
    give_up = give_up if give_up is not None else time.monotonic() + READY_TIMEOUT_SECONDS
    while runs(pid, server.mark) and time.monotonic() < give_up:
        if server.is_ready(pid, port):
            return True
        time.sleep(POLL_SECONDS)
    return False


def end(server: Server, pid: int) -> None:
    """Stop the server and wait until it is gone."""
    for number, seconds in server.stop_signals:
        if _signal(server, pid, number, seconds):
            return
    raise ServerFailed(f"{server.name} (process {pid}) cannot be ended")


def kill(server: Server, pid: int) -> None:
    """Take the server away without warning, and wait until it is gone."""
    if not _signal(server, pid, signal.SIGKILL, KILL_SECONDS):
        raise ServerFailed(f"{server.name} (process {pid}) cannot be killed")


def _signal(server: Server, pid: int, number: signal.Signals, seconds: float) -> bool:
    """Whether the server was gone in time."""
    if not runs(pid, server.mark):
        return True
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    give_up = time.monotonic() + seconds
    while runs(pid, server.mark):
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_SECONDS)
    return True


def runs(pid: int, mark: str) -> bool:
    """Whether process `pid` is alive and has the argument `mark`: numbers are used again, folders are not."""
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            arguments = process.cmdline()
            return mark in arguments or not arguments  # without any it is just ending, and may hold its port
    except psutil.ZombieProcess:
        pass
    except psutil.Error:
        return False
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0  # a child of ours with a thread that has not ended yet
    except ChildProcessError:
        return False


def free_port(ports: range = PORTS) -> int:
    """One that outgoing connections are never given: such a one may be gone when its server wants it back,
    and a client that retries while the server is away may end up connected to itself."""
    for _ in range(PORT_TRIES_MAX):
        port = secrets.choice(ports)
        if port_is_free(port):
            return port
    raise ServerFailed(f"no free port between {ports.start} and {ports.stop}")


def port_is_free(port: int, *, patience_seconds: float = 0) -> bool:
    """Patience is for the port of a process that has just ended: its last thread may hold it a moment longer."""
    give_up = time.monotonic() + patience_seconds
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return True
            except OSError:
                if time.monotonic() >= give_up:
                    return False
        time.sleep(POLL_SECONDS)


def _environment() -> Mapping[str, str]:
    """Nothing of the caller's own PostgreSQL settings or language reaches the servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _keep_secret(path: Path, account: Account | None) -> None:
    """Make up a password, unless the file has one: it belongs to the data and lives as long."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32), account)


def _last_lines(log: Path, count: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
