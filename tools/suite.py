"""Knows the suite of one folder: six services and two servers, started together, found healthy, stopped together."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.databases import database_url
from tools.exclusive import exclusive
from tools.keys import Keys
from tools.places import temporary_folder
from tools.roster import Process, Roster, end
from tools.servers import HOST, LOG_BYTES_MAX
from tools.stack import CHECKOUT, FOLDER, OWN, SERVICES, Name, Stack

HEALTHY_TIMEOUT_SECONDS: Final = 120.0
RESTART_TIMEOUT_SECONDS: Final = 60.0
DOWN_TIMEOUT_SECONDS: Final = 60.0
LOCK_TIMEOUT_SECONDS: Final = 180.0
HEALTH_TIMEOUT_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.05
LOG_LINES: Final = 15


# Supervisors outlive whoever started them; forgetting their handles would be reported as a leak.
_CHILDREN: list[subprocess.Popen[bytes]] = []


@atexit.register
def _reap() -> None:
    """Take note of those that have ended, or the interpreter would complain about them when it ends."""
    for child in _CHILDREN:
        child.poll()


class SuiteFailed(Exception):
    """The suite did not come up, or not back; the message says what was written about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What `status` tells about one process."""

    name: str
    address: str
    pid: int | None
    health: str
    deaths: int

    @property
    def healthy(self) -> bool:
        return self.health == "healthy"


class Suite:
    """Every method may be called at any time, from any process, and again."""

    def __init__(
        self,
        folder: Path = FOLDER,
        *,
        volatile: bool = False,
        temporary: bool = False,
        otlp_endpoint: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """`environment` may name servers of one's own, and is what the services are started in. A volatile suite
        survives no crash of a server, a temporary one leaves no folder behind."""
        self.folder = folder.resolve()
        self.stack = Stack(self.folder, volatile=volatile, environment=environment)
        self.keys = Keys(self.folder / "keys")
        self._volatile = volatile
        self._temporary = temporary
        self._otlp_endpoint = otlp_endpoint
        self._process_environment = environment
        self._launched: subprocess.Popen[bytes] | None = None
        self._tether: subprocess.Popen[bytes] | None = None

    def up(self, *, services: tuple[str, ...] = SERVICES, on_wait: Callable[[str], None] = lambda _: None) -> None:
        """Start what is missing in the background, and wait until everything is healthy.

        Whatever interrupts it, nothing that it started is left.
        """
        with exclusive(self._run / "suite.lock", timeout_seconds=LOCK_TIMEOUT_SECONDS):
            self._run.chmod(0o700)
            supervisor = self.roster.supervisor
            if supervisor is not None and supervisor.runs():
                supervisor.signal(signal.SIGHUP)
                self.await_healthy(services, on_wait=on_wait)
                return
            try:
                self._launch(services, tethered=False)
                self.await_healthy(services, on_wait=on_wait)
            except BaseException:
                self._stop()
                raise

    def down(self) -> None:
        """Stop everything that was started here, by whatever command."""
        if not self._run.exists():
            return
        with exclusive(self._run / "suite.lock", timeout_seconds=LOCK_TIMEOUT_SECONDS):
            self._stop()

    def await_healthy(
        self, services: tuple[str, ...] = SERVICES, *, on_wait: Callable[[str], None] = lambda _: None
    ) -> None:
        give_up = time.monotonic() + HEALTHY_TIMEOUT_SECONDS
        while True:
            roster = self.roster
            if roster.supervisor is None or not roster.supervisor.runs():
                raise SuiteFailed(f"the supervisor has ended\n{_last_lines(self._run / 'supervisor.log')}")
            for name in services:
                if roster.services[name].gave_up:
                    raise SuiteFailed(f"{name} does not stay up\n{_last_lines(self._run / f'{name}.log')}")
            # A file says it sooner and cheaper than a connection that must be tried again.
            ready = [name for name in services if self._is_ready(name, roster)]
            if len(ready) == len(services) and all(
                _health(f"{HOST}:{roster.services[name].port}") == "healthy" for name in services
            ):
                return
            if time.monotonic() > give_up:
                missing = [name for name in services if name not in ready]
                raise SuiteFailed(
                    f"not healthy after {HEALTHY_TIMEOUT_SECONDS:.0f} s: {', '.join(missing) or 'health'}"
                )
            on_wait(roster.phase if not ready else f"{len(ready)} of {len(services)} services")
            time.sleep(POLL_SECONDS)

    def states(self) -> list[State]:
        """What is there right now; nothing is started, and nothing is waited for longer than a moment."""
        roster = self.roster
        found = [
            State(
                name=state.name,
                address=state.address,
                pid=state.pid,
                health="healthy" if state.running else "not running",
                deaths=0,
            )
            for state in self.stack.status()
        ]
        for name, entry in roster.services.items():
            running = entry.process is not None and entry.process.runs()
            address = f"{HOST}:{entry.port}"
            found.append(
                State(
                    name=name,
                    address=address,
                    pid=entry.process.pid if running and entry.process else None,
                    health=_health(address) if running else "gave up" if entry.gave_up else "not running",
                    deaths=entry.deaths,
                )
            )
        return found

    @property
    def roster(self) -> Roster:
        return Roster.read(self.folder)

    def addresses(self) -> dict[str, str]:
        """Where every service listens."""
        return {name: f"{HOST}:{entry.port}" for name, entry in self.roster.services.items()}

    def database_urls(self) -> dict[str, str]:
        """Where every service, and the simulated gateway, keeps its data."""
        servers = self.stack.servers()
        if servers is None:
            raise SuiteFailed("the servers are not running")
        passwords = self.stack.passwords()
        return {name: database_url(servers.postgres_url, name, password) for name, password in passwords.items()}

    def log_of(self, name: str) -> str:
        return (self._run / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """Take one service away without warning; the supervisor brings it back."""
        process = self.roster.services[name].process
        if process is not None:
            process.signal(signal.SIGKILL)

    def kill_server(self, name: Name) -> None:
        self.stack.kill(name)

    def restart(self, name: str, environment: Mapping[str, str]) -> None:
        """Kill one service and start it once with more in its environment; only in a suite that is held by a tether."""
        assert self._tether is not None, "a suite in the background takes no commands"
        assert self._tether.stdin is not None
        before = self.roster.services[name].process
        command = json.dumps({"restart": name, "environment": dict(environment)})
        self._tether.stdin.write(command.encode() + b"\n")
        self._tether.stdin.flush()
        give_up = time.monotonic() + RESTART_TIMEOUT_SECONDS
        while time.monotonic() < give_up:
            roster = self.roster
            if roster.services[name].process != before and self._is_ready(name, roster):
                return
            time.sleep(POLL_SECONDS)
        raise SuiteFailed(f"{name} did not come back\n{_last_lines(self._run / f'{name}.log')}")

    def hold(self, services: tuple[str, ...] = SERVICES) -> None:
        """Start the suite so that it ends with this process, whichever way that ends."""
        try:
            self._launch(services, tethered=True)
            self.await_healthy(services)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._tether is None:
            return
        tether, self._tether = self._tether, None
        assert tether.stdin is not None
        tether.stdin.close()
        try:
            tether.wait(DOWN_TIMEOUT_SECONDS)
        finally:
            if tether.poll() is None:
                tether.kill()
                self._stop()
            if self._temporary:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self, services: tuple[str, ...], *, tethered: bool) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        self._run.chmod(0o700)
        self.keys.create()
        command = [sys.executable, "-m", "tools.supervisor", "--folder", str(self.folder)]
        command += ["--services", ",".join(services), "--otlp-endpoint", self._otlp_endpoint]
        command += ["--volatile"] * self._volatile + ["--temporary"] * self._temporary + ["--tethered"] * tethered
        log = self._run / "supervisor.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={**self._process_environment, "GRPC_ENABLE_FORK_SUPPORT": "0"},
                stdin=subprocess.PIPE if tethered else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _CHILDREN.append(process)
        self._launched = process
        if tethered:
            self._tether = process
        self._await_supervisor(process)

    def _await_supervisor(self, process: subprocess.Popen[bytes]) -> None:
        """Until the roster is about this supervisor and not about the one before."""
        give_up = time.monotonic() + HEALTHY_TIMEOUT_SECONDS
        while time.monotonic() < give_up:
            supervisor = self.roster.supervisor
            if supervisor is not None and supervisor.pid == process.pid:
                return
            if process.poll() is not None:
                break
            time.sleep(POLL_SECONDS)
        raise SuiteFailed(f"the supervisor does not come up\n{_last_lines(self._run / 'supervisor.log')}")

    def _stop(self) -> None:
        roster = self.roster
        supervisors = [roster.supervisor] if roster.supervisor is not None else []
        if self._launched is not None and self._launched.poll() is None:
            supervisors.append(Process.of(self._launched.pid))  # it may not have put itself on record yet
        end(supervisors, seconds=DOWN_TIMEOUT_SECONDS)
        roster = self.roster
        end(roster.processes(), seconds=DOWN_TIMEOUT_SECONDS)  # left behind by a supervisor that was killed
        _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
        self.stack.stop()

    def _is_ready(self, name: str, roster: Roster) -> bool:
        process = roster.services[name].process
        try:
            told = json.loads((self._run / f"{name}.ready").read_text())
        except FileNotFoundError:
            return False
        return process is not None and told["pid"] == process.pid

    @property
    def _run(self) -> Path:
        return self.folder / "run"


@contextmanager
def running_suite(
    folder: Path | None = None,
    *,
    volatile: bool = True,
    otlp_endpoint: str = "",
    services: tuple[str, ...] = SERVICES,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Suite]:
    """A suite for as long as the body runs; without a folder, in a temporary one with servers of its own.

    A volatile one is quicker, and loses data when a server is killed. It ends with this process, whichever way that
    ends. `settings` are environment variables for the services.
    """
    without_servers = {name: value for name, value in os.environ.items() if name not in OWN.values()}
    suite = Suite(
        folder or temporary_folder(),
        volatile=volatile,
        temporary=folder is None,
        otlp_endpoint=otlp_endpoint,
        environment={**(without_servers if folder is None else os.environ), **(settings or {})},
    )
    suite.hold(services)
    try:
        yield suite
    finally:
        suite.release()


def _health(address: str) -> str:
    """By the health service, as Kubernetes would ask."""
    import grpc  # imported late: a process that only starts or stops the suite does without
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # missing in its stubs
            answer = check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name.lower()})"
    return "healthy" if answer.status == health_pb2.HealthCheckResponse.SERVING else "not serving"


def _last_lines(log: Path) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
