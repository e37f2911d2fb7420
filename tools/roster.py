"""Knows what is on record about the processes of a suite, and whether a recorded process is still the same one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tools.accounts import write_private

SAME_START_SECONDS: Final = 2.0  # how far two readings of one process's start may lie apart
POLL_SECONDS: Final = 0.02
KILL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process by number and start: numbers are used again, both together are not."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def runs(self) -> bool:
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < SAME_START_SECONDS
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def signal(self, number: signal.Signals) -> None:
        if self.runs():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(slots=True, kw_only=True)
class Entry:
    """One service: where it listens, and what has become of its process."""

    port: int
    process: Process | None = None
    deaths: int = 0
    last_exit: int | None = None
    gave_up: bool = False


@dataclass(slots=True, kw_only=True)
class Roster:
    """`run/suite.json`: written by the supervisor, read by every other command."""

    supervisor: Process | None = None
    phase: str = ""
    services: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Roster:
        try:
            found = json.loads(_path(folder).read_text())
        except FileNotFoundError:
            return cls()
        return cls(
            supervisor=_process(found["supervisor"]),
            phase=found["phase"],
            services={
                name: Entry(**{**entry, "process": _process(entry["process"])})
                for name, entry in found["services"].items()
            },
        )

    def write(self, folder: Path) -> None:
        write_private(_path(folder), json.dumps(asdict(self), indent=2))

    def processes(self) -> list[Process]:
        """Of the services, as far as they are known to have one."""
        return [entry.process for entry in self.services.values() if entry.process is not None]


def end(processes: Iterable[Process], *, seconds: float) -> None:
    """Ask the processes to stop, and make those stop that have not after `seconds`."""
    left = list(processes)
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, KILL_SECONDS)):
        for process in left:
            process.signal(number)
        give_up = time.monotonic() + patience
        while (left := [process for process in left if process.runs()]) and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)
        if not left:
            return
    raise TimeoutError(f"cannot be ended: {', '.join(str(process.pid) for process in left)}")


def _path(folder: Path) -> Path:
    return folder / "run" / "suite.json"


def _process(found: dict[str, Any] | None) -> Process | None:  # Any: as JSON has it
    return Process(**found) if found else None
