"""Knows how a peer is measured beside us: on the same server, in an environment that has none of our code."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Final

from bench.stage import ROOT, Stage

PYTHON: Final = ROOT / ".venv" / "peer" / "bin" / "python"
SECONDS_MAX: Final = 1_800


def beside(here: Stage, count: int, *, rate: float) -> dict[str, object]:
    """How many invoices a second Tryton makes of so many customers, and how many times `rate` is that."""
    if not PYTHON.exists():
        raise RuntimeError('the peer is not installed: make bench T="billrun --peer"')
    told = subprocess.run(
        [PYTHON, "bench/tryton.py", str(count)],
        cwd=ROOT,
        env={**os.environ, "PEER_URL": here.servers.postgres_url.rpartition("/")[0]},
        stdout=subprocess.PIPE,
        timeout=SECONDS_MAX,
        check=True,
    )
    verdict = json.loads(told.stdout.splitlines()[-1])
    peer_rate = count / verdict["seconds"]
    return {
        "name": "trytond_sale_subscription",
        "customers": count,
        "invoices_per_second": round(peer_rate, 2),
        "times_as_fast": round(rate / peer_rate, 1),
        "checked": verdict["checked"] and verdict["invoices"] == count + 1,
    }
