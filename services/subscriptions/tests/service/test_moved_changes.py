"""Changes that were decided for later: how they follow the beginning of billing, are taken back, and are told of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2

from common import wire
from common.testing import Suite, refused
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1 import invoice_pb2
from saldo.subscriptions.v1 import events_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from tools.check.decisions import INVARIANTS
from tools.check.records import Sources, read_records
from tools.check.report import examine

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
Cancel = pb.CancelSubscriptionRequest
Change = subscription_pb2.SubscriptionChange
Pause = pb.PauseSubscriptionRequest
Subscription = subscription_pb2.Subscription
STATE = Subscription.State


def day(month: int, number: int = 1) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(2026, month, number, tzinfo=UTC)


def decimal(quantity: int) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=str(quantity))


async def ramped(shop: Any, *, unit: str = "MONTH", **more: Any) -> tuple[Any, Any]:  # Any: customer and subscription
    """One seat, after a month of billing five, and after three months ten."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats", unit=unit))
    price_id = plan.prices[0].id
    ramp = [
        pb.RampStep(
            after_months=months, quantities=[subscription_pb2.ItemSpec(price_id=price_id, quantity=decimal(quantity))]
        )
        for months, quantity in ((1, 5), (3, 10))
    ]
    return ada, await shop.subscribe(ada, plan, ramp=ramp, **more)


def steps(changes: Any) -> list[tuple[int, str, str]]:  # Any: changes of the API
    return [
        (each.after_months, f"{each.effective_time.ToDatetime(UTC):%m-%d}", Change.State.Name(each.state))
        for each in changes
        if each.after_months
    ]


def told(suite: Suite) -> list[tuple[str, str]]:
    """Which changes were told of, in order: what is done, and how it stands with it."""
    return [
        (str(each.change.actions[0].WhichOneof("action")), Change.State.Name(each.change.state))
        for each in suite.announced(events_pb2.SubscriptionChanged)
    ]


async def quantities(shop: Any, customer: Any, through: datetime) -> list[str]:
    lines = shop.billed((await shop.due(customer, through=through)).periods)
    return [f"{line.split()[1]} from {line.split()[3].partition('..')[0]}" for line in lines]


async def checked(suite: Suite) -> int:
    """How much the checker has looked at of the decisions, all of which holds."""
    records = await read_records(
        Sources(databases={"subscriptions": suite.reading_urls["subscriptions"]}, seller_id=suite.seller)
    )
    findings = [examine(invariant, records) for invariant in INVARIANTS]
    assert [each for each in findings if each.offending] == []
    return min(each.checked or 0 for each in findings if "period" not in each.name and "ramps" not in each.name)


async def test_a_ramp_begins_when_it_is_activated_by_hand(suite: Suite, shop: Any) -> None:
    """Later than the first step would have been if it had begun as planned: as long at each quantity, and told."""
    ada, waiting = await ramped(shop, activation=Subscription.BY_HAND, activation_hours=24 * 60)
    assert steps(await shop.log(waiting)) == [(1, "04-02", "SCHEDULED"), (3, "06-02", "SCHEDULED")]
    await suite.travel(day(2, 10))
    assert (await shop.find(waiting)).items[0].quantity.value == "1"
    await shop.api.ActivateSubscription(pb.ActivateSubscriptionRequest(id=waiting.id))
    assert steps(await shop.log(waiting)) == [
        *((1, "04-02", "REVOKED"), (3, "06-02", "REVOKED"), (1, "03-10", "SCHEDULED"), (3, "05-10", "SCHEDULED"))
    ]
    await suite.quiet()
    assert [state for _, state in told(suite)] == [*["REVOKED"] * 2, *["SCHEDULED"] * 2]
    await suite.travel(day(5, 10))
    assert steps(await shop.log(waiting, "IN_EFFECT")) == [(1, "03-10", "IN_EFFECT"), (3, "05-10", "IN_EFFECT")]
    assert await quantities(shop, ada, day(5, 10)) == [
        *("1 from 2026-02-10", "5 from 2026-03-10", "5 from 2026-04-10", "10 from 2026-05-10")
    ]
    assert await checked(suite) > 0


async def test_a_ramp_follows_its_trial(suite: Suite, shop: Any) -> None:
    """Extended, then ended: what is told names the steps that are gone, and those in their place."""
    ada, trialing = await ramped(shop, trial_days=31)
    extend = pb.ExtendTrialRequest(id=trialing.id, trial_end_time=wire.timestamp(day(2, 15)))
    await shop.api.ExtendTrial(extend)
    assert steps(await shop.log(trialing, "SCHEDULED")) == [(1, "03-15", "SCHEDULED"), (3, "05-15", "SCHEDULED")]
    await suite.travel(day(1, 20))
    await shop.api.EndTrial(pb.EndTrialRequest(id=trialing.id))
    assert steps(await shop.log(trialing, "SCHEDULED")) == [(1, "02-20", "SCHEDULED"), (3, "04-20", "SCHEDULED")]
    known = await shop.find(trialing, effective_time=day(3), known_time=day(1, 10))
    assert known.items[0].quantity.value == "1"
    await suite.quiet()
    assert [state for _, state in told(suite)] == [*["REVOKED"] * 2, *["SCHEDULED"] * 2] * 2
    await suite.travel(day(4, 20))
    assert await quantities(shop, ada, day(4, 20)) == [
        *("1 from 2026-01-20", "5 from 2026-02-20", "5 from 2026-03-20", "10 from 2026-04-20")
    ]
    assert await checked(suite) > 0


async def test_a_first_payment_moves_no_step(suite: Suite, shop: Any) -> None:
    """It is billed from its start, whenever that is paid for."""
    ada, waiting = await ramped(shop, activation=Subscription.ON_FIRST_PAYMENT, activation_hours=24 * 60)
    await suite.travel(day(2, 10))
    invoice = invoice_pb2.Invoice(id="inv_1", line_items=[invoice_pb2.LineItem(subscription_id=waiting.id)])
    await suite.announce(invoicing.InvoicePaid(invoice=invoice), source="invoicing")
    await suite.quiet()
    assert (await shop.find(waiting)).state == STATE.ACTIVE
    assert steps(await shop.log(waiting)) == [(1, "02-01", "IN_EFFECT"), (3, "04-01", "SCHEDULED")]
    assert await quantities(shop, ada, day(2, 10)) == ["1 from 2026-01-01", "5 from 2026-02-01"]


async def test_what_a_cancellation_takes_back_is_told_of_one_by_one(suite: Suite, shop: Any) -> None:
    """Whoever keeps a copy of what is to come would wait for it for ever; it comes again when that is taken back."""
    _, subscription = await ramped(shop)
    other = Action(set_billing_day=Action.SetBillingDay(billing_day=15))
    await shop.change(subscription, other, at=day(2, 20))
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.PERIOD_END))
    await suite.quiet()
    taken_back = [("set_billing_day", "REVOKED"), ("set_quantity", "REVOKED"), ("set_quantity", "REVOKED")]
    assert sorted(told(suite)[1:]) == taken_back
    assert {each.id for each in await shop.log(subscription, "REVOKED")} == {
        each.change.id for each in suite.announced(events_pb2.SubscriptionChanged)[1:]
    }
    assert await checked(suite) > 0

    await shop.api.RevokeCancellation(pb.RevokeCancellationRequest(id=subscription.id))
    await suite.quiet()
    assert sorted(told(suite)[4:]) == [(name, "SCHEDULED") for name, _ in taken_back]
    assert len(suite.announced(events_pb2.SubscriptionCancellationRevoked)) == 1
    await suite.travel(day(4, 15))
    assert (await shop.find(subscription)).billing_day == 15
    assert (await shop.find(subscription)).items[0].quantity.value == "10"
    assert await checked(suite) > 0


async def test_what_is_put_in_the_place_of_another_is_told(suite: Suite, shop: Any) -> None:
    """An earlier end for a later one, a resumption now for the one that was planned, another end of the term."""
    plan = await shop.plan(shop.price("seats"))
    ended, paused, expiring = [await shop.subscribe(await shop.customer(), plan) for _ in range(3)]
    for month in (6, 4):
        request = Cancel(id=ended.id, timing=Cancel.AT_TIME, cancel_time=wire.timestamp(day(month)))
        await shop.api.CancelSubscription(request)
    await shop.api.PauseSubscription(Pause(id=paused.id, resume_time=wire.timestamp(day(3))))
    await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=paused.id))
    for months in (6, 4):
        term = subscription_pb2.Term(months=months, renewal=subscription_pb2.Term.EXPIRE)
        await shop.change(expiring, Action(set_term=Action.SetTerm(term=term)))
    await suite.quiet()
    assert sorted(each for each in told(suite) if each[1] == "REVOKED") == [
        *[("end", "REVOKED")] * 2,
        ("resume", "REVOKED"),
    ]
    assert await checked(suite) > 0


async def test_what_time_takes_back_is_told(suite: Suite, shop: Any) -> None:
    """Nobody activated it: neither it nor its ramp will come, and nobody has to guess the second from the first."""
    _, waiting = await ramped(shop, activation=Subscription.BY_HAND)
    await suite.travel(day(1, 2))
    assert (await shop.find(waiting)).end_reason == Subscription.NOT_ACTIVATED
    assert told(suite) == [("set_quantity", "REVOKED")] * 2
    assert await checked(suite) > 0


async def test_a_deadline_is_renewed_with_the_reactivation(suite: Suite, shop: Any) -> None:
    """As long again as at first, and the subscription says so; missed again, it has ended again."""
    plan = await shop.plan(shop.price("seats"))
    waiting = await shop.subscribe(
        await shop.customer(), plan, activation=Subscription.BY_HAND, activation_hours=24 * 9
    )
    assert waiting.activation_deadline == wire.timestamp(day(1, 10))
    await suite.travel(day(1, 20))
    again = await shop.api.ReactivateSubscription(pb.ReactivateSubscriptionRequest(id=waiting.id))
    assert (again.state, again.activation_deadline) == (STATE.PENDING, wire.timestamp(day(1, 29)))
    await suite.travel(day(1, 28))
    assert (await shop.find(waiting)).state == STATE.PENDING
    await suite.travel(day(1, 29))
    gone = await shop.find(waiting)
    assert (gone.state, gone.end_reason) == (STATE.CANCELLED, Subscription.NOT_ACTIVATED)


async def test_a_cancellation_at_the_period_end_waits_in_a_pause(suite: Suite, shop: Any) -> None:
    """The end of the month that would be under way, as one who reads the calendar expects it."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan)
    await suite.travel(day(1, 11))
    await shop.api.PauseSubscription(Pause(id=subscription.id))
    await suite.travel(day(2, 10))
    ending = await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.PERIOD_END))
    assert (ending.state, ending.cancel_time) == (STATE.PAUSED, wire.timestamp(day(3)))
    await suite.travel(day(3))
    assert (await shop.find(subscription)).state == STATE.CANCELLED


@pytest.mark.parametrize(
    ("scope", "state", "left"),
    [
        (Pause.SERVICE, STATE.ACTIVE, ["billing_pause_time", "resume_time"]),
        (Pause.BILLING, STATE.PAUSED, ["pause_time", "resume_time"]),
        (Pause.BOTH, STATE.ACTIVE, []),
        (Pause.SCOPE_UNSPECIFIED, STATE.ACTIVE, []),
    ],
)
async def test_what_is_resumed_can_be_said(suite: Suite, shop: Any, scope: Any, state: Any, left: list[str]) -> None:
    """As it can be said what is paused; the resumption that was planned comes for the rest."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    await shop.api.PauseSubscription(Pause(id=subscription.id, resume_time=wire.timestamp(day(2, 15))))
    await suite.travel(day(1, 20))
    resumed = await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id, scope=scope))
    times = ("pause_time", "billing_pause_time", "resume_time")
    assert (resumed.state, [name for name in times if resumed.HasField(name)]) == (state, left)
    before = await shop.stored()
    for wanted in {Pause.BOTH, scope or Pause.BOTH}:
        with refused("SUBSCRIPTION_NOT_PAUSED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id, scope=wanted))
        paused = {Pause.SERVICE: "BILLING", Pause.BILLING: "SERVICE"}.get(scope)
        assert refusal.metadata.get("paused") == paused
    assert await shop.stored() == before
    await suite.travel(day(2, 16))
    whole = await shop.find(subscription)
    assert (whole.state, [name for name in times if whole.HasField(name)]) == (STATE.ACTIVE, [])
