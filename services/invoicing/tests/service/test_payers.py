"""Whoever pays for others gets one invoice for all of them, and they get none; nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
import pytest_asyncio

from common import wire
from common.caller import current_caller, service_caller
from common.testing import Suite
from invoicing.clients.paying import Paid
from invoicing.usecases import bill_run
from invoicing.usecases.companions import Company, circles
from invoicing.usecases.taxing import RatesByHand
from saldo.catalog.v1 import plan_pb2, price_pb2
from saldo.invoicing.v1 import consolidation_service_pb2 as pb
from saldo.invoicing.v1 import invoice_pb2, invoicing_service_pb2
from saldo.invoicing.v1.consolidation_policy_pb2 import ConsolidationPolicy
from saldo.invoicing.v1.consolidation_service_pb2_grpc import ConsolidationServiceStub
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

from .conftest import Business, civil, dead_letters, decimal, flat, parked_customers, pence, per_unit, told, utc

pytestmark = pytest.mark.patched_when_used

FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)
APRIL, MAY = utc(2026, 3, 31, 23), utc(2026, 4, 30, 23)  # midnight in London, where summer time begins on 29 March
HOUR = timedelta(hours=1)


class Family:
    """A payer, three customers that it pays for, and what to do with them."""

    def __init__(self, business: Business) -> None:
        self.business = business
        # Any, of both: grpc stubs are generated
        self.customers: Any = business.suite.stub(CustomersServiceStub, "subscriptions")
        self.consolidation: Any = business.suite.stub(ConsolidationServiceStub, "invoicing")
        self.payer = customer_pb2.Customer()
        self.children: list[customer_pb2.Customer] = []

    async def pays(self, payer_id: str, customer: customer_pb2.Customer) -> None:
        await self.customers.SetCustomerPayer(customers.SetCustomerPayerRequest(id=customer.id, payer_id=payer_id))

    async def upcoming(self, customer: customer_pb2.Customer) -> invoice_pb2.Invoice:
        found: invoice_pb2.Invoice = await self.business.invoicing.GetUpcomingInvoice(
            invoicing_service_pb2.GetUpcomingInvoiceRequest(customer_id=customer.id)
        )
        return found

    async def preview(self, customer: customer_pb2.Customer, until: Any) -> list[invoice_pb2.Invoice]:  # Any: instant
        found = await self.consolidation.PreviewInvoices(
            pb.PreviewInvoicesRequest(customer_id=customer.id, until_time=wire.timestamp(until))
        )
        return list(found.invoices)


@pytest_asyncio.fixture
async def family(business: Business) -> Family:
    found = Family(business)
    found.payer = await business.customer(net_terms_days=30)
    found.children = [await business.customer() for _ in range(3)]
    for child in found.children:
        await found.pays(found.payer.id, child)
    return found


async def in_arrears(business: Business, name: str, **model: Any) -> plan_pb2.Plan:  # Any: fields of a price
    return await business.plan(await business.price(name, billing_timing=price_pb2.Price.IN_ARREARS, **model))


def sections(invoice: invoice_pb2.Invoice) -> list[tuple[str, int]]:
    return [(each.customer_id, wire.parse_money(each.subtotal, field="subtotal").minor) for each in invoice.sections]


def users(invoice: invoice_pb2.Invoice) -> list[str]:
    return [line.customer_id for line in invoice.line_items]


def ids(found: Sequence[customer_pb2.Customer]) -> list[str]:
    return [each.id for each in found]


async def test_all_who_are_due_are_on_one_invoice_of_their_payer(
    suite: Suite, business: Business, family: Family
) -> None:
    """Final at once, with nothing to wait for: the payer's own first, then each of the children with what it comes to;
    on the payer's terms. They have none themselves."""
    contract = await in_arrears(business, "Contract", **flat("25"))
    for customer in (*family.children, family.payer):
        await business.subscribe(customer, contract)
    await suite.travel(FEBRUARY)
    [invoice] = await business.invoices()
    assert invoice.customer_id == invoice.customer.id == family.payer.id
    assert invoice.state == invoice_pb2.Invoice.OPEN
    assert invoice.due_time.ToDatetime(FEBRUARY.tzinfo) == FEBRUARY + timedelta(days=30)
    assert users(invoice) == ["", *sorted(ids(family.children))]
    assert sections(invoice) == [(family.payer.id, 25_00), *((each, 25_00) for each in sorted(ids(family.children)))]
    assert pence(invoice) == 100_00
    for section, line in zip(invoice.sections, invoice.line_items, strict=True):
        assert [each.subscription_id for each in section.subscriptions] == [line.subscription_id]
    await suite.travel(MARCH)
    assert [pence(each) for each in await business.invoices()] == [100_00, 100_00]
    assert not await dead_letters(suite)


async def test_usage_is_that_of_who_used_it(suite: Suite, business: Business, family: Family) -> None:
    """By the names of each child, also when a draft is counted anew; late usage is a correction on the payer's next."""
    await business.meter("m3")
    gas = await business.plan(await business.price("Gas", "m³", meter="m3", **per_unit("3.20")))
    one, two, _ = family.children
    for child in family.children:
        await business.subscribe(child, gas)
    await business.use(one, "m3", "3", utc(2026, 1, 5))
    await business.use(two, "m3", "10", utc(2026, 1, 6))
    await suite.travel(FEBRUARY)
    [draft] = await business.invoices()
    assert draft.state == invoice_pb2.Invoice.DRAFT
    await business.use(two, "m3", "1", utc(2026, 1, 31, 22))
    await suite.travel(FEBRUARY + HOUR)
    [invoice] = await business.invoices()
    assert (invoice.id, invoice.state) == (draft.id, invoice_pb2.Invoice.OPEN)
    assert {line.customer_id: wire.parse_money(line.amount, field="amount").minor for line in invoice.line_items} == {
        each.id: amount for each, amount in zip(family.children, (9_60, 35_20, 0), strict=True)
    }
    await business.use(one, "m3", "2", utc(2026, 1, 20))
    await suite.travel(MARCH + HOUR)
    february = (await business.invoices())[-1]
    assert february.customer_id == family.payer.id
    late = [line for line in february.line_items if line.correction]
    assert [(line.customer_id, line.description) for line in late] == [(one.id, "Gas – late usage")]
    assert pence(february) == 6_40


async def test_each_subscription_goes_to_whom_it_names(suite: Suite, business: Business, family: Family) -> None:
    """One of them to the payer, the other to the customer itself; each sees what it will get."""
    contract = await in_arrears(business, "Contract", **flat("25"))
    ada = await business.customer()
    await business.subscribe(ada, contract)
    await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=ada.id, plan_id=contract.id, payer_id=family.payer.id, billing_day=1
        )
    )
    await suite.quiet()
    assert [pence(await family.upcoming(each)) for each in (ada, family.payer)] == [25_00, 25_00]
    await suite.travel(FEBRUARY)
    invoices = {each.customer_id: each for each in await business.invoices()}
    assert {customer_id: pence(each) for customer_id, each in invoices.items()} == {
        ada.id: 25_00,
        family.payer.id: 25_00,
    }
    assert users(invoices[ada.id]) == [""]
    assert users(invoices[family.payer.id]) == [ada.id]


async def test_what_comes_back_to_who_had_it_is_taken_off_what_who_has_it_owes(
    suite: Suite, business: Business, family: Family
) -> None:
    """One payer for both: who gave a subscription away has nothing else that its credit could be taken off."""
    fee = await business.plan(await business.price("Fee", **flat("31")))
    ada, ben = await business.customer(), await business.customer()
    agreed = await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=ada.id, plan_id=fee.id, payer_id=family.payer.id, billing_day=1
        )
    )
    await suite.travel(utc(2026, 1, 11))
    await business.subscriptions.TransferSubscription(
        subscriptions.TransferSubscriptionRequest(id=agreed.id, customer_id=ben.id)
    )
    await suite.travel(FEBRUARY)
    invoices = await business.invoices()
    assert {each.customer_id for each in invoices} == {family.payer.id}
    lines = [
        (line.customer_id, *each)
        for found in invoices
        for line, each in zip(found.line_items, told(found), strict=True)
    ]
    assert lines.count((ada.id, "Fee – unused", -21_00)) == 1
    assert sum(pence(each) for each in invoices) == 31_00 + 31_00


async def test_what_is_to_come_is_shown_to_who_will_pay(
    suite: Suite, business: Business, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upcoming invoice, the preview and why it is together are the payer's; a child has nothing of its own. It
    takes more questions where more is asked about, or answered, than at once."""
    await business.meter("m3")
    gas = await business.plan(await business.price("Gas", "m³", meter="m3", **per_unit("3.20")))
    contract = await in_arrears(business, "Contract", **flat("25"))
    one, two, _ = family.children
    await business.subscribe(one, gas)
    await business.subscribe(two, contract)
    await business.subscribe(two, contract, billing_day=15)
    await business.use(one, "m3", "3", utc(2026, 1, 5))
    await suite.travel(utc(2026, 1, 6))
    upcoming = await family.upcoming(family.payer)
    assert upcoming.customer_id == family.payer.id
    assert told(upcoming) == [("Contract", 11_29)]  # 14 of 31 days up to the 15th
    for child in family.children:
        assert not (await family.upcoming(child)).line_items
        assert not await family.preview(child, MARCH)
    await suite.travel(utc(2026, 1, 16))
    upcoming = await family.upcoming(family.payer)
    assert sorted(told(upcoming)) == [("Contract", 25_00), ("Gas", 9_60)]
    assert sorted(sections(upcoming)) == sorted([(one.id, 9_60), (two.id, 25_00)])
    for module, limit, most in (
        ("invoicing.clients", "CUSTOMERS_PER_CALL", 1),
        ("subscriptions.usecases.reads", "PERIODS_PER_ANSWER_MAX", 2),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(import_module(module), limit, most)
            assert await family.upcoming(family.payer) == upcoming
    ahead = await family.preview(family.payer, MARCH)
    assert [(civil(each), pence(each)) for each in ahead] == [
        ("2026-02-01", 34_60),
        ("2026-02-15", 25_00),
        ("2026-03-01", 25_00),
    ]
    found = await family.consolidation.ExplainConsolidation(pb.ExplainConsolidationRequest(customer_id=family.payer.id))
    assert {each.key: each.value for each in found.invoice.consolidation.keys}["payer"] == family.payer.id
    assert (found.invoice.line_count, len(found.others)) == (2, 0)
    await suite.travel(FEBRUARY)
    assert [pence(each) for each in await business.invoices()] == [11_29, 34_60]


async def test_a_payer_may_have_an_invoice_for_each_of_them(suite: Suite, business: Business, family: Family) -> None:
    """As declared; or for each of their teams."""
    contract = await in_arrears(business, "Contract", **flat("25"))
    one, two, three = family.children
    for child, team in ((one, "blue"), (two, "red"), (three, "blue")):
        await business.subscribe(child, contract)
        await family.customers.SetCustomFields(
            customers.SetCustomFieldsRequest(id=child.id, custom_fields={"team": team})
        )
    declared = pb.SetConsolidationPolicyRequest(
        scope=ConsolidationPolicy.CUSTOMER, scope_id=family.payer.id, keys=["custom.team"]
    )
    await family.consolidation.SetConsolidationPolicy(declared)
    await suite.travel(FEBRUARY)
    assert sorted(users(each) for each in await business.invoices()) == sorted([sorted([one.id, three.id]), [two.id]])
    declared.keys[:] = ["customer"]
    await family.consolidation.SetConsolidationPolicy(declared)
    await suite.travel(MARCH)
    assert sorted(users(each) for each in (await business.invoices())[2:]) == sorted(
        [each] for each in ids(family.children)
    )


async def test_what_was_due_stays_with_who_paid_then(suite: Suite, business: Business, family: Family) -> None:
    """A new payer gets what is due from then on. What came late of before goes to the old one, alone if nothing else
    does any more."""
    await business.meter("m3")
    gas = await business.plan(await business.price("Gas", "m³", meter="m3", **per_unit("3.20")))
    one = family.children[0]
    other = await business.customer()
    await business.subscribe(one, gas)
    await business.use(one, "m3", "3", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    await family.pays(other.id, one)
    await business.use(one, "m3", "2", utc(2026, 1, 20))
    await business.use(one, "m3", "1", utc(2026, 2, 20))
    await suite.travel(APRIL + HOUR)
    of_payer, of_other = await business.invoices(family.payer), await business.invoices(other)
    assert [told(each) for each in of_payer] == [[("Gas", 9_60)], [("Gas – late usage", 6_40)]]
    assert [told(each) for each in of_other] == [[("Gas", 3_20)], [("Gas", 0)]]
    assert not await business.invoices(one)


async def test_a_credit_of_one_is_taken_off_what_the_payer_owes_for_another(
    suite: Suite, business: Business, family: Family
) -> None:
    """Of one who left; it is the payer's money."""
    seats = await business.plan(await business.price("Seats", **per_unit("10")))
    contract = await in_arrears(business, "Contract", **flat("25"))
    one, two, _ = family.children
    gone = await business.subscribe(one, seats)
    await business.subscribe(two, contract)
    await suite.travel(utc(2026, 1, 16))
    await business.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(
            id=gone.id,
            timing=subscriptions.CancelSubscriptionRequest.NOW,
            unused=subscription_pb2.SubscriptionChange.CREDIT,
        )
    )
    await suite.travel(MARCH)
    paid = [(civil(each), pence(each)) for each in await business.invoices(family.payer)]
    assert paid == [("2026-01-01", 10_00), ("2026-02-01", 25_00 - 5_16), ("2026-03-01", 25_00)]


async def test_one_who_cannot_be_billed_keeps_the_others_together(
    suite: Suite, business: Business, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set aside with the reason; the payer has one invoice for all the others."""
    monkeypatch.setattr(import_module("metering.store.usages"), "VALUES_MAX", 2)
    await business.meter("sales")
    fee = price_pb2.PercentageModel(percent=decimal("2.9"), fixed_fee=decimal("0.30"))
    payments = await business.plan(await business.price("Payments", meter="sales", percentage=fee))
    contract = await in_arrears(business, "Contract", **flat("25"))
    one, bad, three = family.children
    await business.subscribe(bad, payments)
    for child in (one, three):
        await business.subscribe(child, contract)
    for _ in range(3):
        await business.use(bad, "sales", "1", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + HOUR)
    assert (await parked_customers(suite)).keys() == {bad.id}
    [invoice] = await business.invoices()
    assert users(invoice) == sorted([one.id, three.id])


def test_who_hangs_together_by_way_of_others_is_one_circle() -> None:
    """Somebody with two payers brings both families together; all others stay apart."""
    pairs = [Paid("a", "p"), Paid("b", "p"), Paid("b", "q"), Paid("c", "q"), Paid("x", "y")]
    assert set(circles(pairs)) == {frozenset("abcpq"), frozenset("xy")}
    assert list(circles([])) == []
    company = Company(companion_ids=("b", "c"), circles=tuple(circles(pairs)))
    assert company.broken_by({"c"}) == frozenset("abcpq")
    assert company.broken_by({"z"}) == frozenset()
    fewer = company.only(["c"], beside=["a"])
    assert (fewer.companion_ids, fewer.broken_by({"c"})) == (("c",), frozenset("ac"))


async def hold(business: Business) -> tuple[Any, Any]:  # Any: a stub, and the desk of the service
    """February has come, and nobody acts by itself."""
    clock: Any = business.suite.stub(OperationsServiceStub, "invoicing")  # Any: grpc stubs are generated
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    current_caller.set(service_caller("invoicing", business.suite.seller))
    return clock, business.suite.running["invoicing"].desk()


@pytest.mark.own_services
async def test_whoever_begins_bills_all_of_them_once(suite: Suite, business: Business, family: Family) -> None:
    """Replicas that each have one of them in hand, in the same moment: one invoice, and every line on it once."""
    contract = await in_arrears(business, "Contract", **flat("25"))
    for customer in (*family.children, family.payer):
        await business.subscribe(customer, contract)
    clock, desk = await hold(business)
    await asyncio.gather(
        *(
            bill_run.bill_customers(desk, [each], grace=HOUR, taxes=RatesByHand())
            for each in ids([family.payer, *family.children])
        )
    )
    [invoice] = await business.invoices()
    assert pence(invoice) == 100_00
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.quiet()
    assert len(await business.invoices()) == 1


@pytest.mark.own_services
async def test_who_is_held_for_a_moment_is_waited_for(suite: Suite, business: Business, family: Family) -> None:
    """A fact about one of them comes in: the others wait, and all come onto one invoice."""
    contract = await in_arrears(business, "Contract", **flat("25"))
    for child in family.children:
        await business.subscribe(child, contract)
    clock, desk = await hold(business)
    async with desk.transaction() as tx:
        await bill_run.mark_customer_due(tx, family.children[1].id)
        run = bill_run.bill_customers(desk, [family.children[0].id], grace=HOUR, taxes=RatesByHand())
        running = asyncio.create_task(run)
        await asyncio.sleep(0.05)
        assert not await business.invoices()
    await running
    [invoice] = await business.invoices()
    assert users(invoice) == sorted(ids(family.children))
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.quiet()
    assert len(await business.invoices()) == 1
