"""A process may die at its worst moment: at every point that is named for it, the story ends with the same figures."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any, Final

import pytest
from google.type.money_pb2 import Money

from common import wire
from common.crash import CRASHPOINTS
from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as credit
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.metering.v1 import backfill_service_pb2 as backfills
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2 import IngestEventsRequest
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox, usage
from tests.support.story import EXPECTED, tell
from tools.stack import SERVICES
from tools.suite import Suite

pytestmark = pytest.mark.fault

KILLED: Final = 137
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
PLACES: Final = {
    # What is of one service only comes first: the others die at the same time at what the chassis has in all of them.
    "subscriptions.advanced": ("subscriptions",),
    "invoicing.asked": ("invoicing",),
    "invoicing.drafted": ("invoicing",),
    "invoicing.recounted": ("invoicing",),
    "invoicing.numbered": ("invoicing",),
    "ingest.before_commit": ("metering",),
    "ingest.committed": ("metering",),
    "ingest.sealed": ("metering",),
    "copy.sent": ("metering",),
    "quota.begun": ("metering",),
    "quota.stored": ("metering",),
    "gateway.recorded": ("payments",),
    "gateway.called": ("payments",),
    "dunning.retry_asked": ("dunning",),
    "dunning.given_up": ("dunning",),
    # Each service dies before or after its commit, at either end of its work.
    "job.before_commit": ("invoicing",),
    "consumer.before_commit": ("invoicing", "dunning"),
    "job.committed": ("subscriptions", "invoicing", "payments", "dunning"),
    "errand.started": ("payments", "dunning", "invoicing"),
    "rpc.before_commit": ("catalog", "subscriptions", "dunning"),
    "rpc.committed": ("payments", "metering", "invoicing"),
    "relay.published": ("catalog", "subscriptions", "dunning"),
    "relay.claimed": ("payments", "metering", "invoicing"),
    "consumer.committed": ("subscriptions", "payments"),
}
"""In whose process each point is reached by the story."""
BACKFILLING: Final = ("backfill.before_commit", "backfill.committed")
"""Where a backfill is settled: the story has none."""
TOPPING_UP: Final = "invoicing.topped_up"
"""Where credit is bought: nor is any in the story."""
TAKING_BACK: Final = "invoicing.billed"
"""Where something is to be taken back: neither is anything (test_taking_back.py)."""
SETTINGS: Final = {
    "ingest.sealed": {"SALDO_LEAF_ROWS": "2"},
    "copy.sent": {"SALDO_USAGE_STORE": "clickhouse", "SALDO_CLICKHOUSE_WAIT_SECONDS": "20"},
}
"""With which it is reached, if not by itself."""
DEATHS: Final = {service: [point for point, services in PLACES.items() if service in services] for service in SERVICES}
ROUNDS: Final = tuple(
    {service: point for service, point in zip(DEATHS, points, strict=True) if point is not None}
    for points in zip_longest(*DEATHS.values())
)
"""One death of each service, as long as there are points left for it: they die in one story, each at its own point."""


def _rounds() -> Iterator[Any]:  # Any: pytest does not name the type of its parameters
    """Those in which nobody dies at a point where nobody died before are further cases."""
    tried: set[str] = set()
    for points in ROUNDS:
        is_further = tried.issuperset(points.values())
        tried.update(points.values())
        marks = [pytest.mark.thorough] if is_further else []
        yield pytest.param(points, id=",".join(points.values()), marks=marks)


def test_every_crash_point_has_its_place() -> None:
    """A point that nobody dies at is a promise that nobody has tried."""
    for service in SERVICES:
        importlib.import_module(f"{service}.main")
    assert {*PLACES, *BACKFILLING, TOPPING_UP, TAKING_BACK} == set(CRASHPOINTS)


@pytest.mark.parametrize("points", [*_rounds()])
async def test_dying_there_changes_no_figure(
    processes: Suite, sandbox: Sandbox, points: Mapping[str, str], request: pytest.FixtureRequest
) -> None:
    """The processes really die, come back, and nobody can tell from the books."""
    before = {service: processes.roster.services[service].deaths for service in points}
    for service, point in points.items():
        settings = SETTINGS.get(point, {})
        if point == "copy.sent":
            settings = {"SALDO_CLICKHOUSE_URL": request.getfixturevalue("clickhouse_url"), **settings}
        processes.restart(service, {"SALDO_CRASHPOINT": point, **settings})
    figures = await tell(sandbox)
    entries = {service: processes.roster.services[service] for service in points}
    ends = {service: (entry.deaths - before[service], entry.last_exit) for service, entry in entries.items()}
    assert ends == dict.fromkeys(points, (1, KILLED)), "each dies once, at its point"
    assert figures == EXPECTED


@pytest.mark.parametrize("point", ["ingest.before_commit:2", "ingest.committed:2", "rpc.before_commit:1"])
async def test_a_correction_is_made_once(processes: Suite, sandbox: Sandbox, point: str) -> None:
    """Its own commit is the log's, and what remembers the request is another: the sender's retry meets both."""
    await sandbox.meter("water")
    before = processes.roster.services["metering"].deaths
    processes.restart("metering", {"SALDO_CRASHPOINT": point})
    event = usage(Customer(id="nobody"), "water", START, "1", event_id="e")
    await sandbox.use(event)
    event.value.value = "5"
    first = pb.AmendEventRequest(event=event, reason="read wrongly", request_id="r1")
    history = await sandbox.client.corrections.AmendEvent(first)
    event.value.value = "7"
    await sandbox.client.corrections.AmendEvent(pb.AmendEventRequest(event=event, reason="again", request_id="r2"))
    assert processes.roster.services["metering"].deaths == before + 1, "it did not die there"
    assert [each.event.value.value for each in history.versions] == ["1", "5"]
    found = await sandbox.client.corrections.GetEvent(pb.GetEventRequest(source=event.source, id="e"))
    assert [each.event.value.value for each in found.versions] == ["1", "5", "7"]


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", BACKFILLING)
async def test_a_backfill_is_settled_once(processes: Suite, sandbox: Sandbox, point: str, nth: int) -> None:
    """First it is closed, then reverted: dying at either, all of it counts or nothing, and whoever asks again is told
    the same; and what was loaded before is known to whoever stores next.
    """
    await sandbox.meter("water")
    before = processes.roster.services["metering"].deaths
    processes.restart("metering", {"SALDO_CRASHPOINT": f"{point}:{nth}"})
    client = sandbox.client
    events = [usage(Customer(id="nobody"), "water", START, "1", event_id=name) for name in ("a", "b")]
    opened = await client.backfills.OpenBackfill(backfills.OpenBackfillRequest(reason="offline", request_id="o"))
    load = IngestEventsRequest(events=events, backfill_id=opened.id)
    assert (await client.metering.IngestEvents(load)).accepted_count == 2
    close = backfills.CloseBackfillRequest(id=opened.id, event_count=2, request_id="c")
    closed = await client.backfills.CloseBackfill(close)
    assert (closed.first_position, closed.last_position) == (1, 2)
    assert (await client.metering.IngestEvents(IngestEventsRequest(events=events))).duplicate_count == 2
    revert = backfills.RevertBackfillRequest(id=opened.id, reason="wrong", request_id="r")
    reverted = await client.backfills.RevertBackfill(revert)
    assert (reverted.state, reverted.revert_position) == (backfills.Backfill.REVERTED, 3)
    assert processes.roster.services["metering"].deaths == before + 1, "it did not die there"
    assert (await client.metering.IngestEvents(IngestEventsRequest(events=events))).accepted_count == 2
    found = [await client.corrections.GetEvent(pb.GetEventRequest(source=each.source, id=each.id)) for each in events]
    assert [[version.position for version in each.versions] for each in found] == [[4], [5]]


async def test_credit_is_bought_once(processes: Suite, sandbox: Sandbox) -> None:
    """Dying when the invoice is written and nothing is committed: there is one invoice, and credit when it is paid."""
    customer = await sandbox.customer("ann", token="sim:ok")
    before = processes.roster.services["invoicing"].deaths
    processes.restart("invoicing", {"SALDO_CRASHPOINT": TOPPING_UP})
    every_month = credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(START + timedelta(days=9)), months=1)
    ten = Money(currency_code="EUR", units=10)
    rule = credit.SetTopUpRuleRequest(customer_id=customer.id, amount=ten, schedule=every_month)
    await sandbox.client.credit.SetTopUpRule(rule)
    await sandbox.travel(START + timedelta(days=12))
    assert processes.roster.services["invoicing"].deaths == before + 1, "it did not die there"
    [invoice] = await sandbox.invoices(customer)
    assert (invoice.state, invoice.total) == (Invoice.PAID, ten)
    asked = credit.GetCreditBalanceRequest(customer_id=customer.id, currency="EUR")
    assert (await sandbox.client.credit.GetCreditBalance(asked)).available == ten
