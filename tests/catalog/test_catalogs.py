"""A document reaches two services, and is told in the words and by the lines of whoever wrote it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from common.document import Malformed
from common.ids import SellerId, mint
from common.testing import SANDBOX_START, Suite
from saldo.metering.v1.meter_pb2 import DimensionMatch, EventExclusion, EventFilter, Meter
from saldo.metering.v1.metering_service_pb2 import CreateMeterRequest, GetMeterRequest
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


async def test_a_meter_that_counts_otherwise_is_refused_with_its_place(client: Client) -> None:
    """What was counted as a sum is no maximum, and the prices of the document mean the maximum."""
    request = CreateMeterRequest(code="devices", display_name="Devices", aggregation=Meter.SUM)
    await client.metering.CreateMeter(request)
    with pytest.raises(Malformed) as refusal:
        await told(client, DOCUMENT)
    assert [str(fault) for fault in refusal.value.faults] == [
        "catalog.yaml:3:64: aggregation cannot change: it is SUM",
        "catalog.yaml:3:96: unique_dimension cannot change: it is absent",
    ]
    assert await export(client) == "meters:\n  - {code: devices, display_name: Devices, aggregation: SUM}\n"


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
    with pytest.raises(Malformed, match="bucket cannot change: it is DAY"):
        await told(client, document.replace("DAY", "HOUR"))
    traffic = await client.metering.GetMeter(GetMeterRequest(code="traffic"))
    assert traffic.filter == EventFilter(
        match=[DimensionMatch(dimension="region", values=["eu", "no"])],
        exclude=[EventExclusion(match=[DimensionMatch(dimension="kind", values=["test"])])],
    )
    with pytest.raises(Malformed, match=r"catalog\.yaml:5:\d+: filter cannot change"):
        await told(client, document.replace("eu,", "us,"))
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
