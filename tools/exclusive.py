"""Knows how two commands in the same checkout take turns."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.05


@contextmanager
def exclusive(path: Path, *, timeout_seconds: float = 120) -> Iterator[None]:
    """Hold the lock file at `path`, which a crash releases; TimeoutError when somebody else keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + timeout_seconds
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TimeoutError(f"{path} is still held after {timeout_seconds} s") from None
                time.sleep(POLL_SECONDS)
        yield
