"""Knows how to run the two servers everything stands on: `python -m tools.stack up|down|status|env|clean`.

PostgreSQL and nats-server come from wheels, listen on free ports of 127.0.0.1 and ask for passwords made up
for this checkout. Their addresses are remembered: after a stop, a crash or a kill -9 they come back at the
same place with the same data. `SALDO_POSTGRES_URL` and `SALDO_NATS_URL` name servers of one's own instead;
such a server is neither started nor stopped here.

Data lies in `.saldo/` of the checkout. PostgreSQL refuses to run as root, so root runs both servers as an
account without privileges. When that account cannot reach the checkout (a clone below a home of mode 700,
say), nobody's permissions are changed: data and a copy of the programs then lie in `/var/tmp/saldo-…`,
which `.saldo/run/stack.json` names and `clean` removes.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Literal, Self

from tools.accounts import Account, write_private
from tools.binaries import Binaries, ServerFailed
from tools.databases import DATABASES, SERVICES, create_databases
from tools.exclusive import exclusive
from tools.places import belongs, settle, temporary_folder
from tools.servers import (
    PORT_PATIENCE_SECONDS,
    Nats,
    Postgres,
    Server,
    await_ready,
    end,
    kill,
    launch,
    port_is_free,
    runs,
)

__all__ = ["DATABASES", "SERVICES", "ServerFailed", "Servers", "Stack", "State", "create_databases"]

Name = Literal["postgres", "nats"]
NAMES: tuple[Name, ...] = ("postgres", "nats")
OWN = {"postgres": "SALDO_POSTGRES_URL", "nats": "SALDO_NATS_URL"}

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / ".saldo"
LOCK_TIMEOUT_SECONDS = 300
GUARD_TIMEOUT_SECONDS = 60

# Servers outlive whoever started them; forgetting their handles would be reported as a leak.
_CHILDREN: list[subprocess.Popen[bytes]] = []


@atexit.register
def _reap() -> None:
    """Take note of those that have ended, or the interpreter would complain about them when it ends."""
    for child in _CHILDREN:
        child.poll()


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the servers listen, and the processes of those that are ours."""

    postgres_url: str
    nats_url: str
    pids: Mapping[str, int]

    def environment(self) -> dict[str, str]:
        return {OWN["postgres"]: self.postgres_url, OWN["nats"]: self.nats_url}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What `status` tells about one server."""

    name: str
    running: bool
    url: str
    pid: int | None
    log: Path | None

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self.url.rpartition("@")[2].partition("/")[0] if self.url else ""


@dataclass(slots=True)
class _Memory:
    """`run/stack.json`: what a later command has to know."""

    home: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)


class Stack:
    """The two servers of one folder. Every method may be called at any time, from any process, and again."""

    def __init__(
        self, folder: Path = FOLDER, *, volatile: bool = False, environment: Mapping[str, str] = os.environ
    ) -> None:
        """`environment` may name servers of one's own; `{}` means that this stack has to have both."""
        self.folder = folder.resolve()
        self.volatile = volatile
        self._own = {name: environment[OWN[name]] for name in NAMES if environment.get(OWN[name])}
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def temporary(cls) -> Stack:
        """Without durability, in a folder of its own; gone when stopped, or when this process ends."""
        stack = cls(temporary_folder(), volatile=True, environment={})
        stack._guard = subprocess.Popen(
            [sys.executable, "-m", "tools.stack", "--folder", stack.folder, "guard"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return stack

    def start(self) -> Servers:
        """Start what is not running yet, and say where both servers listen."""
        with self._exclusive() as memory:
            started: list[Name] = []
            try:
                for name in NAMES:
                    if name not in self._own and not self._is_up(name, memory):
                        started.append(name)
                        self._launch(name, memory, port=None)
            except BaseException:
                for name in started:
                    self._end(name, memory)
                raise
            return self._servers(memory)

    def start_one(self, name: Name) -> int:
        """Bring one server back, at the address it had; return its process."""
        with self._exclusive() as memory:
            if not self._is_up(name, memory):
                port = memory.ports.get(name)
                if port is not None and not port_is_free(port, patience_seconds=PORT_PATIENCE_SECONDS):
                    raise ServerFailed(f"port {port} of {name} has been taken by another program")
                self._launch(name, memory, port=port)
            return memory.pids[name]

    def kill(self, name: Name) -> None:
        """Take one server away without warning, as a fault would; return when it is gone."""
        with self._exclusive() as memory:
            if name in memory.pids:
                kill(self._server(name, memory), memory.pids[name])

    def stop(self) -> None:
        """End both servers; a temporary stack leaves nothing behind."""
        if self.volatile:
            self.discard()
        elif self.folder.exists():
            with self._exclusive() as memory:
                for name in reversed(NAMES):
                    self._end(name, memory)
        if self._guard:
            guard, self._guard = self._guard, None
            guard.communicate(timeout=GUARD_TIMEOUT_SECONDS)

    def discard(self) -> None:
        """End both servers and delete their data."""
        if not (self._run / "stack.json").exists():
            if self.volatile:
                shutil.rmtree(self.folder, ignore_errors=True)
            return
        with self._exclusive() as memory:
            for name in reversed(NAMES):
                self._end(name, memory)
            home = self._home(memory)
            for path in (home / "postgres", home / "postgres.new", home / "nats", home / "server"):
                shutil.rmtree(path, ignore_errors=True)
            for path in home.glob("*.password"):
                path.unlink()
            (home / "nats.conf").unlink(missing_ok=True)
            if home != self.folder:
                shutil.rmtree(home, ignore_errors=True)
            (self.folder / "run" / "stack.json").unlink(missing_ok=True)
            (self.folder / "run" / "passwords.json").unlink(missing_ok=True)
        if self.volatile:
            shutil.rmtree(self.folder, ignore_errors=True)

    def status(self) -> list[State]:
        """What is there right now; nothing is started and nothing is waited for."""
        memory = self._remembered()
        return [self._state(name, memory) for name in NAMES]

    def servers(self) -> Servers | None:
        """Where both servers listen, or None unless both are running."""
        if not all(state.running for state in self.status()):
            return None
        return self._servers(self._remembered())

    @property
    def home(self) -> Path:
        """Where the data is: our folder, or another that the servers' account can reach."""
        return self._home(self._remembered())

    def passwords(self, names: Iterable[str] = DATABASES) -> dict[str, str]:
        """The passwords of the services' roles, made up once for this folder."""
        with exclusive(self._run / "passwords.lock", timeout_seconds=LOCK_TIMEOUT_SECONDS):
            path = self._run / "passwords.json"
            kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
            missing = {name: token_urlsafe(32) for name in names if name not in kept}
            if missing:
                write_private(path, json.dumps(kept | missing, indent=2))
            return {name: (kept | missing)[name] for name in names}

    def _launch(self, name: Name, memory: _Memory, *, port: int | None) -> None:
        """At `port` or nowhere; without one, at the remembered port if that is free, else at a new one."""
        server = self._server(name, memory)
        remembered = memory.ports.get(name)
        if port is None and remembered and port_is_free(remembered, patience_seconds=PORT_PATIENCE_SECONDS):
            port = remembered

        def spawned(process: subprocess.Popen[bytes], chosen: int) -> None:
            _CHILDREN.append(process)
            memory.pids[name], memory.ports[name] = process.pid, chosen
            self._remember(memory)

        binaries = Binaries.runnable_by(server.account, home=self._home(memory))
        launch(server, binaries, port=port, log=self._log(name), spawned=spawned)

    def _end(self, name: Name, memory: _Memory) -> None:
        if name in memory.pids:
            end(self._server(name, memory), memory.pids[name])
            del memory.pids[name]
            self._remember(memory)

    def _is_up(self, name: Name, memory: _Memory) -> bool:
        """Running and answering. One that is still starting is given its time, one that hangs is ended."""
        if name not in memory.pids:
            return False
        server = self._server(name, memory)
        if await_ready(server, memory.pids[name], memory.ports[name]):
            return True
        self._end(name, memory)
        return False

    def _server(self, name: Name, memory: _Memory) -> Server:
        account, home = Account.unprivileged(), self._home(memory)
        if name == "postgres":
            return Postgres(home=home, account=account, volatile=self.volatile)
        return Nats(home=home, account=account, volatile=self.volatile)

    def _state(self, name: Name, memory: _Memory) -> State:
        if name in self._own:
            return State(name=name, running=True, url=self._own[name], pid=None, log=None)
        if not memory.home or name not in memory.ports:
            return State(name=name, running=False, url="", pid=None, log=None)
        server = self._server(name, memory)
        pid = memory.pids.get(name)
        running = pid is not None and runs(pid, server.mark)
        url = server.url(memory.ports[name])
        return State(name=name, running=running, url=url, pid=pid if running else None, log=self._log(name))

    def _servers(self, memory: _Memory) -> Servers:
        states = {name: self._state(name, memory) for name in NAMES}
        return Servers(
            postgres_url=states["postgres"].url,
            nats_url=states["nats"].url,
            pids={name: state.pid for name, state in states.items() if state.pid is not None},
        )

    @property
    def _run(self) -> Path:
        return self.folder / "run"

    def _log(self, name: str) -> Path:
        return self._run / f"{name}.log"

    def _home(self, memory: _Memory) -> Path:
        if not memory.home:
            home = settle(self.folder)
            memory.home = "." if home == self.folder else str(home)
            self._remember(memory)
        return self.folder / memory.home

    def _remembered(self) -> _Memory:
        try:
            memory = _Memory(**json.loads((self._run / "stack.json").read_text()))
        except FileNotFoundError:
            return _Memory()
        if memory.home not in ("", ".") and not belongs(Path(memory.home), self.folder):
            memory.home, memory.pids = "", {}  # our folder is a copy, or the data outside it was tidied away
        return memory

    def _remember(self, memory: _Memory) -> None:
        write_private(self._run / "stack.json", json.dumps(asdict(memory), indent=2))

    @contextmanager
    def _exclusive(self) -> Iterator[_Memory]:
        self._run.mkdir(parents=True, exist_ok=True)
        self._run.chmod(0o700)
        with exclusive(self._run / "stack.lock", timeout_seconds=LOCK_TIMEOUT_SECONDS):
            yield self._remembered()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def main() -> int:
    commands = {
        "up": _up,
        "down": Stack.stop,
        "status": _status,
        "env": _env,
        "clean": Stack.discard,
        "guard": _watch,
    }
    parser = argparse.ArgumentParser(prog="python -m tools.stack", description="PostgreSQL and NATS for this checkout.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where data and passwords are (default: .saldo)")
    parser.add_argument("command", choices=commands)
    chosen = parser.parse_args()
    temporary = chosen.command == "guard"
    stack = Stack(chosen.folder, volatile=temporary, environment={} if temporary else os.environ)
    return commands[chosen.command](stack) or 0


def _up(stack: Stack) -> int:
    stack.start()
    return _status(stack)


def _status(stack: Stack) -> int:
    for state in stack.status():
        print(f"{state.name:10}{state.address:22}{_described(state)}")
    return 0


def _described(state: State) -> str:
    if state.pid:
        return f"process {state.pid}, log {state.log}"
    return "not ours" if state.running else "not running"


def _env(stack: Stack) -> int:
    """For `eval "$(python -m tools.stack env)"`."""
    servers = stack.servers()
    if servers is None:
        print("the stack is not running", file=sys.stderr)
        return 1
    for name, value in servers.environment().items():
        print(f"export {name}='{value}'")
    return 0


def _watch(stack: Stack) -> None:
    """Wait until the owner of this temporary stack has ended, whichever way, then clear up after it."""
    sys.stdin.buffer.read()
    stack.discard()


if __name__ == "__main__":
    raise SystemExit(main())
