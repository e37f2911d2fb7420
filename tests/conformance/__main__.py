"""Puts published cases to Saldo: `python -m tests.conformance [FOLDER]`. Ends with 1 when an answer is wrong."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from common.caller import Role
from common.ids import SellerId
from tests.conformance.case import CASES, Verdict
from tests.conformance.report import FILES, Report, put_to
from tests.conformance.rooms import Rooms
from tests.conformance.system import System
from tests.support.clickhouse import clickhouse
from tools.suite import Suite, running_suite

AGGREGATION: Final = "aggregation.jsonl"
NOW: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""The sandbox lives late enough for every event of a case to have happened."""


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CASES
    if not any((folder / name).exists() for name in FILES):
        print(f"{folder} has none of {', '.join(FILES)}", file=sys.stderr)
        return 2
    with running_suite() as suite:
        reports = asyncio.run(_put_to(suite, folder))
        if (folder / AGGREGATION).exists():
            reports += _by_clickhouse(suite, folder)
    for report in reports:
        for finding in report.findings:
            if finding.verdict in (Verdict.WRONG, Verdict.UNSUPPORTED):
                print(f"{finding.verdict.value}: {finding.case.id}: {finding.why}", file=sys.stderr)
    for report in reports:
        print(report.line())
    return int(any(report.count(Verdict.WRONG) for report in reports))


def _by_clickhouse(suite: Suite, folder: Path) -> list[Report]:
    """What is counted, by the copy of the log as well."""
    with clickhouse() as url:
        suite.restart(
            "metering",
            {
                "SALDO_USAGE_STORE": "clickhouse",
                "SALDO_CLICKHOUSE_URL": url,
                "SALDO_CLICKHOUSE_WAIT_SECONDS": "20",
            },
        )
        reports = asyncio.run(_put_to(suite, folder, [AGGREGATION]))
    return [replace(report, file=f"{report.file} by ClickHouse") for report in reports]


async def _put_to(suite: Suite, folder: Path, names: Collection[str] = FILES) -> list[Report]:
    def token(role: Role, seller_id: SellerId | None) -> str:
        return suite.keys.token(role=role, seller_id=seller_id)

    with tempfile.TemporaryDirectory(prefix="saldo-conformance-") as journals:
        async with AsyncExitStack() as stack:
            rooms = Rooms(suite.addresses(), token, Path(journals), stack)
            client = (await stack.enter_async_context(await rooms.alone(NOW))).client
            saldo = System(
                rating=client.rating, money=client.money, tax=client.tax, metering=client.metering, rooms=rooms
            )
            return await put_to(saldo, folder, names=names)


if __name__ == "__main__":
    sys.exit(main())
