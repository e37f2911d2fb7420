"""Invoices with taxes, by rates and rules that the seller gives by hand; and none without, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from google.type import money_pb2

from common import wire
from common.caller import Role
from common.errors import Unavailable
from common.rpc import Desk
from common.testing import Suite, refused
from invoicing import main
from invoicing.domain.party import Customer
from invoicing.domain.tax_rules import TaxTerms
from invoicing.usecases.taxing import RatesByHand
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.invoicing.v1 import invoice_pb2, proof_service_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.invoicing.v1.tax_pb2 import TaxRate, TaxRule, TaxScope
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction, SubscriptionChange

from .conftest import Business, dead_letters, decimal, flat, per_unit, utc

HOUR = timedelta(hours=1)
JANUARY, FEBRUARY, MARCH = utc(2026, 1, 1), utc(2026, 2, 1), utc(2026, 3, 1)
Code = grpc.StatusCode


def rate(percent: str, name: str = "VAT", **more: Any) -> TaxRate:  # Any: fields of the message
    return TaxRate(**{"name": name, "category": TaxRate.S, "percent": decimal(percent), **more})


async def declared(business: Business, percent: str, name: str = "VAT", **more: Any) -> str:  # Any: as above
    made = await business.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=rate(percent, name, **more)))
    return str(made.id)


async def rule(
    business: Business, *rate_ids: str, scope: TaxScope | None = None, start: datetime | None = None
) -> TaxRule:
    request = pb.SetTaxRuleRequest(
        scope=scope, tax_rate_ids=rate_ids, start_time=None if start is None else wire.timestamp(start)
    )
    made: TaxRule = await business.tax.SetTaxRule(request)
    return made


async def tax_code(business: Business, code: str) -> None:
    await business.catalog.CreateTaxCode(catalog.CreateTaxCodeRequest(code=code, display_name=code))


def minor(amount: money_pb2.Money) -> int:
    return wire.parse_money(amount, field="amount").minor


def taxes(invoice: invoice_pb2.Invoice) -> list[tuple[str, str, str, int, int]]:
    return [
        (tax.name, tax.category, tax.percent.value, minor(tax.taxable_amount), minor(tax.amount))
        for tax in invoice.taxes
    ]


def totals(invoice: invoice_pb2.Invoice) -> tuple[int, int, int]:
    return minor(invoice.subtotal), minor(invoice.tax_total), minor(invoice.total)


async def test_an_invoice_is_taxed_by_the_rules_of_its_products(suite: Suite, business: Business) -> None:
    """Two products at one rate are rounded together; a third by its tax code; all of it told, line by line, owed, and
    paid in full."""
    await tax_code(business, "books")
    standard, reduced = await declared(business, "20"), await declared(business, "5")
    await rule(business, standard)
    await rule(business, reduced, scope=TaxScope(tax_code="books"))
    plan = await business.plan(
        await business.price("Seats", **flat("9.99")),
        await business.price("Support", **flat("4.99")),
        await business.price("Handbook", tax_code="books", **flat("3.30")),
    )
    ada = await business.customer()
    await business.subscribe(ada, plan)
    [invoice] = await business.invoices()
    assert taxes(invoice) == [("VAT", "S", "20", 14_98, 3_00), ("VAT", "S", "5", 3_30, 17)]
    assert totals(invoice) == (18_28, 3_17, 21_45)
    assert minor(invoice.total_excluding_tax) == 18_28
    assert [list(line.tax_rate_ids) for line in invoice.line_items] == [[standard], [standard], [reduced]]
    assert [line.tax_code for line in invoice.line_items] == ["", "", "books"]
    assert invoice.HasField("tax_time")
    upcoming = await business.invoicing.GetUpcomingInvoice(invoicing.GetUpcomingInvoiceRequest(customer_id=ada.id))
    assert totals(upcoming) == (18_28, 3_17, 21_45)
    await business.pay(invoice, payment_id="pay_1")
    [paid] = await business.invoices()
    assert (paid.state, minor(paid.amount_paid)) == (invoice_pb2.Invoice.PAID, 21_45)


async def test_without_rules_nothing_is_taxed(business: Business) -> None:
    """As it was before there were taxes; a rate that no rule names is none."""
    await declared(business, "20")
    await business.subscribe(
        await business.customer(), await business.plan(await business.price("Seats", **flat("9.99")))
    )
    [invoice] = await business.invoices()
    assert (taxes(invoice), totals(invoice)) == ([], (9_99, 0, 9_99))


async def test_prices_that_include_their_taxes_stay_what_they_are(business: Business) -> None:
    """What is on the price list is what is paid."""
    await rule(business, await declared(business, "20", is_inclusive=True))
    await business.subscribe(
        await business.customer(), await business.plan(await business.price("Seats", **flat("9.99")))
    )
    [invoice] = await business.invoices()
    assert taxes(invoice) == [("VAT", "S", "20", 8_33, 1_66)]
    assert totals(invoice) == (9_99, 1_66, 9_99)
    assert minor(invoice.total_excluding_tax) == 8_33


async def test_the_rule_of_a_customer_is_above_the_others(business: Business) -> None:
    """Two taxes side by side, one on top of both, and nothing of what others pay."""
    ada, bob = await business.customer(), await business.customer()
    await rule(business, await declared(business, "20"))
    own = [
        await declared(business, "6", "State"),
        await declared(business, "2", "City"),
        await declared(business, "1", "Levy", is_compound=True),
    ]
    await rule(business, *own, scope=TaxScope(customer_id=ada.id))
    plan = await business.plan(await business.price("Seats", **flat("100")))
    await business.subscribe(ada, plan)
    await business.subscribe(bob, plan)
    of_ada, of_bob = await business.invoices(ada), await business.invoices(bob)
    assert taxes(of_ada[0]) == [
        ("City", "S", "2", 100_00, 2_00),
        ("State", "S", "6", 100_00, 6_00),
        ("Levy", "S", "1", 108_00, 1_08),
    ]
    assert taxes(of_bob[0]) == [("VAT", "S", "20", 100_00, 20_00)]


async def test_who_is_exempt_pays_nothing_and_is_told_why(suite: Suite, business: Business) -> None:
    """In the country of the customer, from the day on which the exemption begins, by the category of the reason."""
    await rule(business, await declared(business, "20"))
    ada = await business.customer()
    plan = await business.plan(await business.price("Seats", **flat("100")))
    await business.subscribe(ada, plan)
    exemption = customer_pb2.TaxExemption(country="GB", reason_code="VATEX-EU-AE", certificate_number="GB-1")
    exemption.start_date.CopyFrom(wire.date(FEBRUARY.date()))
    elsewhere = customer_pb2.TaxExemption(country="FR", reason_code="RESALE")
    own: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    for each in (elsewhere, exemption):
        await own.AddTaxExemption(customers.AddTaxExemptionRequest(customer_id=ada.id, tax_exemption=each))
    await suite.travel(FEBRUARY)
    before, after = await business.invoices()
    assert taxes(before) == [("VAT", "S", "20", 100_00, 20_00)]
    assert taxes(after) == [("VAT", "AE", "0", 100_00, 0)]
    assert after.taxes[0].exemption_reason == "VATEX-EU-AE"
    assert totals(after) == (100_00, 0, 100_00)


async def test_a_new_rate_is_for_what_is_billed_from_then_on(suite: Suite, business: Business) -> None:
    """Said in January for February; taken back for March. What was billed stays as it is."""
    old, new = await declared(business, "20"), await declared(business, "21")
    await rule(business, old)
    later = await rule(business, new, start=FEBRUARY)
    await business.subscribe(
        await business.customer(), await business.plan(await business.price("Seats", **flat("100")))
    )
    await suite.travel(FEBRUARY + HOUR)
    await business.tax.DeleteTaxRule(pb.DeleteTaxRuleRequest(id=later.id))
    await suite.travel(MARCH)
    assert [minor(each.tax_total) for each in await business.invoices()] == [20_00, 21_00, 0]


async def test_a_draft_is_taxed_as_it_is_finalized(suite: Suite, business: Business) -> None:
    """Usage that came late is taxed, too; and a rule that was set for its moment meanwhile counts."""
    await business.meter("kwh")
    power = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, power)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FEBRUARY)
    [draft] = await business.invoices()
    assert (draft.state, totals(draft)) == (invoice_pb2.Invoice.DRAFT, (10_00, 0, 10_00))
    await suite.travel(FEBRUARY + HOUR / 2)
    await rule(business, await declared(business, "20"), start=JANUARY)
    await business.use(ada, "kwh", "50", utc(2026, 1, 31, 23))
    await suite.travel(FEBRUARY + HOUR)
    [invoice] = await business.invoices()
    assert taxes(invoice) == [("VAT", "S", "20", 15_00, 3_00)]
    assert totals(invoice) == (15_00, 3_00, 18_00)


async def test_what_joins_a_draft_is_taxed_with_it(suite: Suite, business: Business) -> None:
    """15 % of 0.10 twice: rounded together, 3 and not 4."""
    await rule(business, await declared(business, "15"))
    await business.meter("kwh")
    ada = await business.customer()
    power = await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10"))
    await business.subscribe(ada, await business.plan(power))
    await business.use(ada, "kwh", "1", utc(2026, 1, 5))
    await suite.travel(FEBRUARY)
    await business.subscribe(ada, await business.plan(await business.price("Seats", **flat("0.10"))))
    [draft] = await business.invoices()
    assert (draft.state, taxes(draft)) == (invoice_pb2.Invoice.DRAFT, [("VAT", "S", "15", 20, 3)])
    await suite.travel(FEBRUARY + HOUR)
    [invoice] = await business.invoices()
    assert (totals(invoice), len(invoice.line_items)) == ((20, 3, 23), 2)


async def test_a_credit_takes_its_tax_off_and_never_more_than_there_is(suite: Suite, business: Business) -> None:
    """What was taxed is taken back against what is not: as much as leaves nothing to pay, and the rest next month."""
    await tax_code(business, "free")
    await rule(business, await declared(business, "20"))
    await rule(business, await declared(business, "0", category=TaxRate.Z), scope=TaxScope(tax_code="free"))
    seats = await business.plan(await business.price("Seats", "seat", **per_unit("80")))
    books = await business.plan(await business.price("Books", tax_code="free", **flat("90")))
    ada = await business.customer()
    subscription = await business.subscribe(ada, seats, quantities=["2"])
    [first] = await business.invoices()
    assert totals(first) == (160_00, 32_00, 192_00)
    item = subscription.items[0]
    fewer = SubscriptionAction.SetQuantity(item_id=item.id, quantity=decimal("1"))
    await business.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(
            id=subscription.id,
            actions=[SubscriptionAction(set_quantity=fewer)],
            unused=SubscriptionChange.CREDIT,
        )
    )
    await business.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(customer_id=ada.id, plan_id=books.id)
    )
    await suite.quiet()
    invoices = await business.invoices()
    assert all(minor(each.total) >= 0 for each in invoices)
    assert any(line.kind == line.CREDIT for each in invoices for line in each.line_items)
    await suite.travel(MARCH)
    lines = [line for each in await business.invoices() for line in each.line_items]
    assert sum(minor(line.amount) for line in lines if line.kind == line.CREDIT) == -160_00
    assert not await dead_letters(suite)


async def test_a_taxed_invoice_is_made_once_more(suite: Suite, business: Business) -> None:
    """Added, included, on top of others, and what somebody was exempt from: to the byte, from rates and lines."""
    ada, bob, cyd = [await business.customer() for _ in range(3)]
    await rule(business, await declared(business, "20"), await declared(business, "1", "Levy", is_compound=True))
    await rule(
        business,
        await declared(business, "20", is_inclusive=True),
        await declared(business, "3", "Fee", is_inclusive=True),
        scope=TaxScope(customer_id=bob.id),
    )
    own: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    exemption = customer_pb2.TaxExemption(country="GB", reason_code="RESALE")
    await own.AddTaxExemption(customers.AddTaxExemptionRequest(customer_id=cyd.id, tax_exemption=exemption))
    plan = await business.plan(*[await business.price(name, **flat("9.99")) for name in ("Seats", "Support", "Care")])
    for each in (ada, bob, cyd):
        await business.subscribe(each, plan)
    proof: Any = suite.stub(ProofServiceStub, "invoicing")  # Any: as above
    invoices = await business.invoices()
    assert len({tuple(taxes(each)) for each in invoices}) == 3
    for invoice in invoices:
        replay = await proof.ReplayInvoice(proof_service_pb2.ReplayInvoiceRequest(invoice_id=invoice.id))
        assert replay.is_identical, replay.differences


class Moody:
    """Knows the taxes, but does not always say so."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self._questions: asyncio.Queue[int] = asyncio.Queue()
        self._by_hand = RatesByHand()

    async def terms(self, desk: Desk, customers: Collection[Customer], *, tax_codes: Collection[str]) -> TaxTerms:
        self._questions.put_nowait(len(customers))
        if self.failure is not None:
            raise self.failure
        return await self._by_hand.terms(desk, customers, tax_codes=tax_codes)

    async def was_asked(self, times: int) -> None:
        """From now on, so many times."""
        while not self._questions.empty():
            self._questions.get_nowait()
        for _ in range(times):
            await self._questions.get()


def provided(monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> Moody:
    """Whom invoicing asks from now on; called before it is started."""
    found = Moody(failure)
    monkeypatch.setattr(main, "build", partial(main.build, taxes=found))
    return found


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Moody:
    return provided(monkeypatch)


FAILURES = [ConnectionResetError(), TimeoutError(), Unavailable("away"), ValueError("an answer that makes no sense")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_without_an_answer_nothing_is_billed(
    moody: Moody, suite: Suite, business: Business, failure: Exception
) -> None:
    """What is due stays due, and is billed with its taxes as soon as somebody says which."""
    await rule(business, await declared(business, "20"))
    plan = await business.plan(await business.price("Seats", **flat("100")))
    ada = await business.customer()
    moody.failure = failure
    subscribing = asyncio.create_task(business.subscribe(ada, plan))
    async with asyncio.timeout(20):
        await moody.was_asked(2)
        assert await business.invoices() == []
        moody.failure = None
        await subscribing
    [invoice] = await business.invoices()
    assert (invoice.number, totals(invoice)) == ("NL-000001", (100_00, 20_00, 120_00))
    assert not await dead_letters(suite)


async def test_without_an_answer_a_draft_stays_a_draft(moody: Moody, suite: Suite, business: Business) -> None:
    """Also when somebody asks for it by hand: it says why it cannot be done now."""
    await rule(business, await declared(business, "20"))
    await business.meter("kwh")
    ada = await business.customer()
    power = await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10"))
    await business.subscribe(ada, await business.plan(power))
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(FEBRUARY)
    [draft] = await business.invoices()
    moody.failure = ConnectionResetError()
    travelling = asyncio.create_task(suite.travel(FEBRUARY + HOUR))
    async with asyncio.timeout(20):
        await moody.was_asked(2)
        with refused("TAX_UNAVAILABLE", Code.UNAVAILABLE):
            await business.invoicing.FinalizeInvoice(invoicing.FinalizeInvoiceRequest(id=draft.id))
        with refused("TAX_UNAVAILABLE", Code.UNAVAILABLE):
            await business.invoicing.GetUpcomingInvoice(invoicing.GetUpcomingInvoiceRequest(customer_id=ada.id))
        [held] = await business.invoices()
        assert (held.state, held.number) == (invoice_pb2.Invoice.DRAFT, "")
        moody.failure = None
        await travelling
    [invoice] = await business.invoices()
    assert (invoice.state, totals(invoice)) == (invoice_pb2.Invoice.OPEN, (10_00, 2_00, 12_00))


async def test_a_provider_that_never_says_which_is_for_an_operator(
    moody: Moody, suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no matter of waiting becomes a dead letter, and is still not issued."""
    monkeypatch.setattr("common.jobs.RETRY_SECONDS", (0.01,))
    moody.failure = ValueError("an answer that makes no sense")
    ada = await business.customer()
    await business.subscribe(ada, await business.plan(await business.price("Seats", **flat("100"))))
    [letter] = await dead_letters(suite)
    assert "makes no sense" in letter.error
    assert await business.invoices() == []
    moody.failure = None
    operator: Any = suite.stub(OperationsServiceStub, "invoicing", role=Role.PLATFORM)  # Any: grpc stubs are generated
    await operator.RequeueDeadLetter(operations.RequeueDeadLetterRequest(id=letter.id))
    await suite.quiet()
    assert len(await business.invoices()) == 1
