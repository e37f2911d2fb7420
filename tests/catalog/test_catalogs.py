"""A document reaches two services, and is told in the words and by the lines of whoever wrote it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from common.document import Malformed
from common.ids import SellerId, mint
from common.testing import SANDBOX_START, Suite
from saldo.metering.v1.meter_pb2 import DimensionMatch, EventExclusion, EventFilter, Meter
from saldo.metering.v1.metering_service_pb2 import CreateMeterRequest, GetMeterRequest, UpdateMeterRequest
from tools.catalogs import apply, export, read_document
from tools.cli import app
from tools.client import Client

DOCUMENT = """\
meters:
  - {code: calls, display_name: calls, aggregation: SUM}
  - {code: devices, display_name: "Devices: all", aggregation: UNIQUE_COUNT, unique_dimension: device}
products:
  - {code: calls, display_name: Calls}
plans:
  - code: home
    display_name: Home
    prices:
      - {code: calls, product: calls, currency: EUR, every: MONTH, timing: IN_ARREARS, meter: calls, per_unit: 0.5}
"""


async def told(client: Client, text: str, *, validate_only: bool = False, prune: bool = False) -> list[str]:
    found = await apply(client, read_document(text, "catalog.yaml"), validate_only=validate_only, prune=prune)
    return [line for difference in found for line in (difference.headline, *difference.lines)]


@pytest_asyncio.fixture
async def client(suite: Suite) -> AsyncIterator[Client]:
    await suite.start("catalog", "metering")
    async with Client(suite.addresses, suite.keys.token(seller_id=suite.seller)) as client:
        yield client


async def test_the_meters_come_first_and_once(client: Client) -> None:
    """A price of a meter that does not exist would be billed as nothing."""
    wanted = ["+ meter calls", "+ meter devices", "+ product calls", "+ plan home", "> plan home is published"]
    assert await told(client, DOCUMENT, validate_only=True) == wanted
    assert await told(client, DOCUMENT) == wanted
    assert await told(client, DOCUMENT) == []
    meter = await client.metering.GetMeter(GetMeterRequest(code="devices"))
    assert (meter.aggregation, meter.unique_dimension) == (Meter.UNIQUE_COUNT, "device")


async def test_what_changes_is_told_by_its_place_in_the_document(client: Client) -> None:
    """Whoever reviews a change of prices reads this."""
    await told(client, DOCUMENT)
    changed = DOCUMENT.replace("display_name: Calls}", "display_name: Calls!, unit_label: call}").replace("0.5", "0.4")
    assert await told(client, changed) == [
        "~ product calls",
        'display_name: Calls -> "Calls!"',
        "+ unit_label: call",
        "+ plan home, next version",
        "prices.calls.per_unit: 0.5 -> 0.4",
        "> plan home is published",
    ]
    assert await told(client, "plans: []", prune=True) == ["- plan home is archived"]


async def test_an_export_makes_the_same_catalog_elsewhere(suite: Suite, client: Client) -> None:
    """With its meters, as they are counted."""
    assert await export(client) == "{}\n"
    await told(client, DOCUMENT)
    exported = await export(client)
    assert exported.replace("'", '"') == DOCUMENT
    other = suite.keys.token(seller_id=SellerId(mint("sel_sandbox", SANDBOX_START)))
    async with Client(suite.addresses, other) as elsewhere:
        await told(elsewhere, exported)
        assert await export(elsewhere) == exported


async def test_a_meter_that_counts_otherwise_gets_a_next_version(client: Client) -> None:
    """With effect from now on, and once: what was billed was counted by the version of then."""
    request = CreateMeterRequest(code="devices", display_name="Devices", aggregation=Meter.SUM, unit_label="device")
    await client.metering.CreateMeter(request)
    wanted = [
        "+ meter calls",
        "~ meter devices, next version",
        'display_name: "Devices" -> "Devices: all"',
        'aggregation: "SUM" -> "UNIQUE_COUNT"',
        '+ unique_dimension: "device"',
        "+ product calls",
        "+ plan home",
        "> plan home is published",
    ]
    assert await told(client, DOCUMENT, validate_only=True) == wanted
    meter = await client.metering.GetMeter(GetMeterRequest(code="devices"))
    assert (meter.aggregation, meter.revision, meter.last_version) == (Meter.SUM, 1, 1)
    assert await told(client, DOCUMENT) == wanted
    meter = await client.metering.GetMeter(GetMeterRequest(code="devices"))
    assert (meter.aggregation, meter.unique_dimension, meter.version) == (Meter.UNIQUE_COUNT, "device", 2)
    # What the document does not say of how it is called stays.
    assert meter.unit_label == "device"
    assert await told(client, DOCUMENT) == []
    renamed = DOCUMENT.replace("Devices: all", "All devices")
    assert await told(client, renamed) == ["~ meter devices", 'display_name: "Devices: all" -> "All devices"']
    assert (await client.metering.GetMeter(GetMeterRequest(code="devices"))).last_version == 2


async def test_a_meter_that_cannot_be_changed_is_refused_with_its_place(client: Client) -> None:
    """Before anything is changed: neither another meter of the document, nor the catalog."""
    for code in ("calls", "devices"):
        await client.metering.CreateMeter(CreateMeterRequest(code=code, display_name=code, aggregation=Meter.COUNT))
    calls = await client.metering.GetMeter(GetMeterRequest(code="calls"))
    later = UpdateMeterRequest(id=calls.id, accepts_days=9)
    later.effective_time.FromDatetime(SANDBOX_START + timedelta(days=9))
    await client.metering.UpdateMeter(later)
    before = await export(client)
    for text, faults in (
        (DOCUMENT, ["catalog.yaml:2:5: cannot be changed: version 2 of meter calls takes effect at 2026-01-10"]),
        (
            DOCUMENT.replace("SUM}", "COUNT}").replace("UNIQUE_COUNT, unique_dimension: device", "SUM_OF_MAX"),
            ["catalog.yaml:3:5: cannot be changed"],
        ),
        (
            DOCUMENT.replace("SUM}", "COUNT, carries_over: true}"),
            ["catalog.yaml:2:74: carries_over cannot change: it is absent"],
        ),
    ):
        for validate_only in (True, False):
            with pytest.raises(Malformed) as refusal:
                await told(client, text, validate_only=validate_only)
            found = [str(fault) for fault in refusal.value.faults]
            assert [a.startswith(b) for a, b in zip(found, faults, strict=True)] == [True], found
    assert await export(client) == before


async def test_a_meter_says_all_by_which_it_counts(client: Client) -> None:
    """What a document left out another seller would count without."""
    document = (
        "meters:\n"
        "  - {code: burst, display_name: burst, aggregation: PERCENTILE, percentile: '95', value_expression: value*8}\n"
        "  - {code: peaks, display_name: peaks, aggregation: SUM_OF_MAX, bucket: DAY, time_zone: Europe/Berlin}\n"
        "  - {code: seats, display_name: seats, aggregation: SUM, carries_over: true}\n"
        "  - {code: traffic, display_name: traffic, aggregation: SUM, filter: {match: [{dimension: region, values: [eu,"
        " 'no']}], exclude: [{match: [{dimension: kind, values: [test]}]}]}}\n"
    )
    await told(client, document)
    assert await export(client) == document
    hours = document.replace("DAY", "HOUR")
    assert await told(client, hours) == ["~ meter peaks, next version", 'bucket: "DAY" -> "HOUR"']
    assert await export(client) == hours
    traffic = await client.metering.GetMeter(GetMeterRequest(code="traffic"))
    assert traffic.filter == EventFilter(
        match=[DimensionMatch(dimension="region", values=["eu", "no"])],
        exclude=[EventExclusion(match=[DimensionMatch(dimension="kind", values=["test"])])],
    )
    unfiltered = hours.replace(hours[hours.index(", filter") : hours.rindex("}\n")], "")
    assert (await told(client, unfiltered))[0] == "~ meter traffic, next version"
    assert await export(client) == unfiltered
    with pytest.raises(Malformed, match="values is missing"):
        await told(client, document.replace(", values: [test]", ""))


async def test_no_percentage_of_what_carries_over(client: Client) -> None:
    """Whether the meter is the document's or was there: every transaction would be billed again in every period."""
    seats = "meters: [{code: calls, aggregation: SUM, carries_over: true}]\n"
    for document in (seats, ""):
        document += DOCUMENT[DOCUMENT.index("products:") :].replace("per_unit: 0.5", "percentage: {percent: 1}")
        with pytest.raises(Malformed, match=r"catalog\.yaml:\d+:\d+: must not carry over"):
            await told(client, document)
        assert (await told(client, seats)) in (["+ meter calls"], [])


async def test_a_document_that_is_wrong_changes_nothing(client: Client) -> None:
    """No meter is left behind by a catalog that never came."""
    with pytest.raises(Malformed, match=r"catalog\.yaml:10:112: must not be negative"):
        await told(client, DOCUMENT.replace("0.5", "-1"))
    assert await export(client) == "{}\n"


def test_a_file_that_is_wrong_needs_no_services(tmp_path: Path) -> None:
    """What can be said at once is said at once."""
    file = tmp_path / "catalog.yaml"
    file.write_text("meters: [{code: calls, aggregation: MEDIAN}]\n")
    result = CliRunner().invoke(app, ["catalog", "diff", str(file), "--seller", mint("sel", SANDBOX_START)])
    assert result.exit_code == 2
    assert f"{file}:1:37: must be one of SUM, COUNT" in result.output
    missing = CliRunner().invoke(app, ["catalog", "apply", str(tmp_path / "x"), "--seller", mint("sel", SANDBOX_START)])
    assert missing.exit_code == 1
    assert "there is no such file" in missing.output
