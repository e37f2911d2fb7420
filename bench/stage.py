"""Knows how to set up what is measured: durable servers of its own, empty databases, and services as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from pydantic import SecretStr

from common.ids import SellerId
from common.settings import ServiceSettings
from common.testing import Databases, Keys
from libs.common.tests.notebook.main import PACKAGE
from libs.common.tests.notebook.settings import Settings
from tools.stack import Servers, Stack

READY_SECONDS: Final = 120.0
END_SECONDS: Final = 20.0
ROOT: Final = Path(__file__).resolve().parent.parent
# One core for what is measured, the other for whoever asks it; with a single core they share.
CORES: Final = sorted(os.sched_getaffinity(0))
MEASURED_CORE: Final = CORES[0]
OTHER_CORE: Final = CORES[-1]

NOTEBOOK: Final = "notebook"
ARCHIVE: Final = "archive"
SELLER: Final = SellerId("sel_01h455vb4pex5vsknk084sn02q")


@dataclass(slots=True)
class Stage:
    """Servers with all durability switched on, and whatever was started on them."""

    folder: Path
    servers: Servers
    databases: Databases
    keys: Keys
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    async def database(self, service: str) -> str:
        return await self.databases.create(service, migrated=PACKAGE)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], *, core: int | None) -> str:
        """Run a Python module until the stage is cleared; its address, once it is ready."""
        ready = self.folder / f"ready-{uuid.uuid4().hex}.json"
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment, "SALDO_READY_FILE": str(ready)},
            stdout=sys.stderr,
        )
        self.processes.append(process)
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        deadline = time.monotonic() + READY_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{arguments} is not ready (exit status {process.returncode})")
            time.sleep(0.02)
        address: str = json.loads(ready.read_text())["address"]
        return address

    def settings(self, name: str, url: str) -> Settings:
        return Settings(
            database_url=SecretStr(url),
            nats_url=self.servers.nats_url,
            listen="127.0.0.1:0",
            auth_jwks=self.keys.jwks,
            auth_key=self.keys.private(name),
            log_level="warning",
        )

    def environment(self, settings: ServiceSettings) -> dict[str, str]:
        """The same for a process of its own."""
        told = settings.model_dump(exclude_unset=True, exclude_none=True) | {
            "database_url": settings.database_url.get_secret_value()
        }
        return {f"SALDO_{key.upper()}": str(value) for key, value in told.items()}

    def as_administrator(self, url: str) -> str:
        """The same database for one to whom row-level security does not apply."""
        return self.servers.postgres_url.rpartition("/")[0] + "/" + url.rpartition("/")[2]

    def pin_servers(self, core: int) -> None:
        """Keep the two servers, and everything they start from now on, on one core."""
        for pid in self.servers.pids.values():
            for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, {core})

    def cpu_seconds(self) -> dict[str, float]:
        """What everything on the stage has used so far, this process included."""
        used = {"bench": _cpu_seconds(psutil.Process())}
        for number, process in enumerate(self.processes):
            with suppress(psutil.NoSuchProcess):  # one that was killed takes its account with it
                used[f"process {number}"] = _cpu_seconds(psutil.Process(process.pid))
        for name, pid in self.servers.pids.items():
            server = psutil.Process(pid)
            children = [_cpu_seconds(child) for child in server.children(recursive=True)]
            # What has ended is in the account of its parent.
            gone = server.cpu_times()
            used[name] = _cpu_seconds(server) + sum(children) + gone.children_user + gone.children_system
        return used

    def clear(self) -> None:
        """End the processes; the servers go on."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Everything in a folder that is gone afterwards, also when the measurement is broken off."""
    measuring = asyncio.current_task()
    assert measuring is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    with tempfile.TemporaryDirectory(prefix="saldo-bench-") as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # the servers' account has to reach its data
        stack = Stack(folder / "servers", environment={})
        found: Stage | None = None
        try:
            servers = stack.start()
            keys = folder / "keys"
            keys.mkdir()
            found = Stage(folder, servers, Databases(servers.postgres_url), Keys(keys, (NOTEBOOK, ARCHIVE)))
            yield found
        finally:
            if found is not None:
                found.clear()
            stack.discard()


def tell_ready(address: str) -> None:
    """What a service of the chassis does by itself."""
    ready = Path(os.environ["SALDO_READY_FILE"])
    unfinished = ready.with_suffix(".part")
    unfinished.write_text(json.dumps({"address": address}))
    unfinished.rename(ready)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
