"""How much usage may stay unbilled, as declared on each level; and what that does to bills."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import pytest_asyncio

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.money import Money
from common.testing import SANDBOX_START, Suite, refused
from saldo.invoicing.v1 import consolidation_service_pb2, credit_note_pb2, invoicing_service_pb2
from saldo.invoicing.v1 import spend_thresholds_service_pb2 as pb
from saldo.invoicing.v1.consolidation_service_pb2_grpc import ConsolidationServiceStub
from saldo.invoicing.v1.spend_threshold_pb2 import SpendThreshold
from saldo.invoicing.v1.spend_thresholds_service_pb2_grpc import SpendThresholdsServiceStub
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2

from .conftest import Business, pence, per_unit, told, utc

SELLER, CUSTOMER, SUBSCRIPTION = SpendThreshold.SELLER, SpendThreshold.CUSTOMER, SpendThreshold.SUBSCRIPTION
FEBRUARY = utc(2026, 2, 1)


class Desk:
    """Everything about spend thresholds, in the seller's name."""

    def __init__(self, business: Business) -> None:
        self.business = business
        # Any: grpc stubs are generated
        self.api: Any = business.suite.stub(SpendThresholdsServiceStub, "invoicing")

    async def declare(
        self, minor: int, *, scope: SpendThreshold.Scope.ValueType = SELLER, of: str = "", currency: str = "GBP"
    ) -> SpendThreshold:
        request = pb.SetSpendThresholdRequest(scope=scope, scope_id=of, amount=wire.money(Money(minor, currency)))
        declared: SpendThreshold = await self.api.SetSpendThreshold(request)
        return declared

    async def spends(self, customer: customer_pb2.Customer) -> list[tuple[str, str]]:
        """Unbilled, and billed early."""
        found = await self.api.GetUnbilledSpend(pb.GetUnbilledSpendRequest(customer_id=customer.id))
        return [
            (str(wire.parse_money(each.unbilled, field="")), str(wire.parse_money(each.billed_early, field="")))
            for each in found.spends
        ]

    async def caller(self) -> tuple[customer_pb2.Customer, subscription_pb2.Subscription]:
        """Somebody who pays 1 £ a call."""
        await self.business.meter("calls")
        plan = await self.business.plan(await self.business.price("Calls", meter="calls", **per_unit("1")))
        customer = await self.business.customer()
        return customer, await self.business.subscribe(customer, plan)


@pytest_asyncio.fixture
async def desk(business: Business) -> Desk:
    return Desk(business)


async def test_a_threshold_is_declared_replaced_and_taken_back(suite: Suite, desk: Desk) -> None:
    """One for each place and currency; the same amount changes nothing; what was declared stays on record."""
    ada = await desk.business.customer()
    first = await desk.declare(10_00)
    assert (first.scope, first.scope_id, first.HasField("end_time")) == (SELLER, "", False)
    assert await desk.declare(10_00) == first
    euros = await desk.declare(10_00, currency="EUR")
    own = await desk.declare(5_00, scope=CUSTOMER, of=ada.id)
    await suite.travel(utc(2026, 1, 2))
    second = await desk.declare(20_00)
    assert second.id != first.id
    ended = await desk.api.GetSpendThreshold(pb.GetSpendThresholdRequest(id=first.id))
    assert ended.end_time == second.create_time
    listed = await desk.api.ListSpendThresholds(pb.ListSpendThresholdsRequest())
    assert [*listed.thresholds] == sorted([euros, own, second], key=lambda each: each.id)
    only = await desk.api.ListSpendThresholds(pb.ListSpendThresholdsRequest(scope=CUSTOMER))
    assert [*only.thresholds] == [own]
    page = await desk.api.ListSpendThresholds(pb.ListSpendThresholdsRequest(page_size=2))
    rest = await desk.api.ListSpendThresholds(
        pb.ListSpendThresholdsRequest(page_size=2, page_token=page.next_page_token)
    )
    assert [*page.thresholds, *rest.thresholds] == [*listed.thresholds]
    gone = pb.RemoveSpendThresholdRequest(id=second.id, request_id="gone")
    assert (await desk.api.RemoveSpendThreshold(gone)).HasField("end_time")
    assert (await desk.api.RemoveSpendThreshold(gone)).id == second.id
    for threshold_id in (second.id, first.id, ids.mint("sthr", SANDBOX_START)):
        with refused("SPEND_THRESHOLD_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await desk.api.RemoveSpendThreshold(pb.RemoveSpendThresholdRequest(id=threshold_id))
    with refused("SPEND_THRESHOLD_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.api.GetSpendThreshold(pb.GetSpendThresholdRequest(id=ids.mint("sthr", SANDBOX_START)))


async def test_what_cannot_be_is_not_declared(suite: Suite, desk: Desk) -> None:
    """Neither amounts of nothing, nor for whom there is not; and nothing is stored of it."""
    nobody, nothing = ids.mint("cus", SANDBOX_START), ids.mint("sub", SANDBOX_START)
    some, none = wire.money(Money(1, "GBP")), wire.money(Money(0, "GBP"))
    wrong: list[tuple[dict[str, Any], str, grpc.StatusCode]] = [  # Any: fields of the request
        ({"scope": SELLER, "amount": none}, "SPEND_THRESHOLD_NOT_POSITIVE", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": SELLER}, "UNKNOWN_CURRENCY", grpc.StatusCode.INVALID_ARGUMENT),
        ({"amount": some}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": SELLER, "scope_id": nobody, "amount": some}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": CUSTOMER, "amount": some}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": CUSTOMER, "scope_id": nobody, "amount": some}, "CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        (
            {"scope": SUBSCRIPTION, "scope_id": nothing, "amount": some},
            "SUBSCRIPTION_NOT_FOUND",
            grpc.StatusCode.NOT_FOUND,
        ),
    ]
    for fields, reason, code in wrong:
        with refused(reason, code):
            await desk.api.SetSpendThreshold(pb.SetSpendThresholdRequest(**fields))
    assert not (await desk.api.ListSpendThresholds(pb.ListSpendThresholdsRequest())).thresholds
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.api.GetUnbilledSpend(pb.GetUnbilledSpendRequest(customer_id=nobody))
    viewer: Any = suite.stub(SpendThresholdsServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.SetSpendThreshold(pb.SetSpendThresholdRequest(scope=SELLER, amount=some))
    assert not (await viewer.ListEarlyLines(pb.ListEarlyLinesRequest())).lines


async def test_what_another_seller_declared_is_not_there(suite: Suite, desk: Desk) -> None:
    """Neither to be read nor to be taken back."""
    declared = await desk.declare(10_00)
    other: Any = suite.stub(  # Any: as above
        SpendThresholdsServiceStub, "invoicing", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    )
    assert not (await other.ListSpendThresholds(pb.ListSpendThresholdsRequest())).thresholds
    for call, request in (
        (other.GetSpendThreshold, pb.GetSpendThresholdRequest(id=declared.id)),
        (other.RemoveSpendThreshold, pb.RemoveSpendThresholdRequest(id=declared.id)),
    ):
        with refused("SPEND_THRESHOLD_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await call(request)


async def test_a_new_threshold_counts_for_what_is_unbilled(suite: Suite, desk: Desk) -> None:
    """At once, and not at the next look; in the middle of the day."""
    ada, _ = await desk.caller()
    await desk.business.use(ada, "calls", "12", utc(2026, 1, 9, 10))
    await suite.travel(utc(2026, 1, 9, 15))
    assert await desk.spends(ada) == []
    await desk.declare(10_00, scope=CUSTOMER, of=ada.id)
    await suite.quiet()
    [early] = await desk.business.invoices(ada)
    assert told(early) == [("Calls – billed early, so far", 12_00)]
    assert await desk.spends(ada) == [("0.00 GBP", "12.00 GBP")]


async def test_early_lines_are_told_page_by_page(suite: Suite, desk: Desk) -> None:
    """Of one customer, or of everybody."""
    ada, subscription = await desk.caller()
    declared = await desk.declare(1_00, scope=SUBSCRIPTION, of=subscription.id)
    for day in (5, 9):
        await desk.business.use(ada, "calls", "12", utc(2026, 1, day, 10))
        await suite.travel(utc(2026, 1, day + 1, 1))
    page = await desk.api.ListEarlyLines(pb.ListEarlyLinesRequest(page_size=1, customer_id=ada.id))
    rest = await desk.api.ListEarlyLines(pb.ListEarlyLinesRequest(page_size=1, page_token=page.next_page_token))
    lines = [*page.lines, *rest.lines]
    assert [each.threshold_id for each in lines] == [declared.id] * 2
    assert {each.line_id for each in lines} == {
        line.id for invoice in await desk.business.invoices(ada) for line in invoice.line_items
    }
    assert not rest.next_page_token
    nobody = pb.ListEarlyLinesRequest(customer_id=ids.mint("cus", SANDBOX_START))
    assert not (await desk.api.ListEarlyLines(nobody)).lines


async def test_an_early_invoice_that_was_annulled_is_billed_early_again(suite: Suite, desk: Desk) -> None:
    """What was never billed counts, as long as the threshold does; the second first, which takes the other off."""
    ada, _ = await desk.caller()
    await desk.declare(10_00)
    for day in (5, 9):
        await desk.business.use(ada, "calls", "12", utc(2026, 1, day, 10))
        await suite.travel(utc(2026, 1, day + 1, 1))
    first, second = await desk.business.invoices(ada)
    api, reason = desk.business.invoicing, credit_note_pb2.CreditNote.BILLING_ERROR
    with refused("INVOICE_CORRECTED_SINCE", grpc.StatusCode.FAILED_PRECONDITION):
        await api.VoidInvoice(invoicing_service_pb2.VoidInvoiceRequest(id=first.id, reason=reason))
    for invoice in (second, first):
        await api.VoidInvoice(invoicing_service_pb2.VoidInvoiceRequest(id=invoice.id, reason=reason))
    await suite.travel(utc(2026, 1, 12))
    *_, anew = await desk.business.invoices(ada)
    assert told(anew) == [("Calls – billed early, so far", 24_00)]
    await suite.travel(utc(2026, 2, 2))
    *_, rest = await desk.business.invoices(ada)
    assert told(rest) == [("Calls – rest of the period", 0)]


@pytest.mark.parametrize("declares", [False, True])
async def test_what_is_to_come_shows_what_is_left(suite: Suite, desk: Desk, *, declares: bool) -> None:
    """On the upcoming invoice and in what is looked ahead to, also when no threshold counts any more."""
    ada, _ = await desk.caller()
    declared = await desk.declare(10_00)
    await desk.business.use(ada, "calls", "12", utc(2026, 1, 5, 10))
    await suite.travel(utc(2026, 1, 6, 1))
    if not declares:
        await desk.api.RemoveSpendThreshold(pb.RemoveSpendThresholdRequest(id=declared.id))
    await desk.business.use(ada, "calls", "3", utc(2026, 1, 7, 10))
    await suite.travel(utc(2026, 1, 8))
    request = invoicing_service_pb2.GetUpcomingInvoiceRequest(customer_id=ada.id)
    assert pence(await desk.business.invoicing.GetUpcomingInvoice(request)) == 3_00
    consolidation: Any = suite.stub(ConsolidationServiceStub, "invoicing")  # Any: as above
    ahead = await consolidation.PreviewInvoices(
        consolidation_service_pb2.PreviewInvoicesRequest(customer_id=ada.id, until_time=wire.timestamp(utc(2026, 3, 2)))
    )
    assert [pence(invoice) for invoice in ahead.invoices] == [3_00, 0]
