"""Many customers who come due in one moment are billed together, and nobody notices but by how soon it is done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

import asyncpg
import pytest

from common import wire
from common.caller import current_caller, service_caller
from common.db import Tx
from common.testing import Suite
from invoicing.usecases import bill_run, issuing
from invoicing.usecases.taxing import RatesByHand
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import events_pb2, invoice_pb2
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions

from .conftest import Business, dead_letters, decimal, flat, parked_customers, pence, per_unit, told, utc

pytestmark = pytest.mark.patched_when_used

FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)
HOUR = timedelta(hours=1)
MANY = 16
"""Two for every lane of a seller, on average."""


@pytest.fixture
def issued_together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many invoices each transaction issued."""
    sizes: list[int] = []
    issue = issuing.issue

    async def counted(tx: Tx, ready: Sequence[issuing.Ready], **more: Any) -> Any:  # Any: as the function itself
        sizes.append(len(ready))
        return await issue(tx, ready, **more)

    monkeypatch.setattr(issuing, "issue", counted)
    return sizes


async def subscribed(business: Business, count: int) -> list[customer_pb2.Customer]:
    """Customers who pay 10.00 in advance each month, and 0.10 for a kWh."""
    await business.meter("kwh")
    prices = [await business.price("Seats", **per_unit("10"))]
    prices.append(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    plan = await business.plan(*prices)
    customers = [await business.customer() for _ in range(count)]
    await asyncio.gather(*(business.subscribe(each, plan) for each in customers))
    return customers


async def test_many_are_billed_and_finalized_together(
    suite: Suite, business: Business, issued_together: list[int]
) -> None:
    """Each has one invoice a month of what it used itself; numbers have no gap; each is announced once."""
    customers = await subscribed(business, MANY)
    for number, customer in enumerate(customers):
        await business.use(customer, "kwh", str(number), utc(2026, 1, 5))
    issued_together.clear()
    await suite.travel(FEBRUARY)
    drafts = (await business.invoices())[MANY:]
    assert {draft.state for draft in drafts} == {invoice_pb2.Invoice.DRAFT}
    await suite.travel(FEBRUARY + HOUR)
    assert sum(issued_together) == MANY
    assert max(issued_together) > 1
    invoices = await business.invoices()
    assert [pence(each) for each in invoices[:MANY]] == [10_00] * MANY
    numbers = {customer.id: number for number, customer in enumerate(customers)}
    assert {each.customer_id: told(each) for each in invoices[MANY:]} == {
        customer_id: [("Seats", 10_00), ("Electricity", 10 * number)] for customer_id, number in numbers.items()
    }
    assert sorted(each.number for each in invoices) == [f"NL-{n:06d}" for n in range(1, 2 * MANY + 1)]
    await suite.quiet()
    announced = Counter(event.invoice.id for event in suite.announced(events_pb2.InvoiceFinalized))
    assert announced == Counter(each.id for each in invoices)
    assert not await dead_letters(suite)


async def test_what_cannot_be_billed_keeps_nobody_waiting(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has more usage than can be told: it is set aside with the reason, and all others have their invoice."""
    monkeypatch.setattr(import_module("metering.store.usages"), "VALUES_MAX", 2)
    await business.meter("sales")
    fee = price_pb2.PercentageModel(percent=decimal("2.9"), fixed_fee=decimal("0.30"))
    plan = await business.plan(await business.price("Payments", meter="sales", percentage=fee))
    customers = [await business.customer() for _ in range(MANY)]
    await asyncio.gather(*(business.subscribe(each, plan) for each in customers))
    for _ in range(3):
        await business.use(customers[7], "sales", "1", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    assert not await dead_letters(suite)
    parked = await parked_customers(suite)
    assert parked.keys() == {customers[7].id}
    reason, message = parked[customers[7].id]
    assert reason == "USAGE_TOO_DETAILED"
    assert "TOO_MANY_VALUES" in message
    assert {each.customer_id for each in await business.invoices()} == {
        each.id for each in customers if each is not customers[7]
    }


async def test_those_looked_back_to_at_different_times_are_told_apart(suite: Suite, business: Business) -> None:
    """They are asked about together: what one was billed long ago is not asked of another, who has just come."""
    contract = await business.plan(await business.price("Service contract", **flat("24.90")))
    old = [await business.customer() for _ in range(3)]
    await asyncio.gather(*(business.subscribe(each, contract) for each in old))
    await suite.travel(utc(2026, 5, 20))
    new = [await business.customer() for _ in range(3)]
    await asyncio.gather(*(business.subscribe(each, contract, start=utc(2026, 2, 1)) for each in new))
    await suite.travel(utc(2026, 6, 2))
    periods = Counter(
        (each.customer_id, line.period.start_time.seconds)
        for each in await business.invoices()
        for line in each.line_items
    )
    assert set(periods.values()) == {1}
    months = Counter(customer_id for customer_id, _ in periods)
    assert months == Counter(dict.fromkeys((each.id for each in old), 6) | dict.fromkeys((each.id for each in new), 5))


@pytest.mark.own_services
async def test_without_grace_no_draft_is_written_first(suite: Suite, business: Business) -> None:
    """There is nothing to wait for: all of them are final in the transaction that made them."""
    customers = await subscribed(business, 3)
    await business.use(customers[0], "kwh", "5", utc(2026, 1, 5))
    clock = suite.stub(OperationsServiceStub, "invoicing")
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    await bill_run.bill_customers(desk, [each.id for each in customers], grace=timedelta(), taxes=RatesByHand())
    invoices = (await business.invoices())[3:]
    assert [each.state for each in invoices] == [invoice_pb2.Invoice.OPEN] * 3
    assert {each.customer_id: pence(each) for each in invoices} == dict.fromkeys(
        (each.id for each in customers), 10_00
    ) | {customers[0].id: 10_50}
    assert [each.revision for each in invoices] == [2] * 3
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.quiet()
    assert len(await business.invoices()) == 6


@pytest.mark.own_services
async def test_who_is_being_marked_is_billed_after_the_others(suite: Suite, business: Business) -> None:
    """A fact that comes in holds a customer: nobody else waits for it, and nobody is forgotten."""
    customers = await subscribed(business, 3)
    clock = suite.stub(OperationsServiceStub, "invoicing")
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    async with desk.transaction() as tx:
        await bill_run.mark_customer_due(tx, customers[0].id)
        drafts: list[invoice_pb2.Invoice] = []
        run = bill_run.bill_customers(desk, [each.id for each in customers], grace=HOUR, taxes=RatesByHand())
        billing = asyncio.create_task(run)
        for _ in range(500):
            drafts = (await business.invoices())[3:]
            if drafts:
                break
            await asyncio.sleep(0.02)
        assert {each.customer_id for each in drafts} == {each.id for each in customers[1:]}
        assert not billing.done()
    await billing
    assert {each.customer_id for each in (await business.invoices())[3:]} == {each.id for each in customers}
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.travel(FEBRUARY + HOUR)
    assert Counter(each.customer_id for each in await business.invoices()) == {each.id: 2 for each in customers}
    assert not await dead_letters(suite)


@pytest.mark.own_services
async def test_each_invoice_goes_on_with_the_trace_of_its_customer(suite: Suite, business: Business) -> None:
    """Billed together, they stay stories of their own: from the call that agreed on something to what is announced."""
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    customers = [await business.customer() for _ in range(3)]
    clock = suite.stub(OperationsServiceStub, "invoicing")
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(utc(2026, 1, 1)), hold=True))
    traces = {each.id: f"{number:032x}" for number, each in enumerate(customers, start=0xABC)}
    for customer_id, trace in traces.items():
        await business.subscriptions.CreateSubscription(
            subscriptions.CreateSubscriptionRequest(customer_id=customer_id, plan_id=plan.id),
            metadata=(("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),),
        )
    connection = await asyncpg.connect(suite.urls["invoicing"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', $1, false)", suite.seller)
        for _ in range(500):
            if await connection.fetchval("SELECT count(*) FROM billing") == len(customers):
                break
            await asyncio.sleep(0.02)
        current_caller.set(service_caller("invoicing", suite.seller))
        desk = suite.running["invoicing"].desk()
        await bill_run.bill_customers(desk, list(traces), grace=HOUR, taxes=RatesByHand())
        stored = await connection.fetch("SELECT customer_id, traceparent FROM invoices")
        told = await connection.fetch(
            "SELECT i.customer_id, o.traceparent FROM outbox o JOIN invoices i ON i.id = o.aggregate_id"
        )
    finally:
        await connection.close()
    for rows in (stored, told):
        assert {row["customer_id"]: row["traceparent"].split("-")[1] for row in rows} == traces
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(utc(2026, 1, 1))))
    await suite.quiet()
