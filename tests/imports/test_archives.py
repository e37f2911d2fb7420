"""`saldo usage archive` and `restore`: nothing leaves the log that is not whole in a file, wherever it stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio
from google.type.decimal_pb2 import Decimal as DecimalPb
from typer.testing import CliRunner, Result

from common import wire
from common.period import Period
from common.testing import Suite
from saldo.metering.v1 import archive_service_pb2, meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from tools import archives
from tools.check.records import Sources
from tools.check.verification import verify
from tools.cli import app
from tools.commands import console

OLD: Final = datetime(2023, 3, 1, tzinfo=UTC)
LEAF_ROWS: Final = 100
VALUES: Final = ("-12.345000000001", "99999999999999999999999999.000000000001", "0", "7.50")
USAGE_INVARIANTS: Final = (
    "positions account for every usage event",
    "no usage is gone but what was archived",
    "every frozen usage is counted anew",
)


class Desk:
    """Somebody who types commands, beside a service with two full leaves."""

    def __init__(self, suite: Suite, folder: Path) -> None:
        self.suite = suite
        self.folder = folder
        self.metering = suite.stub(MeteringServiceStub, "metering")
        self.files = [folder / f"usage-{leaf:09}.parquet" for leaf in (1, 2)]

    async def fill(self) -> None:
        await self.metering.CreateMeter(
            pb.CreateMeterRequest(code="kwh", display_name="x", aggregation=meter_pb2.Meter.SUM)
        )
        for part in range(5):
            events = [
                UsageEvent(
                    id=f"{part}-{n}", source="é", customer="anna", meter="kwh",
                    time=wire.timestamp(OLD + timedelta(hours=n, microseconds=part)),
                    value=DecimalPb(value=VALUES[n % 4]), dimensions={"b": "ä=", "a": "2"} if n % 3 else {},
                )
                for n in range(50)
            ]  # fmt: skip
            await self.metering.IngestEvents(pb.IngestEventsRequest(events=events))
        for _ in range(500):
            if len(await self.states()) == 2:
                return
            await self.suite.quiet()
        raise AssertionError("the leaves get no indexes")

    async def states(self) -> list[str]:
        return [row[0] for row in await self.sql("SELECT state FROM usage_leaves WHERE generation = 0 ORDER BY leaf")]

    async def sql(self, statement: str) -> list[Any]:  # Any: rows
        connection = await asyncpg.connect(self.suite.urls["metering"].replace("+asyncpg", ""))
        try:
            await connection.execute("SELECT set_config('saldo.seller', '*', false)")
            rows: list[Any] = await connection.fetch(statement)  # Any: as above
            return rows
        finally:
            await connection.close()

    async def usage(self) -> Any:  # Any: a usage
        query = pb.UsageQuery(
            customer_id="cus_01h455vb4pex5vsknk084sn02q", external_id="anna", meter="kwh",
            period=wire.interval(Period(OLD, OLD + timedelta(days=9))),
        )  # fmt: skip
        return await self.metering.QueryUsage(pb.QueryUsageRequest(query=query))

    async def archive(self) -> Result:
        return await self.typed("archive", "--before", "2024-01-01T00:00:00Z", "--to", self.folder)

    async def typed(self, *arguments: object) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["usage", *map(str, arguments)])

    async def broken(self) -> list[str]:
        report = await verify(Sources(databases={"metering": self.suite.urls["metering"]}), patience_seconds=0.0)
        return [name for name in report.broken if name in USAGE_INVARIANTS]


@pytest_asyncio.fixture
async def desk(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    pytest.importorskip("pyarrow")

    await suite.start("metering", leaf_rows=LEAF_ROWS)
    desk = Desk(suite, tmp_path / "archive")
    monkeypatch.setattr(console, "suite", lambda _: _there(desk))
    await desk.fill()
    yield desk


async def test_usage_goes_into_files_and_comes_back(desk: Desk) -> None:
    """With a manifest that says what is where; the same answer afterwards, and a checker that is content throughout."""
    before = await desk.usage()
    assert (await desk.archive()).exit_code == 0
    assert await desk.states() == ["ARCHIVED", "ARCHIVED"]
    assert sorted(path.name for path in desk.folder.iterdir()) == sorted(
        name for file in desk.files for name in (file.name, file.with_suffix(".json").name)
    )
    told = json.loads(desk.files[1].with_suffix(".json").read_text())
    assert told["sellers"] == {desk.suite.seller: {"events": 100, "first_position": 101, "last_position": 200}}
    assert told["sha256"] == archives.sha256_of(desk.files[1])
    assert await desk.broken() == []
    again = await desk.archive()
    assert (again.exit_code, again.stdout.strip()) == (0, "0 files, 0 events")
    restored = await desk.typed("restore", *desk.files)
    assert restored.exit_code == 0, restored.output
    assert await desk.usage() == before
    assert await desk.broken() == []


async def test_a_leaf_that_is_merely_gone_is_noticed(desk: Desk) -> None:
    """An archive is an excuse for what it has, and for nothing else."""
    assert (await desk.archive()).exit_code == 0
    await desk.sql("DELETE FROM usage_archives WHERE leaf = 2")
    assert await desk.broken() == list(USAGE_INVARIANTS[:2])


@pytest.mark.parametrize("step", ["written", "settled", "verified", "forgotten"])
async def test_an_archive_goes_on_where_it_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Nothing is lost and nothing is there twice, whether the file, its manifest or the leaf was the last to change."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    async def die_late(client: Any, leaf: Any, folder: Any) -> Any:  # Any: as archive_leaf has them
        await archives.archive_leaf(client, leaf, folder)
        die()

    match step:
        case "written":
            monkeypatch.setattr(archives, "_settle", die)
        case "settled":
            monkeypatch.setattr(archives, "_manifest", die)
        case "verified":
            monkeypatch.setattr(archive_service_pb2, "ArchiveLeafRequest", die)
        case _:
            monkeypatch.setattr("tools.commands.usage.archive_leaf", die_late)
    assert (await desk.archive()).exit_code != 0
    assert await desk.states() == (["ARCHIVED", "SEALED"] if step == "forgotten" else ["SEALED", "SEALED"])
    monkeypatch.undo()
    monkeypatch.setattr(console, "suite", lambda _: _there(desk))
    assert (await desk.archive()).exit_code == 0
    assert await desk.states() == ["ARCHIVED", "ARCHIVED"]
    assert len(list(desk.folder.iterdir())) == 4
    assert await desk.broken() == []


async def test_a_flipped_byte_is_noticed(desk: Desk) -> None:
    """Before the log forgets anything, and before anything of it comes back."""
    assert (await desk.archive()).exit_code == 0
    damaged = bytearray(desk.files[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    desk.files[0].write_bytes(damaged)
    refused = await desk.typed("restore", desk.files[0])
    assert refused.exit_code == 1
    assert "not the file that its manifest is about" in refused.output
    assert (await desk.typed("restore", desk.files[1])).exit_code == 0
    desk.files[1].write_bytes(damaged)
    refused = await desk.archive()
    assert refused.exit_code == 1
    assert await desk.states() == ["ARCHIVED", "SEALED"]


def _there(desk: Desk) -> Any:  # Any: as much of a suite as a command needs
    class There:
        keys = desk.suite.keys

        def addresses(self) -> dict[str, str]:
            return desk.suite.addresses

    return There()
