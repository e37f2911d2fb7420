"""How long an empty machine takes to six healthy services, and how much memory they take at rest.

Everything is new each time: initdb, NATS, six databases and their migrations, all durable. The ceiling is one process
importing the code of all six services once; the ratio is how much of the start that is.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from bench.figures import Figure, percentile_ms
from common.caller import Role
from common.wire import timestamp
from saldo.catalog.v1 import catalog_service_pb2, seller_pb2
from tests.support.sandbox import ADDRESS
from tools.client import Client
from tools.stack import CHECKOUT, SERVICES
from tools.suite import Suite

ROUNDS: Final = 3
REST_SECONDS: Final = 5.0
BYTES_PER_MB: Final = 1 << 20
SECONDS_MAX: Final = 15.0
MB_MAX: Final = 700.0
IMPORTS: Final = "; ".join(f"import {name}.main" for name in SERVICES)


def main() -> None:
    starts: list[float] = []
    imports: list[float] = []
    memory: list[float] = []
    checked = True
    for _ in range(ROUNDS):
        imports.append(_import_everything())
        with tempfile.TemporaryDirectory(prefix="saldo-bench-") as home:
            suite = Suite(Path(home), environment=_without_saldo())
            began = time.perf_counter()
            suite.up()
            starts.append(time.perf_counter() - began)
            try:
                checked &= asyncio.run(_answers(suite))
                time.sleep(REST_SECONDS)
                processes = _processes(suite)
                memory.append(sum(_pss(process) for process in processes) / BYTES_PER_MB)
            finally:
                suite.down()
                suite.stack.discard()
            checked &= not any(_lives(process) for process in processes)
    figure = Figure(
        bench="coldstart",
        value=statistics.median(starts),
        unit="s",
        ceiling=statistics.median(imports),
        ratio=statistics.median(imports) / statistics.median(starts),
        p50_ms=percentile_ms(starts, 0.5),
        p99_ms=percentile_ms(starts, 0.99),
        checked=checked,
        more={
            "idle_mb": round(statistics.median(memory)),
            "aim": f"under {SECONDS_MAX:.0f} s and {MB_MAX:.0f} MB",
            "met": max(starts) < SECONDS_MAX and max(memory) < MB_MAX,
        },
    )
    print(figure.line())


def _without_saldo() -> dict[str, str]:
    """Servers of one's own would spare the most expensive part."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SALDO_")}


def _import_everything() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=CHECKOUT, check=True)
    return time.perf_counter() - began


async def _answers(suite: Suite) -> bool:
    """A command goes all the way through: token, database, event."""
    async with Client(suite.addresses(), suite.keys.token(role=Role.PLATFORM, seller_id=None)) as client:
        start = timestamp(datetime(2026, 1, 1, tzinfo=UTC))
        request = catalog_service_pb2.CreateSellerRequest(
            mode=seller_pb2.Seller.SANDBOX, display_name="Bench", address=ADDRESS, sandbox_start_time=start
        )
        return bool((await client.catalog.CreateSeller(request)).id) and all(state.healthy for state in suite.states())


def _processes(suite: Suite) -> list[psutil.Process]:
    """Services, servers and what those forked, and the supervisor."""
    supervisor = suite.roster.supervisor
    assert supervisor is not None
    found = [psutil.Process(pid) for pid in [supervisor.pid, *(state.pid for state in suite.states() if state.pid)]]
    children = [child for process in found for child in process.children(recursive=True)]
    return list({process.pid: process for process in (*found, *children)}.values())


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _pss(process: psutil.Process) -> int:
    """Its own memory and its share of what it shares; processes that have just ended have none."""
    with suppress(psutil.Error):
        pss: int = process.memory_full_info().pss
        return pss
    return 0


if __name__ == "__main__":
    main()
