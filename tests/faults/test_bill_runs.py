"""Many are billed in one moment, and the process dies in the middle of it: nothing twice, nothing missing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import pytest

from common import wire
from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox, flat, graduated, usage
from tools.check.records import Sources, read_records
from tools.suite import Suite

pytestmark = pytest.mark.fault

KILLED: Final = 137
MANY: Final = 40
"""Five for every lane: what dies is a batch, and others are done before and after it."""

AT_ONCE: Final = 8
JANUARY_31: Final = datetime(2026, 1, 31, tzinfo=UTC)
FEBRUARY: Final = datetime(2026, 2, 1, tzinfo=UTC)
AFTER_GRACE: Final = FEBRUARY + timedelta(hours=2)
FEE: Final = Decimal("5.00")
METERS: Final = ("calls", "minutes", "gigabytes")


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("invoicing.asked:3", marks=pytest.mark.thorough),
        pytest.param("invoicing.drafted", marks=pytest.mark.thorough),  # the first batch is lost
        "invoicing.drafted:4",  # others are committed, and are not done again
        pytest.param("invoicing.numbered:3", marks=pytest.mark.thorough),  # numbers were taken, and nobody has them
        "job.committed:6",  # a batch is committed, and nobody knows
    ],
)
async def test_everybody_is_billed_once(processes: Suite, sandbox: Sandbox, point: str) -> None:
    """Each has one invoice, of what it used itself; and of the numbers none is lost with the batch that took it."""
    customers = await _agree(sandbox)
    await sandbox.travel(JANUARY_31)
    owed = await _use(sandbox, customers)
    before = processes.roster.services["invoicing"].deaths
    processes.restart("invoicing", {"SALDO_CRASHPOINT": point})
    await sandbox.travel(AFTER_GRACE)

    entry = processes.roster.services["invoicing"]
    assert (entry.deaths - before, entry.last_exit) == (1, KILLED), "it did not die there"
    invoices = await sandbox.invoices()
    assert {each.state for each in invoices} == {Invoice.OPEN}
    assert Counter(each.customer_id for each in invoices) == Counter(owed.keys())
    assert {each.customer_id: _euros(each) for each in invoices} == owed
    assert sorted(each.number for each in invoices) == [f"INV-{n:06d}" for n in range(1, MANY + 1)]
    await sandbox.quiet()
    assert await _announced(processes, sandbox) == Counter(each.id for each in invoices)


async def _agree(sandbox: Sandbox) -> list[Customer]:
    """Customers with a fee and three meters, who pay by hand."""
    for meter in METERS:
        await sandbox.meter(meter)
    prices = [graduated(meter, ("10", "1"), ("", "0.50"), meter=meter) for meter in METERS]
    plan = await sandbox.plan("all", flat("fee", str(FEE), timing=Price.IN_ARREARS), *prices)
    turns = asyncio.Semaphore(AT_ONCE)

    async def agree(number: int) -> Customer:
        async with turns:
            customer = await sandbox.customer(f"customer-{number}", by_hand=True)
            await sandbox.subscribe(customer, plan)
            return customer

    return await asyncio.gather(*(agree(number) for number in range(MANY)))


async def _use(sandbox: Sandbox, customers: Sequence[Customer]) -> dict[str, Decimal]:
    """Something on each meter on some day of January; what each customer owes for the month, by id."""
    owed: dict[str, Decimal] = {}
    events: list[UsageEvent] = []
    for number, customer in enumerate(customers):
        used, at = number % 25, datetime(2026, 1, 1 + number % 28, tzinfo=UTC)
        events += [usage(customer, meter, at, str(used), event_id=f"{number} {meter}") for meter in METERS]
        owed[customer.id] = FEE + len(METERS) * (min(used, 10) + max(used - 10, 0) * Decimal("0.50"))
    answer = await sandbox.use(*events)
    assert answer.accepted_count == len(events)
    return owed


def _euros(invoice: Invoice) -> Decimal:
    return wire.parse_money(invoice.total, field="total").amount


async def _announced(processes: Suite, sandbox: Sandbox) -> Counter[str]:
    """How often each invoice was announced to be final."""
    url = processes.database_urls()["invoicing"]
    records = await read_records(Sources(databases={"invoicing": url}, journals=[], seller_id=sandbox.seller_id))
    return Counter(
        row["aggregate_id"]
        for row in records.rows("invoicing", "outbox")
        if row["subject"].endswith(".InvoiceFinalized")
    )
