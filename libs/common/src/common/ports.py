"""Knows ports that a test process has for itself, however many of them run side by side."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections import deque
from functools import cache
from pathlib import Path
from typing import IO, Final

PORTS: Final = range(10_000, 15_000)
PORTS_OF_A_PROCESS: Final = 250


class Ports:
    """Ports for this process alone: a share of PORTS that is locked as long as the process lives.

    Test processes run side by side, and a service that is started again wants the port it had: one that merely is free
    now may be another's by then. Outgoing connections are never given one of these.
    """

    def __init__(self, folder: Path) -> None:
        self._lock, share = _locked_share(folder)
        self._free = deque(PORTS[share * PORTS_OF_A_PROCESS : (share + 1) * PORTS_OF_A_PROCESS])

    @classmethod
    @cache
    def of_this_process(cls) -> Ports:
        return cls(Path(tempfile.gettempdir()))

    def take(self) -> int:
        for _ in range(len(self._free)):
            port = self._free.popleft()  # the one that has been free for longest
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: what lingers is no matter
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    self._free.append(port)
                    continue
            return port
        raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop} for this process")

    def give_back(self, port: int) -> None:
        self._free.append(port)

    def close(self) -> None:
        self._lock.close()


def _locked_share(folder: Path) -> tuple[IO[bytes], int]:
    for share in range(len(PORTS) // PORTS_OF_A_PROCESS):
        lock = (folder / f"saldo-test-ports-{os.getuid()}-{share}").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return lock, share
    raise RuntimeError(f"all shares of the ports between {PORTS.start} and {PORTS.stop} are taken by other processes")
