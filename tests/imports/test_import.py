"""`saldo usage import` sends each row of a file once, whatever stops it, and says what became of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from common.testing import Suite
from saldo.metering.v1 import backfill_service_pb2, meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from tests.architecture.sources import ROOT
from tools.cli import app
from tools.client import Client
from tools.commands import console
from tools.imports import progress, sending
from tools.imports.reading import Place, Record, reader_of

from .test_rows import layout

LONDON: Final = ROOT / "examples/london/usage/electricity.csv"
AS_LONDON: Final = ("--column", "customer=household", "--column", "time=reading_time_gmt", "--column", "value=kwh")
YEAR: Final = (datetime(2012, 1, 1, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC))


@pytest_asyncio.fixture
async def client(suite: Suite) -> AsyncIterator[Client]:
    await suite.start("metering")
    async with Client(suite.addresses, suite.keys.token(seller_id=suite.seller)) as client:
        for code in ("electricity", "kwh"):
            await client.metering.CreateMeter(
                pb.CreateMeterRequest(code=code, display_name=code, aggregation=meter_pb2.Meter.SUM)
            )
        yield client


@pytest.fixture
def typed(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:  # Any: a coroutine of Result
    """What somebody sees who types a command for the seller of this suite."""

    class There:
        keys = suite.keys

        def addresses(self) -> dict[str, str]:
            return suite.addresses

    monkeypatch.setattr(console, "suite", lambda _: There())

    async def invoke(*arguments: object) -> Result:
        command = ["usage", "import", *map(str, arguments), "--seller", suite.seller]
        return await asyncio.to_thread(CliRunner().invoke, app, command)

    return invoke


async def used(client: Client, customer: str, meter: str) -> tuple[str, int]:
    query = pb.UsageQuery(customer_id="cus_01h455vb4pex5vsknk084sn02q", external_id=customer, meter=meter)
    query.period.start_time.FromDatetime(YEAR[0])
    query.period.end_time.FromDatetime(YEAR[1])
    usage = await client.metering.QueryUsage(pb.QueryUsageRequest(query=query))
    return usage.quantity.value, usage.event_count


def numbered(count: int, *, value: str = "1") -> str:
    header = "id,customer,meter,time,value\n"
    return header + "".join(f"{n},ann,kwh,2012-01-31T09:30:00Z,{value}\n" for n in range(count))


async def test_a_published_file_is_imported_as_it_is_and_once(
    client: Client, typed: Callable[..., Any], tmp_path: Path
) -> None:
    """Every reading of half a year, exactly; a second time all of them are duplicates."""
    readings: dict[str, list[int]] = {}
    for line in LONDON.read_text().splitlines()[1:]:
        household, _, kwh = line.split(",")
        whole, _, decimals = kwh.partition(".")
        readings.setdefault(household, []).append(int(whole + decimals.ljust(9, "0")))
    count = sum(map(len, readings.values()))
    assert count > 5_000
    state = ("--state", tmp_path / "state.json", "--meter", "electricity")
    first = await typed(LONDON, *AS_LONDON, *state, "--id-columns", "household,reading_time_gmt")
    assert first.exit_code == 0, first.output
    assert f"{count:,} accepted, 0 duplicate, 0 unmatched, 0 rejected" in first.output
    again = await typed(LONDON, *AS_LONDON, *state, "--id-columns", "household,reading_time_gmt")
    assert f"0 accepted, {count:,} duplicate, 0 unmatched, 0 rejected" in again.output
    for household, numbers in readings.items():
        quantity, events = await used(client, household, "electricity")
        whole, _, decimals = quantity.partition(".")
        assert (int(whole + decimals.ljust(9, "0")), events) == (sum(numbers), len(numbers))
    assert not (tmp_path / "state.json").exists()


async def test_what_is_wrong_is_told_by_line_and_column(
    client: Client, typed: Callable[..., Any], tmp_path: Path
) -> None:
    """Whether the file could not be read there or metering would not have it; the rest is stored."""
    path = tmp_path / "usage.csv"
    path.write_text(
        "id,customer,kWh,meter,time\n"
        "1,ann,1.5,kwh,2012-01-31T09:30:00Z\n"
        "2,ann,1.5,gaz,2012-01-31T09:30:00Z\n"
        "3,ann,much,kwh,2012-01-31T09:30:00Z\n"
        "1,ann,2.5,kwh,2012-01-31T09:30:00Z\n"
        ",ann,1.5,kwh,2012-01-31T09:30:00Z\n"
        "6,ann,99999999999999999999999999.5,kwh,2012-01-31T09:30:00Z\n"
        "7,ann,1,kwh,2099-01-31T09:30:00Z\n"
    )
    told = await typed(path, "--column", "value=kWh")
    assert told.exit_code == 1
    lines = told.output.splitlines()
    assert f"{path}:4: kWh: must be a number, such as 12.50, not 'much'" in lines
    assert any(line.startswith(f"{path}:6: id: INVALID_ARGUMENT: ") for line in lines), lines
    assert any(line.startswith(f"{path}:8: time: EVENT_IN_FUTURE: ") for line in lines), lines
    assert "UNKNOWN_METER: 1 events of gaz: they count when it appears" in lines
    assert lines[-1] == "2 accepted, 1 duplicate, 1 unmatched, 3 rejected"
    assert await used(client, "ann", "kwh") == ("100000000000000000000000001", 2)


async def test_a_file_that_makes_no_sense_sends_nothing(typed: Callable[..., Any], tmp_path: Path) -> None:
    """And is told apart from one with bad rows, by the exit code."""
    path = tmp_path / "usage.csv"
    path.write_text("id,customer,time\n1,ann,2012-01-31T09:30:00Z\n")
    for arguments, reason in (
        ((path,), "there is no column meter: say --column meter=COLUMN, or --meter for all rows"),
        ((path, "--column", "meter"), "--column must be NAME=COLUMN"),
        ((path, "--column", "a=id", "--column", "b=id"), "is told twice"),
        ((path, "--meter", "kwh", "--time-zone", "Atlantis"), "there is no 'Atlantis'"),
        ((tmp_path / "nothing.csv",), "it cannot be read"),
    ):
        told = await typed(*arguments)
        assert (told.exit_code, reason in told.output) == (2, True), told.output


async def test_an_import_that_was_stopped_goes_on(
    client: Client, typed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last batch that was answered; what it had counted before is in the summary."""
    monkeypatch.setattr(sending, "BATCH_ROWS", 10)
    path = tmp_path / "usage.csv"
    path.write_text(numbered(95))
    state = tmp_path / "usage.csv.import.json"
    real = sending._send

    async def until_row_50(to: Client, rows: Any, backfill_id: str) -> Any:  # Any: as in what it stands for
        if rows and int(rows[0].id) >= 50:
            raise KeyboardInterrupt
        return await real(to, rows, backfill_id)

    monkeypatch.setattr(sending, "_send", until_row_50)
    stopped = await asyncio.to_thread(_interrupted, typed, path)
    assert stopped is not None
    place = json.loads(state.read_text())["place"]
    assert 0 < place["number"] <= 50
    monkeypatch.setattr(sending, "_send", real)
    told = await typed(path)
    assert f"goes on after line {place['line']} of {path}" in told.output
    accepted, duplicate = place["number"], 95
    assert told.exit_code == 0
    summary = told.output.splitlines()[-1]
    counts = [int(part.split()[0]) for part in summary.split(", ")]
    assert counts[0] + counts[1] == duplicate
    assert counts[0] >= accepted
    assert await used(client, "ann", "kwh") == ("95", 95)
    assert not state.exists()


def _interrupted(typed: Callable[..., Any], path: Path) -> Result | None:
    result: Result = asyncio.run(typed(path))
    return result if result.exit_code else None


async def test_a_file_is_loaded_into_a_backfill(client: Client, typed: Callable[..., Any], tmp_path: Path) -> None:
    """It counts when that is closed; reverted, the same file is loaded again, from its beginning."""
    path = tmp_path / "usage.csv"
    path.write_text(numbered(3, value="2"))
    for _ in range(2):
        opened = await client.backfills.OpenBackfill(backfill_service_pb2.OpenBackfillRequest(reason="was offline"))
        loaded = await typed(path, "--backfill", opened.id)
        assert "3 accepted, 0 duplicate" in loaded.output, loaded.output
        assert await used(client, "ann", "kwh") == ("0", 0)
        await client.backfills.CloseBackfill(backfill_service_pb2.CloseBackfillRequest(id=opened.id, event_count=3))
        assert await used(client, "ann", "kwh") == ("6", 3)
        await client.backfills.RevertBackfill(
            backfill_service_pb2.RevertBackfillRequest(id=opened.id, reason="of another year")
        )


async def test_a_file_that_has_changed_is_begun_anew(client: Client, typed: Callable[..., Any], tmp_path: Path) -> None:
    """What was known of another file says nothing about this one; nor does a state that cannot be read."""
    path, state = tmp_path / "usage.csv", tmp_path / "usage.csv.import.json"
    path.write_text(numbered(3))
    of = progress.Progress(state, "another file")
    of.save(Place(60, 2, 1), sending.Tally(accepted=1))
    told = await typed(path)
    assert told.output.splitlines()[-1] == "3 accepted, 0 duplicate, 0 unmatched, 0 rejected"
    state.write_text("{")
    told = await typed(path)
    assert told.output.splitlines()[-1] == "0 accepted, 3 duplicate, 0 unmatched, 0 rejected"


async def test_a_state_that_cannot_be_written_stops_nothing(
    client: Client, typed: Callable[..., Any], tmp_path: Path
) -> None:
    """A file on a medium that is read only is imported all the same."""
    path = tmp_path / "usage.csv"
    path.write_text(numbered(3))
    told = await typed(path, "--state", tmp_path / "nowhere" / "state.json")
    assert told.exit_code == 0, told.output
    assert "cannot be written (No such file or directory)" in told.output
    assert told.output.splitlines()[-1] == "3 accepted, 0 duplicate, 0 unmatched, 0 rejected"


async def test_no_more_is_under_way_than_can_be_remembered(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read no faster than it is answered, and its places are told in order."""
    monkeypatch.setattr(sending, "BATCH_ROWS", 5)
    path = tmp_path / "usage.csv"
    path.write_text(numbered(200))
    read: list[int] = []
    answered: list[int] = [0]

    def records() -> Iterator[Record]:
        for record in reader_of(path, layout()).records(Place()):
            read.append(record.end.number)
            assert record.end.number - answered[-1] <= 5 * (sending.UNDER_WAY_MAX + 1)
            yield record

    tally = sending.Tally()
    await sending.send(
        client, records(), layout(), tally, tell=lambda each: pytest.fail(str(each)),
        done=lambda place: answered.append(place.number),
    )  # fmt: skip
    assert answered == list(range(0, 201, 5))
    assert (tally.accepted, len(read)) == (200, 200)
