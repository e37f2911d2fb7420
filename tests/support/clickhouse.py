"""Knows how ClickHouse's engine is had in tests: as a server, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
END_SECONDS: Final = 10


@contextmanager
def clickhouse() -> Iterator[str]:
    """The URL of an empty one, which is gone with the block."""
    command = [sys.executable, "-m", "tests.support.clickhouse_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("the engine did not start: `make test` and `make conformance` install it")
            yield f"http://127.0.0.1:{port}/default"
            process.stdin.close()
            process.wait(END_SECONDS)
        finally:
            process.kill()
