"""What has become much is billed before its period ends, and the whole period is billed once, to the cent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from common import wire
from common.money import Money
from saldo.catalog.v1.coupon_pb2 import Coupon, PercentOff
from saldo.catalog.v1.coupon_service_pb2 import CreateCouponRequest
from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.invoicing.v1 import spend_thresholds_service_pb2 as pb
from saldo.invoicing.v1.credit_note_pb2 import CreditNote
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem
from saldo.invoicing.v1.invoicing_service_pb2 import (
    GetUpcomingInvoiceRequest,
    IssuingPolicy,
    ReleaseInvoiceRequest,
    SetIssuingPolicyRequest,
    VoidInvoiceRequest,
)
from saldo.invoicing.v1.proof_service_pb2 import ReplayInvoiceRequest, TraceLineRequest
from saldo.invoicing.v1.spend_threshold_pb2 import SpendThreshold
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.customers_service_pb2 import SetCustomerPayerRequest
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction
from saldo.subscriptions.v1.subscriptions_service_pb2 import TransferSubscriptionRequest
from tests.support.changes import change, change_plan
from tests.support.sandbox import Sandbox, flat, graduated, per_unit, text, usage

YEARLY = BillingInterval(unit=BillingInterval.YEAR, count=1)


def day(month: int, of_month: int, hour: int = 0, *, year: int = 2026) -> datetime:
    return datetime(year, month, of_month, hour, tzinfo=UTC)


async def declare(
    sandbox: Sandbox,
    amount: int,
    *,
    currency: str = "EUR",
    scope: SpendThreshold.Scope.ValueType = SpendThreshold.SELLER,
    scope_id: str = "",
) -> SpendThreshold:
    """In minor units."""
    return await sandbox.client.spend_thresholds.SetSpendThreshold(
        pb.SetSpendThresholdRequest(scope=scope, scope_id=scope_id, amount=wire.money(Money(amount, currency)))
    )


async def use(sandbox: Sandbox, customer: Customer, *times: datetime, value: str = "10", meter: str = "calls") -> None:
    """So much in each of these moments, each of which becomes now."""
    for at in times:
        await sandbox.travel(at)
        await sandbox.use(usage(customer, meter, at, value, event_id=f"{customer.external_id} {meter} {at}"))


def told(invoices: Sequence[Invoice]) -> list[tuple[str, str, str]]:
    """From when to when each line is, and what it comes to."""
    return [
        (f"{_short(line.period.start_time)} - {_short(line.period.end_time)}", line.quantity.value, text(line.amount))
        for invoice in invoices
        for line in invoice.line_items
    ]


def _short(stamp: Timestamp) -> str:
    return f"{stamp.ToDatetime(UTC):%d.%m. %H:%M}"


def metered_lines(invoices: Sequence[Invoice]) -> list[LineItem]:
    return [line for invoice in invoices for line in invoice.line_items if line.usage.meter]


async def proven(sandbox: Sandbox, invoices: Sequence[Invoice]) -> None:
    """Each made once more is the same, and each line is traced to its events."""
    for invoice in invoices:
        replay = await sandbox.client.proof.ReplayInvoice(ReplayInvoiceRequest(invoice_id=invoice.id))
        assert replay.is_identical, (invoice.number, replay.differences)
        for line in invoice.line_items:
            trace = await sandbox.client.proof.TraceLine(TraceLineRequest(invoice_id=invoice.id, line_id=line.id))
            assert not line.usage.meter or trace.is_counted_alike


async def test_tiers_are_gone_through_once_however_often_something_is_billed_early(sandbox: Sandbox) -> None:
    """Twice early and the rest: each line shows all tiers of the period so far, and takes off what was billed. Bob, who
    has no threshold, pays the same at once.
    """
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", graduated("calls", ("15", "1"), ("25", "0.75"), ("", "0.333"), meter="calls"))
    ann, bob = await sandbox.customer("ann", token="sim:ok"), await sandbox.customer("bob", token="sim:ok")
    for each in (ann, bob):
        await sandbox.subscribe(each, plan)
    declared = await declare(sandbox, 10_00, scope=SpendThreshold.CUSTOMER, scope_id=ann.id)
    times = [day(1, 5, 12), day(1, 12, 12), day(1, 20, 12), day(1, 25, 12)]
    for at in times:
        await use(sandbox, ann, at)
        await sandbox.use(usage(bob, "calls", at, "10", event_id=f"bob {at}"))
    early = await sandbox.invoices(ann)
    assert told(early) == [
        ("01.01. 00:00 - 06.01. 00:00", "10", "10.00 EUR"),
        ("01.01. 00:00 - 21.01. 00:00", "20", "14.17 EUR"),
    ]
    assert [line.description for line in metered_lines(early)] == ["Phone-Calls – billed early, so far"] * 2
    assert {invoice.state for invoice in early} == {Invoice.PAID}
    await sandbox.travel(day(1, 26))
    (standing,) = (
        await sandbox.client.spend_thresholds.GetUnbilledSpend(pb.GetUnbilledSpendRequest(customer_id=ann.id))
    ).spends
    assert (text(standing.unbilled), text(standing.billed_early)) == ("3.33 EUR", "24.17 EUR")
    assert standing.threshold == declared
    upcoming = await sandbox.client.invoicing.GetUpcomingInvoice(GetUpcomingInvoiceRequest(customer_id=ann.id))
    assert [text(line.amount) for line in upcoming.line_items] == ["3.33 EUR"]
    await sandbox.travel(day(2, 2))

    *_, rest = invoices = await sandbox.invoices(ann)
    assert told([rest]) == [("01.01. 00:00 - 01.02. 00:00", "10", "3.33 EUR")]
    (line,) = rest.line_items
    assert line.description == "Phone-Calls – rest of the period"
    assert line.usage.quantity.value == "40"
    assert len(line.rating_steps) == 4
    (whole,) = await sandbox.invoices(bob)
    assert sum(wire.parse_money(each.total, field="total").minor for each in invoices) == 27_50
    assert text(whole.total) == "27.50 EUR"
    await proven(sandbox, invoices)
    records = (await sandbox.client.spend_thresholds.ListEarlyLines(pb.ListEarlyLinesRequest())).lines
    assert sorted(text(each.spend) for each in records) == ["10.00 EUR", "14.17 EUR"]
    assert {each.threshold_id for each in records} == {declared.id}


async def test_what_comes_late_after_all_of_it_was_billed_is_late_as_ever(sandbox: Sandbox) -> None:
    """The rest is billed also when there is none: from then on the period is closed."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", per_unit("calls", "1", meter="calls"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await declare(sandbox, 10_00)
    await use(sandbox, ann, day(1, 5, 12))
    await sandbox.travel(day(2, 10))
    await sandbox.use(usage(ann, "calls", day(1, 20), "3", event_id="late"))
    await sandbox.travel(day(3, 2))

    early, rest, march = await sandbox.invoices(ann)
    assert told([early, rest]) == [
        ("01.01. 00:00 - 06.01. 00:00", "10", "10.00 EUR"),
        ("01.01. 00:00 - 01.02. 00:00", "0", "0.00 EUR"),
    ]
    (correction,) = [line for line in march.line_items if line.correction]
    assert (correction.description, text(correction.amount)) == ("Phone-Calls – late usage", "3.00 EUR")


async def test_a_year_is_billed_early_and_then_once(sandbox: Sandbox) -> None:
    """Nobody waits a year for what is used up in March."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", per_unit("calls", "1", meter="calls", interval=YEARLY))
    ann = await sandbox.customer("ann", token="sim:ok")
    subscription = await sandbox.subscribe(ann, plan)
    await declare(sandbox, 15_00, scope=SpendThreshold.SUBSCRIPTION, scope_id=subscription.id)
    await use(sandbox, ann, day(1, 5, 12), day(1, 9, 12), day(1, 12, 12))
    (declared,) = (
        await sandbox.client.spend_thresholds.ListSpendThresholds(pb.ListSpendThresholdsRequest())
    ).thresholds
    await sandbox.client.spend_thresholds.RemoveSpendThreshold(pb.RemoveSpendThresholdRequest(id=declared.id))
    await sandbox.travel(day(1, 2, year=2027))

    assert told(await sandbox.invoices(ann)) == [
        ("01.01. 00:00 - 10.01. 00:00", "20", "20.00 EUR"),
        ("01.01. 00:00 - 01.01. 00:00", "10", "10.00 EUR"),
    ]


async def test_currencies_are_counted_each_by_itself(sandbox: Sandbox) -> None:
    """A threshold in euros says nothing about francs; the nearest of each currency counts."""
    await sandbox.meter("calls")
    euros = await sandbox.plan("phone", per_unit("calls", "1", meter="calls"))
    francs = await sandbox.plan("abroad", per_unit("calls", "1", meter="calls", currency="CHF"))
    ann, urs, uri = (
        await sandbox.customer("ann", token="sim:ok"),
        await sandbox.customer("urs", currency="CHF", token="sim:ok"),
        await sandbox.customer("uri", currency="CHF", token="sim:ok"),
    )
    await sandbox.subscribe(ann, euros)
    for each in (urs, uri):
        await sandbox.subscribe(each, francs)
    await declare(sandbox, 10_00)
    await declare(sandbox, 20_00, currency="CHF")
    await declare(sandbox, 5_00, currency="CHF", scope=SpendThreshold.CUSTOMER, scope_id=uri.id)
    await declare(sandbox, 5_00, scope=SpendThreshold.CUSTOMER, scope_id=urs.id)
    for each in (ann, urs, uri):
        await sandbox.use(usage(each, "calls", day(1, 1), "10", event_id=each.external_id))
    await sandbox.travel(day(1, 2))

    assert {text(each.total) for each in await sandbox.invoices(ann)} == {"10.00 EUR"}
    assert await sandbox.invoices(urs) == []
    assert {text(each.total) for each in await sandbox.invoices(uri)} == {"10.00 CHF"}


async def test_a_change_of_plan_cuts_short_what_was_billed_early(sandbox: Sandbox) -> None:
    """From the change on another price counts; what was used before it is billed to the end of its own period."""
    await sandbox.meter("calls")
    old = await sandbox.plan("old", per_unit("calls", "1", meter="calls"))
    new = await sandbox.plan("new", per_unit("calls", "2", meter="calls"))
    ann = await sandbox.customer("ann", token="sim:ok")
    subscription = await sandbox.subscribe(ann, old)
    await declare(sandbox, 10_00)
    await use(sandbox, ann, day(1, 5, 12))
    await use(sandbox, ann, day(1, 14, 12), value="3")
    await sandbox.travel(day(1, 16))
    await change(sandbox, subscription, change_plan(new.id))
    await use(sandbox, ann, day(1, 20, 12), value="3")
    await sandbox.travel(day(2, 2))

    assert sorted(told(await sandbox.invoices(ann))) == [
        ("01.01. 00:00 - 06.01. 00:00", "10", "10.00 EUR"),
        ("01.01. 00:00 - 16.01. 00:00", "3", "3.00 EUR"),
        ("16.01. 00:00 - 01.02. 00:00", "3", "6.00 EUR"),
    ]


async def test_what_was_billed_early_and_is_not_owed_is_given_back(sandbox: Sandbox) -> None:
    """A change that was to be made before what was billed early leaves less of the old period than was billed: it is
    credited, and what is owed is billed anew.
    """
    await sandbox.meter("calls")
    old = await sandbox.plan("old", per_unit("calls", "1", meter="calls"))
    new = await sandbox.plan("new", per_unit("calls", "2", meter="calls"))
    ann, bob = await sandbox.customer("ann", token="sim:ok"), await sandbox.customer("bob", by_hand=True)
    agreed = [await sandbox.subscribe(each, old) for each in (ann, bob)]
    await declare(sandbox, 10_00)
    for at, value in ((day(1, 5, 12), "4"), (day(1, 14, 12), "8")):
        await sandbox.travel(at)
        await sandbox.use(*(usage(each, "calls", at, value, event_id=f"{each.id} {at}") for each in (ann, bob)))
    await sandbox.travel(day(1, 16))
    assert [text(invoice.total) for invoice in await sandbox.invoices()] == ["12.00 EUR", "12.00 EUR"]
    for subscription in agreed:
        await change(sandbox, subscription, change_plan(new.id), at=day(1, 10))
    await sandbox.travel(day(2, 2))

    for customer in (ann, bob):
        early, *others = await sandbox.invoices(customer)
        assert sorted(told(others)) == [
            ("01.01. 00:00 - 10.01. 00:00", "4", "4.00 EUR"),
            ("10.01. 00:00 - 01.02. 00:00", "0", "0.00 EUR"),
            ("10.01. 00:00 - 17.01. 00:00", "8", "16.00 EUR"),
        ]
        credited = sum(wire.parse_money(each.credit_applied, field="credit_applied").minor for each in others)
        is_paid = customer is ann
        assert (credited, text(early.amount_credited)) == ((12_00, "0.00 EUR") if is_paid else (0, "12.00 EUR"))
        await proven(sandbox, [early, *others])


async def test_without_the_threshold_nothing_more_is_billed_early(sandbox: Sandbox) -> None:
    """What was, stays; the rest waits for the end."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", per_unit("calls", "1", meter="calls"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    declared = await declare(sandbox, 10_00)
    await use(sandbox, ann, day(1, 5, 12))
    await sandbox.travel(day(1, 7))
    await sandbox.client.spend_thresholds.RemoveSpendThreshold(pb.RemoveSpendThresholdRequest(id=declared.id))
    await use(sandbox, ann, day(1, 8, 12), day(1, 12, 12))
    await sandbox.travel(day(2, 2))

    assert told(await sandbox.invoices(ann)) == [
        ("01.01. 00:00 - 06.01. 00:00", "10", "10.00 EUR"),
        ("01.01. 00:00 - 01.02. 00:00", "20", "20.00 EUR"),
    ]


async def test_what_was_billed_early_by_mistake_is_billed_with_the_whole(sandbox: Sandbox) -> None:
    """The threshold is taken back and the invoice annulled: then the period is billed once, as if nothing had been."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", flat("fee", "5"), per_unit("calls", "1", meter="calls"))
    ann = await sandbox.customer("ann", by_hand=True)
    await sandbox.subscribe(ann, plan)
    declared = await declare(sandbox, 10_00)
    await use(sandbox, ann, day(1, 5, 12))
    await sandbox.travel(day(1, 7))
    _, early = await sandbox.invoices(ann)
    await sandbox.client.spend_thresholds.RemoveSpendThreshold(pb.RemoveSpendThresholdRequest(id=declared.id))
    await sandbox.client.invoicing.VoidInvoice(VoidInvoiceRequest(id=early.id, reason=CreditNote.BILLING_ERROR))
    await sandbox.travel(day(2, 2))

    fee, gone, whole = await sandbox.invoices(ann)
    assert gone.state == Invoice.VOID
    assert text(fee.total) == "5.00 EUR"
    assert sorted(told([whole])) == [
        ("01.01. 00:00 - 01.02. 00:00", "10", "10.00 EUR"),
        ("01.02. 00:00 - 01.03. 00:00", "1", "5.00 EUR"),
    ]


async def test_an_early_invoice_waits_for_the_word_that_the_seller_has_to_give(sandbox: Sandbox) -> None:
    """Until then nothing more of the period is billed; the rest follows when it is final."""
    policy = IssuingPolicy(requires_approval=True)
    await sandbox.client.invoicing.SetIssuingPolicy(SetIssuingPolicyRequest(policy=policy))
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", per_unit("calls", "1", meter="calls"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await declare(sandbox, 10_00)
    await use(sandbox, ann, day(1, 5, 12), day(1, 10, 12))
    await sandbox.travel(day(2, 3))
    (early,) = await sandbox.invoices(ann)
    assert (early.state, text(early.total)) == (Invoice.DRAFT, "10.00 EUR")
    await sandbox.client.invoicing.ReleaseInvoice(ReleaseInvoiceRequest(id=early.id))
    await sandbox.travel(day(2, 4))

    early, rest = await sandbox.invoices(ann)
    assert (early.state, rest.state) == (Invoice.PAID, Invoice.DRAFT)
    assert told([rest]) == [("01.01. 00:00 - 01.02. 00:00", "10", "10.00 EUR")]
    await sandbox.client.invoicing.ReleaseInvoice(ReleaseInvoiceRequest(id=rest.id))
    await sandbox.travel(day(2, 5))
    assert {invoice.state for invoice in await sandbox.invoices(ann)} == {Invoice.PAID}


async def test_whoever_pays_gets_the_early_invoice_with_the_discounts(sandbox: Sandbox) -> None:
    """One for all whom somebody pays for; a tenth off early and a tenth off the rest is a tenth off the whole."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", per_unit("calls", "1", meter="calls"))
    boss = await sandbox.customer("boss", token="sim:ok")
    ann, bob = await sandbox.customer("ann"), await sandbox.customer("bob")
    tenth = await sandbox.client.coupons.CreateCoupon(
        CreateCouponRequest(
            coupon=Coupon(
                code="tenth",
                display_name="A tenth",
                duration=Coupon.FOREVER,
                percent_off=PercentOff(percent=Decimal(value="10")),
            )
        )
    )
    for each in (ann, bob):
        await sandbox.client.customers.SetCustomerPayer(SetCustomerPayerRequest(id=each.id, payer_id=boss.id))
        subscription = await sandbox.subscribe(each, plan)
        discount = SubscriptionAction(apply_discount=SubscriptionAction.ApplyDiscount(coupon_id=tenth.id))
        await change(sandbox, subscription, discount)
    await declare(sandbox, 10_00)
    for at in (day(1, 5, 12), day(1, 9, 12)):
        await sandbox.travel(at)
        await sandbox.use(*(usage(each, "calls", at, "11", event_id=f"{each.id} {at}") for each in (ann, bob)))
    await sandbox.travel(day(1, 12))
    await sandbox.use(*(usage(each, "calls", day(1, 12), "3", event_id=f"{each.id} more") for each in (ann, bob)))
    await sandbox.travel(day(2, 2))

    invoices = await sandbox.invoices()
    assert {invoice.customer_id for invoice in invoices} == {boss.id}
    assert [text(invoice.total) for invoice in invoices] == ["19.80 EUR", "19.80 EUR", "5.40 EUR"]
    assert {line.customer_id for line in metered_lines(invoices)} == {ann.id, bob.id}
    await proven(sandbox, invoices)


async def test_what_was_billed_early_stays_with_whoever_used_it(sandbox: Sandbox) -> None:
    """A subscription that is transferred: the old customer is billed the rest of his time, the new one for hers."""
    await sandbox.meter("calls")
    plan = await sandbox.plan("phone", per_unit("calls", "1", meter="calls"))
    ann, bob = await sandbox.customer("ann", token="sim:ok"), await sandbox.customer("bob", token="sim:ok")
    subscription = await sandbox.subscribe(ann, plan)
    await declare(sandbox, 10_00)
    await use(sandbox, ann, day(1, 5, 12))
    await use(sandbox, ann, day(1, 14, 12), value="3")
    await sandbox.travel(day(1, 16))
    await sandbox.client.subscriptions.TransferSubscription(
        TransferSubscriptionRequest(id=subscription.id, customer_id=bob.id)
    )
    await use(sandbox, bob, day(1, 20, 12), value="12")
    await sandbox.travel(day(2, 2))

    assert told(await sandbox.invoices(ann)) == [
        ("01.01. 00:00 - 06.01. 00:00", "10", "10.00 EUR"),
        ("01.01. 00:00 - 16.01. 00:00", "3", "3.00 EUR"),
    ]
    assert told(await sandbox.invoices(bob)) == [
        ("16.01. 00:00 - 21.01. 00:00", "12", "12.00 EUR"),
        ("16.01. 00:00 - 01.02. 00:00", "0", "0.00 EUR"),
    ]
