"""Knows how the services of one machine are kept alive: started, watched, brought back within limits, drained.

One process without threads imports every service once and forks each of them from itself: the six share that memory
and are back within a tenth of a second. Whatever may take time (starting a server, shaping the databases) is an errand
of another forked process, so that the supervisor always listens to its signals.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tools.databases import create_databases, database_url
from tools.forking import exit_code, fork
from tools.roster import Entry, Process, Roster, end
from tools.servers import HOST, LOG_BYTES_MAX, PORT_PATIENCE_SECONDS, SERVICE_PORTS, free_port, port_is_free
from tools.stack import NAMES, SERVICES, Name, Stack

RESTARTS_PER_MINUTE_MAX: Final = 8
MINUTE: Final = 60.0
BACK_OFF_SECONDS: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
SETTLED_SECONDS: Final = 10.0  # a process that has lived this long does not fail at once
POLL_SECONDS: Final = 0.05
SERVERS_POLL_SECONDS: Final = 0.25
DRAIN_SECONDS: Final = 20.0
ASK_AGAIN_SECONDS: Final = 1.0
TOLD_BYTES: Final = 65_536
PREPARING: Final = "preparing the servers"
SERVING: Final = "serving"

# What the services must not be told: the administrator's password, and what was meant for one start of one of them.
WITHHELD: Final = ("SALDO_POSTGRES_URL", "SALDO_CRASHPOINT")
# On one machine a service that died is back at once, and need not wait as long for what it had in hand.
ACK_WAIT_SECONDS: Final = "10"


@dataclass(slots=True, kw_only=True)
class _Ward:
    """Something kept alive."""

    pid: int | None = None
    deaths: deque[float] = field(default_factory=deque)
    quick_deaths: int = 0
    born: float = 0.0
    not_before: float = 0.0
    gave_up: bool = False
    next_environment: dict[str, str] = field(default_factory=dict)
    migrated: bool = False
    told_to_restart: bool = False

    def died(self) -> None:
        now = time.monotonic()
        self.pid = None
        self.quick_deaths = self.quick_deaths + 1 if now - self.born < SETTLED_SECONDS else 0
        self.not_before = now + BACK_OFF_SECONDS[min(self.quick_deaths, len(BACK_OFF_SECONDS) - 1)]
        self.deaths.append(now)
        while self.deaths and now - self.deaths[0] > MINUTE:
            self.deaths.popleft()
        self.gave_up = len(self.deaths) > RESTARTS_PER_MINUTE_MAX

    def forgive(self) -> None:
        self.deaths.clear()
        self.quick_deaths, self.not_before, self.gave_up = 0, 0.0, False

    @property
    def wanted_now(self) -> bool:
        return self.pid is None and not self.gave_up and time.monotonic() >= self.not_before


class Supervisor:
    def __init__(
        self, stack: Stack, *, services: tuple[str, ...], otlp_endpoint: str, temporary: bool, tethered: bool
    ) -> None:
        """A temporary suite leaves no folder; a tethered one ends when the supervisor's standard input does, from which
        it takes commands."""
        self._stack = stack
        self._folder = stack.folder
        self._otlp_endpoint = otlp_endpoint
        self._temporary = temporary
        self._tethered = tethered
        self._told = b""
        self._stopping = False
        self._roster = Roster.read(self._folder)
        self._services = {name: _Ward() for name in services}
        self._servers: dict[Name, _Ward] = {name: _Ward() for name in NAMES}
        self._servers_seen = 0.0
        self._urls: dict[str, str] = {}

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_try_again)
        try:
            self._claim()
            prepared = self._prepare()
            while prepared and not self._stopping:
                self._round()
                self._listen(POLL_SECONDS)
            return 0 if prepared or self._stopping else 1
        finally:
            self._drain()

    def _claim(self) -> None:
        """Take over from a supervisor that was killed: its services are ended, their ports are kept."""
        end(self._roster.processes(), seconds=DRAIN_SECONDS)
        ports = {name: entry.port for name, entry in self._roster.services.items()}
        taken = set(ports.values())
        for name in SERVICES:
            while ports.get(name) not in SERVICE_PORTS or not port_is_free(
                ports[name], patience_seconds=PORT_PATIENCE_SECONDS
            ):
                port = free_port(SERVICE_PORTS)
                if port not in taken:
                    ports[name] = port
                    taken.add(port)
        self._roster = Roster(
            supervisor=Process.of(os.getpid()),
            phase=PREPARING,
            services={name: Entry(port=ports[name]) for name in SERVICES},
        )
        self._write()

    def _prepare(self) -> bool:
        """Servers and databases in one process, the imports in this one; whether both are there."""
        errand = fork(self._prepare_servers)
        for name in self._services:
            importlib.import_module(f"{name}.main")
        import uvloop  # noqa: F401 # shared by all services, imported late by theirs

        if self._otlp_endpoint:
            importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
            importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.metric_exporter")
            importlib.import_module("opentelemetry.exporter.otlp.proto.grpc._log_exporter")
        gc.collect()
        gc.freeze()  # what is never collected is never written to, and stays shared
        while (code := exit_code(errand)) is None:
            self._listen(POLL_SECONDS)
            if self._stopping:
                end([Process.of(errand)], seconds=DRAIN_SECONDS)
        if code or self._stopping:
            return False
        servers = self._stack.servers()
        assert servers is not None, "the errand has started them"
        passwords = self._stack.passwords()
        self._urls = {
            name: database_url(servers.postgres_url, name, password).replace("postgresql:", "postgresql+asyncpg:", 1)
            for name, password in passwords.items()
        }
        self._urls["nats"] = servers.nats_url
        self._roster.phase = SERVING
        self._write()
        return True

    def _prepare_servers(self) -> None:
        servers = self._stack.start()
        asyncio.run(create_databases(servers.postgres_url, passwords=self._stack.passwords()))

    def _round(self) -> None:
        changed = False
        for name, ward in self._services.items():
            if ward.pid is not None and (code := exit_code(ward.pid)) is not None:
                self._bury(name, ward, code)
                changed = True
            if ward.wanted_now:
                self._start(name, ward)
                changed = True
        if changed:
            self._write()
        if time.monotonic() - self._servers_seen > SERVERS_POLL_SECONDS:
            self._look_after_servers()
            self._servers_seen = time.monotonic()

    def _start(self, name: str, ward: _Ward) -> None:
        environment = self._environment(name) | ward.next_environment
        log = self._folder / "run" / f"{name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        _ready_file(self._folder, name).unlink(missing_ok=True)
        live = partial(_become, name, environment, migrate=not ward.migrated)
        ward.pid = fork(live, log=log, die_with_parent=True)
        ward.born = time.monotonic()
        ward.next_environment = {}
        self._roster.services[name].process = Process.of(ward.pid)

    def _bury(self, name: str, ward: _Ward, code: int) -> None:
        ward.migrated = ward.migrated or _ready_file(self._folder, name).exists()
        entry = self._roster.services[name]
        entry.process, entry.last_exit = None, code
        if ward.told_to_restart:
            ward.pid, ward.told_to_restart = None, False
            return
        ward.died()
        entry.gave_up = ward.gave_up
        entry.deaths += 1
        _say(f"{name} ended with {code}" + (", too often: it stays down" if ward.gave_up else ""))

    def _look_after_servers(self) -> None:
        running = {state.name: state.running for state in self._stack.status()}
        for name, ward in self._servers.items():
            if ward.pid is not None:  # the errand of bringing it back
                if (code := exit_code(ward.pid)) is not None:
                    _say(f"{name} was away and is {'still' if code else 'no longer'} so")
                    ward.died()
            elif not running[name] and ward.wanted_now:
                ward.pid = fork(partial(self._stack.start_one, name))
                ward.born = time.monotonic()

    def _environment(self, name: str) -> dict[str, str]:
        keys = self._folder / "keys"
        told = {key: value for key, value in os.environ.items() if key not in WITHHELD}
        told.setdefault("SALDO_ACK_WAIT_SECONDS", ACK_WAIT_SECONDS)
        told |= {
            f"SALDO_{other.upper()}_ADDRESS": f"{HOST}:{entry.port}" for other, entry in self._roster.services.items()
        }
        told |= {
            "SALDO_DATABASE_URL": self._urls[name],
            "SALDO_NATS_URL": self._urls["nats"],
            "SALDO_LISTEN": f"{HOST}:{self._roster.services[name].port}",
            "SALDO_AUTH_JWKS": str(keys / "jwks.json"),
            "SALDO_AUTH_KEY": str(keys / f"{name}.pem"),
            "SALDO_READY_FILE": str(_ready_file(self._folder, name)),
            "SALDO_OTLP_ENDPOINT": self._otlp_endpoint,
        }
        if name == "subscriptions":
            told["SALDO_MASTER_KEYS"] = str(keys / "subscriptions-master-keys")
        if name == "payments":
            told["SALDO_SIMULATED_GATEWAY_URL"] = self._urls["simulated_gateway"]
        return told

    def _listen(self, seconds: float) -> None:
        """Sleep, or hear what the one who holds the tether wants."""
        if not self._tethered:
            time.sleep(seconds)
            return
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        if not ready:
            return
        told = os.read(sys.stdin.fileno(), TOLD_BYTES)
        if not told:
            self._stopping = True
        *lines, self._told = (self._told + told).split(b"\n")
        for line in lines:
            command = json.loads(line)
            self._restart(command["restart"], command["environment"])

    def _restart(self, name: str, environment: dict[str, str]) -> None:
        """Once with this environment: if it dies of it, it comes back without."""
        ward = self._services[name]
        ward.forgive()
        ward.next_environment = environment
        if ward.pid is not None:
            ward.told_to_restart = True
            os.kill(ward.pid, signal.SIGKILL)

    def _drain(self) -> None:
        """End the services together, then the servers."""
        processes = {ward.pid: Process.of(ward.pid) for ward in self._services.values() if ward.pid}
        give_up = time.monotonic() + DRAIN_SECONDS
        ask_again = 0.0
        while processes:
            now = time.monotonic()
            if now > ask_again:  # one that was just forked may have missed it
                number = signal.SIGTERM if now < give_up else signal.SIGKILL
                for process in processes.values():
                    process.signal(number)
                ask_again = now + ASK_AGAIN_SECONDS
            processes = {pid: process for pid, process in processes.items() if exit_code(pid) is None}
            time.sleep(POLL_SECONDS)
        for ward in self._servers.values():
            if ward.pid is not None and exit_code(ward.pid) is None:
                end([Process.of(ward.pid)], seconds=DRAIN_SECONDS)
        self._roster.supervisor, self._roster.phase = None, ""
        for entry in self._roster.services.values():
            entry.process = None
        self._write()
        self._stack.stop()
        if self._temporary:
            self._stack.discard()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self) -> None:
        self._roster.write(self._folder)

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _on_try_again(self, *_: object) -> None:
        for ward in (*self._services.values(), *self._servers.values()):
            ward.forgive()
        for entry in self._roster.services.values():
            entry.gave_up = False


def _become(name: str, environment: Mapping[str, str], *, migrate: bool) -> None:
    """Live as this service: what its own command does, in a process that has imported it already."""
    os.environ.clear()
    os.environ.update(environment)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)  # what `ps` and `top` call it
    sys.argv = [name]
    crash = importlib.import_module("common.crash")
    crash.arm(environment.get("SALDO_CRASHPOINT", ""))
    main: Callable[[], None] = importlib.import_module(f"{name}.main").main
    if migrate:
        sys.argv = [name, "migrate"]
        main()
        sys.argv = [name]
    main()


def _ready_file(folder: Path, name: str) -> Path:
    return folder / "run" / f"{name}.ready"


def _say(message: str) -> None:
    print(message, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.supervisor", description="Keeps a suite running.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--services", default=",".join(SERVICES))
    parser.add_argument("--otlp-endpoint", default="")
    parser.add_argument("--volatile", action="store_true", help="servers that lose data when they are killed")
    parser.add_argument("--temporary", action="store_true", help="delete the folder at the end")
    parser.add_argument("--tethered", action="store_true", help="end when standard input does")
    chosen = parser.parse_args()
    supervisor = Supervisor(
        Stack(chosen.folder, volatile=chosen.volatile),
        services=tuple(chosen.services.split(",")),
        otlp_endpoint=chosen.otlp_endpoint,
        temporary=chosen.temporary,
        tethered=chosen.tethered,
    )
    return supervisor.run()


if __name__ == "__main__":
    raise SystemExit(main())
