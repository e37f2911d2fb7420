"""Usage that calls a customer by an alias, or by what one that was merged into it was called, is billed once."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from typing import Any

import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import wire
from common.testing import Suite
from invoicing.clients import counting
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1 import usage_event_pb2
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from tools.check import usage as invariants
from tools.check.report import examine

from .conftest import Business, decimal, pence, per_unit, replayed, told, utc

pytestmark = pytest.mark.patched_when_used

COUNTED = ("every billed quantity is counted anew", "every usage event is in one period of an item")


class Names:
    """What customers are called, and usage by it: each report is worth twice the one before; a sum tells which."""

    def __init__(self, suite: Suite, business: Business) -> None:
        self.suite = suite
        self.business = business
        self.api: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
        self.reported = 0

    async def use(self, name: str, at: datetime, *meters: str) -> None:
        await self.suite.travel(max(at, await self.business.now()))
        events = [
            usage_event_pb2.UsageEvent(
                id=f"{meter}-{self.reported}",
                source="test",
                customer=name,
                meter=meter,
                time=wire.timestamp(at),
                value=decimal_pb2.Decimal(value=str(2**self.reported)),
            )
            for meter in meters
        ]
        self.reported += 1
        answer = await self.business.metering.IngestEvents(metering.IngestEventsRequest(events=events))
        # Nobody may be called so yet.
        assert answer.accepted_count + answer.unmatched_count == len(meters)

    async def add(self, customer: customer_pb2.Customer, alias: str) -> None:
        await self.api.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=customer.id, alias=alias))

    async def remove(self, customer: customer_pb2.Customer, alias: str) -> None:
        await self.api.RemoveCustomerAlias(customers_pb.RemoveCustomerAliasRequest(id=customer.id, alias=alias))

    async def merge(self, source: customer_pb2.Customer, target: customer_pb2.Customer) -> None:
        await self.api.MergeCustomers(customers_pb.MergeCustomersRequest(source_id=source.id, target_id=target.id))
        await self.suite.quiet()

    async def check(self) -> None:
        """Nobody is billed for what the checker does not find."""
        records = await self.business.records()
        for invariant in invariants.INVARIANTS:
            if invariant.name in COUNTED:
                found = examine(invariant, records)
                assert found.checked
                assert found.holds, found.offenders
        await replayed(self.business)


@pytest_asyncio.fixture
async def names(suite: Suite, business: Business) -> Names:
    return Names(suite, business)


def lines(invoice: invoice_pb2.Invoice) -> dict[tuple[str, str], int]:
    """What each line says and when it begins, and the pounds."""
    found = {
        (line.description, wire.parse_interval(line.period, field="period").start.strftime("%m-%d")): line
        for line in invoice.line_items
    }
    assert len(found) == len(invoice.line_items)
    return {key: wire.parse_money(line.amount, field="amount").minor // 100 for key, line in found.items()}


async def plan(business: Business, meter: str, **model: Any) -> Any:  # Any: a model and a plan, of generated messages
    await business.meter(meter)
    return await business.plan(await business.price(meter.title(), meter=meter, **(model or per_unit("1"))))


async def test_an_alias_counts_also_what_came_before_it(suite: Suite, business: Business, names: Names) -> None:
    """A device may be set up before anybody tells whose it is; also when its month has been billed by then."""
    ada = await business.customer()
    await business.subscribe(ada, await plan(business, "calls"))
    for name in (ada.external_id, "device 7", "device 8", ada.id, "nobody's"):
        await names.use(name, utc(2026, 1, 10), "calls")
    await names.add(ada, "device 7")
    await suite.travel(utc(2026, 1, 12))
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert told(upcoming) == [("Calls", 11_00)]
    await suite.travel(utc(2026, 2, 2))
    assert [pence(each) for each in await business.invoices()] == [11_00]
    await names.add(ada, "device 8")
    await suite.travel(utc(2026, 3, 2))
    _, march = sorted(await business.invoices(), key=lambda each: each.id)
    assert told(march) == [("Calls – late usage", 4_00), ("Calls", 0)]
    await names.check()
    # What was billed while the alias was there was counted rightly then.
    await names.remove(ada, "device 7")
    await names.check()


async def test_the_names_of_a_merged_customer_count_once(suite: Suite, business: Business, names: Names) -> None:
    """Until the merge for the source, from then on for the target: on the source's item at once, on its own item from
    its next period on.
    """
    old, new = await business.customer(), await business.customer()
    await names.add(old, "old device")
    await business.subscribe(old, await plan(business, "calls"))
    await business.subscribe(new, await plan(business, "disk"))
    called = (old.external_id, "old device", old.id, new.external_id)
    for name in called:
        await names.use(name, utc(2026, 1, 10), "calls", "disk")
    await suite.travel(utc(2026, 1, 15))
    await names.merge(old, new)
    for name in called:
        await names.use(name, utc(2026, 1, 20), "calls", "disk")
    # At the very moment of the merge the target's period begins; the source's has ended.
    await names.use(old.id, utc(2026, 1, 15), "calls")
    await names.use("old device", utc(2026, 1, 14), "calls")
    await suite.travel(utc(2026, 2, 2))
    for name in called:
        await names.use(name, utc(2026, 2, 10), "calls", "disk")
    await suite.travel(utc(2026, 3, 2))

    of_old = [each for each in await business.invoices() if each.customer_id == old.id]
    of_new = [each for each in await business.invoices() if each.customer_id == new.id]
    assert sum(sum(lines(each).values()) for each in of_old) == 1 + 2 + 4 + 512
    january, february = sorted((lines(each) for each in of_new), key=lambda each: min(start for _, start in each))
    assert january == {("Calls", "01-15"): 16 + 32 + 64 + 128 + 256, ("Disk", "01-01"): 8 + 128}
    assert february == {("Calls", "02-01"): 0b1111 << 10, ("Disk", "02-01"): 0b1111 << 10}
    await names.check()


async def test_what_is_told_in_parts_counts_by_the_names_of_the_whole(
    suite: Suite, business: Business, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are too many for one answer are asked for in parts: a part that begins after a merge is still of a
    period that began before it.
    """
    monkeypatch.setattr(import_module("metering.store.usages"), "VALUES_MAX", 3)
    fee = price_pb2.PercentageModel(percent=decimal("100"), transaction_minimum=decimal("1"))
    old, new = await business.customer(), await business.customer()
    await business.subscribe(new, await plan(business, "sales", percentage=fee))
    for day in range(1, 7):
        await names.use(new.external_id, utc(2026, 1, 2 * day), "sales")
    await names.merge(old, new)
    for day in range(7, 13):
        await names.use(old.id if day % 2 else new.external_id, utc(2026, 1, 2 * day), "sales")
    await suite.travel(utc(2026, 2, 2))
    [invoice] = await business.invoices()
    assert told(invoice) == [("Sales", sum(2**n for n in range(12) if n < 6 or n % 2) * 100)]
    await names.check()


async def test_many_names_take_more_calls(
    suite: Suite, business: Business, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question must fit a message, however long the names are."""
    monkeypatch.setattr(counting, "NAMES_PER_CALL", 8)
    asked: list[int] = []
    ask = counting._counted

    async def counted(desk: Any, queries: Any) -> Any:  # Any: as the function itself
        asked.append(len(queries))
        return await ask(desk, queries)

    monkeypatch.setattr(counting, "_counted", counted)
    ada = await business.customer()
    for n in range(4):
        await names.add(ada, f"device {n}")
    for meter in ("calls", "disk", "seats"):
        await business.subscribe(ada, await plan(business, meter))
    await names.use("device 3", utc(2026, 1, 10), "calls", "disk", "seats")
    await names.use("device 2", utc(2026, 1, 10), "disk")
    await suite.travel(utc(2026, 1, 12))
    upcoming = await business.invoicing.GetUpcomingInvoice(pb.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert told(upcoming) == [("Calls", 1_00), ("Disk", 3_00), ("Seats", 1_00)]
    assert asked[-3:] == [1, 1, 1]
