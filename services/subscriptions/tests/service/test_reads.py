"""What is asked of subscriptions: as they were, as they were believed to be, and what is to be billed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.type import decimal_pb2, money_pb2

from common import ids, wire
from common.period import Period
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions.domain import billable_periods
from subscriptions.usecases import reads

pytestmark = pytest.mark.patched_when_used

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
Cancel = pb.CancelSubscriptionRequest
Change = subscription_pb2.SubscriptionChange
Item = subscription_pb2.SubscriptionItem
STATE = subscription_pb2.Subscription.State


def day(month: int, number: int = 1, *, year: int = 2026) -> datetime:
    """The sandbox begins with 2026."""
    return datetime(year, month, number, tzinfo=UTC)


def set_quantity(item: Item, quantity: int) -> Action:
    return Action(set_quantity=Action.SetQuantity(item_id=item.id, quantity=decimal_pb2.Decimal(value=str(quantity))))


def money(units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="EUR", units=units)


async def test_what_was_true_and_what_was_believed(suite: Suite, shop: Any) -> None:
    """A quantity is scheduled, another one back-dated, the end decided: each is so from when it was, as of any time."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    [seats] = subscription.items
    await suite.travel(day(1, 10))
    await shop.change(subscription, set_quantity(seats, 2), at=day(1, 20))
    await suite.travel(day(1, 25))
    await shop.change(subscription, set_quantity(seats, 3), at=day(1, 22))
    await suite.travel(day(1, 28))
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.PERIOD_END))

    async def quantity(known: datetime | None, effective: datetime) -> str:
        times = {"known_time": known} if known else {}
        found = await shop.find(subscription, effective_time=effective, **times)
        return str(found.items[0].quantity.value)

    for known, expected in (
        (day(1, 5), ["1", "1", "1"]),
        (day(1, 10), ["1", "2", "2"]),
        (day(1, 24), ["1", "2", "2"]),
        (day(1, 25), ["1", "2", "3"]),
        (None, ["1", "2", "3"]),
    ):
        assert [await quantity(known, day(1, number)) for number in (19, 21, 23)] == expected
    # Known then and asked of then, unless another instant is named.
    assert (await shop.find(subscription, known_time=day(1, 21))).items[0].quantity.value == "2"

    before = await shop.find(subscription, known_time=day(1, 27), effective_time=day(3))
    assert (before.state, before.HasField("cancel_time")) == (STATE.ACTIVE, False)
    after = await shop.find(subscription, effective_time=day(2))
    assert (after.state, after.end_time) == (STATE.CANCELLED, wire.timestamp(day(2)))
    until = await shop.find(subscription, effective_time=day(2) - timedelta(microseconds=1))
    assert (until.state, until.HasField("end_time")) == (STATE.ACTIVE, False)
    assert until.cancel_time == wire.timestamp(day(2))


async def test_what_was_believed_does_not_say_how_often_it_was_changed(suite: Suite, shop: Any) -> None:
    """The number and the time of now would be wrong of then, and nothing says what they were."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    await suite.travel(day(1, 10))
    changed = await shop.change(subscription, set_quantity(subscription.items[0], 2))
    await suite.travel(day(1, 20))
    for then in (day(1, 5), day(1, 15)):
        for times in ({"known_time": then}, {"known_time": then, "effective_time": day(1, 20)}):
            believed = await shop.find(subscription, **times)
            assert (believed.revision, believed.HasField("update_time")) == (0, False)
            assert believed.create_time == subscription.create_time
    for times in ({}, {"effective_time": day(1, 5)}, {"known_time": day(1, 20)}):
        known = await shop.find(subscription, **times)
        assert (known.revision, known.update_time) == (changed.revision, changed.update_time)


async def test_what_was_believed_before_it_was_taken_back(suite: Suite, shop: Any) -> None:
    """A revoked change was believed until then."""
    subscription = await shop.subscribe(await shop.customer(), await shop.plan(shop.price("seats")))
    await shop.change(subscription, set_quantity(subscription.items[0], 9), at=day(2))
    [change] = await shop.log(subscription)
    await suite.travel(day(1, 10))
    await shop.api.RevokeSubscriptionChange(
        pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=change.id)
    )
    for known, expected in ((day(1, 10) - timedelta(microseconds=1), "9"), (day(1, 10), "1")):
        found = await shop.find(subscription, known_time=known, effective_time=day(2))
        assert found.items[0].quantity.value == expected


async def test_there_is_nothing_before_it_was_agreed(suite: Suite, shop: Any) -> None:
    """Nor was anything known of it, however far back it reaches."""
    await suite.travel(day(2))
    subscription = await shop.subscribe(
        await shop.customer(), await shop.plan(shop.price("seats")), start_time=wire.timestamp(day(1, 10))
    )
    instant = timedelta(microseconds=1)
    for times in (
        {"known_time": day(2) - instant},
        {"known_time": day(2) - instant, "effective_time": day(1, 20)},
        {"effective_time": day(1, 10) - instant},
    ):
        with refused("SUBSCRIPTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await shop.find(subscription, **times)
    back_then = await shop.find(subscription, effective_time=day(1, 10))
    assert (back_then.state, back_then.items) == (STATE.ACTIVE, subscription.items)


async def test_many_customers_at_once_are_answered_as_one_by_one(suite: Suite, shop: Any) -> None:
    """The same schedules, in the order asked, each customer once, without the customers themselves."""
    plan = await shop.plan(
        shop.price("seats"), shop.metered("calls"), shop.price("audit", unit="YEAR"), shop.price("setup", unit="ONCE")
    )
    customers = [await shop.customer() for _ in range(4)]
    made = [await shop.subscribe(customer, plan) for customer in customers[:3]]
    await suite.travel(day(1, 15))
    await shop.change(made[0], set_quantity(made[0].items[0], 7))
    await shop.api.TransferSubscription(pb.TransferSubscriptionRequest(id=made[1].id, customer_id=customers[2].id))
    await shop.api.CancelSubscription(Cancel(id=made[2].id, timing=Cancel.NOW, unused=Change.REFUND))
    wanted = [customers[n].id for n in (2, 0, 3, 1)]
    for after in (day(1), day(1, 15), day(1, 15) + timedelta(microseconds=1), day(2)):
        window: dict[str, Any] = {
            "after_time": wire.timestamp(after),
            "through_time": wire.timestamp(day(4)),
        }  # Any: of a field
        batch = await shop.api.BatchListBillablePeriods(
            pb.BatchListBillablePeriodsRequest(customer_ids=[*wanted, wanted[0]], **window)
        )
        single = await shop.api.ListBillablePeriods(pb.ListBillablePeriodsRequest(customer_ids=wanted, **window))
        assert [schedule.customer_id for schedule in batch.schedules] == wanted
        assert [schedule.customer.id for schedule in single.schedules] == wanted
        for schedule in single.schedules:
            schedule.ClearField("customer")
        assert batch.schedules == single.schedules
        assert all(after <= each.bill_time.ToDatetime(UTC) for s in batch.schedules for each in s.periods)
        assert [bool(schedule.periods) for schedule in batch.schedules] == [True, True, False, after < day(2, 2)]


async def test_windows_of_a_schedule_add_up(suite: Suite, shop: Any) -> None:
    """Asked month by month or all at once, each period is there once; the next bill time leads from one to the next."""
    ada = await shop.customer()
    plan = await shop.plan(shop.price("seats"), shop.metered("calls"))
    subscription = await shop.subscribe(ada, plan)
    await suite.travel(day(1, 15))
    await shop.change(subscription, set_quantity(subscription.items[0], 7))
    await shop.change(subscription, set_quantity(subscription.items[0], 2), at=day(3, 20))
    whole = await shop.due(ada, through=day(6))
    pieces = []
    through = day(1)
    after = None
    for _ in range(20):
        piece = await shop.due(ada, after=after, through=through)
        pieces += piece.periods
        after = through + timedelta(microseconds=1)
        if not piece.HasField("next_bill_time") or piece.next_bill_time.ToDatetime(UTC) > day(6):
            break
        through = piece.next_bill_time.ToDatetime(UTC)
    assert pieces == list(whole.periods)
    # Known beforehand, what changes in March makes two parts of it.
    assert shop.billed(each for each in pieces if each.HasField("quantity"))[4:6] == [
        "OWED 7 × 2026-03-01..2026-03-20 19/31 on 2026-03-01",
        "OWED 2 × 2026-03-20..2026-04-01 12/31 on 2026-03-20",
    ]
    assert len(pieces) == 14


async def test_through_the_next_bill_time_of_any_of_them(shop: Any) -> None:
    """Whoever looks ahead need not ask first when that is; what is trued up comes as well, after the end nothing."""
    monthly = await shop.plan(shop.price("seats"), shop.metered("calls"))
    yearly = await shop.plan(shop.price("audit", unit="YEAR"))
    ada, bob = await shop.customer(), await shop.customer()
    subscribed = await shop.subscribe(ada, monthly)
    commitment = subscription_pb2.Commitment(minimum=money(1000), months=2)
    await shop.subscribe(bob, yearly, commitment=commitment)

    async def looked(*customers: Any, through: datetime, is_next: bool) -> pb.ListBillablePeriodsResponse:
        request = pb.ListBillablePeriodsRequest(
            customer_ids=[each.id for each in customers],
            through_time=wire.timestamp(through),
            through_next_bill_time=is_next,
        )
        answer: pb.ListBillablePeriodsResponse = await shop.api.ListBillablePeriods(request)
        return answer

    both = await looked(bob, ada, through=day(1, 20), is_next=True)
    assert both == await looked(bob, ada, through=day(2), is_next=False)
    assert both.through_time == wire.timestamp(day(2))
    assert [len(each.periods) for each in both.schedules] == [1, 3]
    alone = await looked(bob, through=day(1, 20), is_next=True)
    assert alone.through_time == alone.schedules[0].commitments[0].bill_time == wire.timestamp(day(3))
    await shop.api.CancelSubscription(Cancel(id=subscribed.id, timing=Cancel.NOW))
    over = await looked(ada, through=day(1, 20), is_next=True)
    assert over == await looked(ada, through=day(1, 20), is_next=False)
    assert over.through_time == wire.timestamp(day(1, 20))


async def test_a_schedule_knows_coupons_payers_and_commitments(suite: Suite, shop: Any) -> None:
    """Whatever invoicing needs beside prices, by when it is billed."""
    ada, payer = await shop.customer(), await shop.customer()
    coupons = [await shop.coupon(), await shop.coupon()]
    discounts = [
        Action.ApplyDiscount(coupon_id=coupons[0], periods=2),
        Action.ApplyDiscount(coupon_id=coupons[1]),
    ]
    subscription = await shop.subscribe(
        ada,
        await shop.plan(shop.price("seats"), shop.price("setup", unit="ONCE")),
        discounts=discounts,
        payer_id=payer.id,
        commitment=subscription_pb2.Commitment(minimum=money(1000), months=2),
        start_time=wire.timestamp(day(1)),
    )
    assert [(each.coupon_id, each.periods) for each in subscription.discounts] == [(coupons[0], 2), (coupons[1], 0)]
    assert subscription.payer_id == payer.id
    schedule = await shop.due(ada, through=day(3))
    seats, setup = subscription.items
    of_seats = [period for period in schedule.periods if period.item_id == seats.id]
    assert [list(period.coupon_ids) for period in of_seats] == [coupons[:2], coupons[:2], coupons[1:2]]
    assert [list(each.coupon_ids) for each in schedule.periods if each.item_id == setup.id] == [coupons[:2]]
    assert {period.payer_id for period in schedule.periods} == {payer.id}
    assert {period.customer_id for period in schedule.periods} == {ada.id}
    [committed] = schedule.commitments
    assert (committed.subscription_id, committed.customer_id) == (subscription.id, ada.id)
    assert committed.period == committed.full_period == wire.interval(Period(day(1), day(3)))
    assert (committed.minimum, committed.bill_time) == (money(1000), wire.timestamp(day(3)))
    assert (committed.proration.numerator, committed.proration.denominator) == (1, 1)
    assert not (await shop.due(ada, after=day(3) + timedelta(days=1), through=day(4))).commitments

    # An end in the middle of the second stretch makes it a part of it: 9 of 61 days.
    await suite.travel(day(3, 10))
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.NOW))
    *_, last = (await shop.due(ada, through=day(12))).commitments
    assert last.period == wire.interval(Period(day(3), day(3, 10)))
    assert last.full_period == wire.interval(Period(day(3), day(5)))
    assert (last.proration.numerator, last.proration.denominator) == (9, 61)
    assert last.bill_time == wire.timestamp(day(3, 10))


async def test_what_was_due_stays_due(suite: Suite, shop: Any) -> None:
    """Whatever is done later, an answer about the past is in every later answer, word for word."""
    ada, bob = await shop.customer(), await shop.customer()
    subscription = await shop.subscribe(ada, await shop.plan(shop.price("seats"), shop.metered("calls")))
    [seats, _] = subscription.items
    answers: list[list[Any]] = []

    async def remember(at: datetime) -> None:
        answers.append(list((await shop.due(ada, through=at)).periods))

    await remember(day(1))
    await suite.travel(day(1, 11))
    await shop.change(subscription, set_quantity(seats, 5))
    await remember(day(1, 11))
    await suite.travel(day(2, 3))
    await shop.change(subscription, set_quantity(seats, 3), at=day(2, 2))
    await shop.change(subscription, Action(apply_discount=Action.ApplyDiscount(coupon_id=await shop.coupon())))
    await remember(day(2, 3))
    await suite.travel(day(2, 10))
    await shop.change(subscription, Action(set_payer=Action.SetPayer(payer_id=bob.id)))
    await shop.api.PauseSubscription(pb.PauseSubscriptionRequest(id=subscription.id, unused=Change.CREDIT))
    await suite.travel(day(2, 20))
    await shop.api.ResumeSubscription(pb.ResumeSubscriptionRequest(id=subscription.id))
    await remember(day(2, 20))
    await suite.travel(day(3, 5))
    await shop.api.TransferSubscription(pb.TransferSubscriptionRequest(id=subscription.id, customer_id=bob.id))
    await suite.travel(day(3, 9))
    await shop.api.CancelSubscription(Cancel(id=subscription.id, timing=Cancel.NOW, unused=Change.CREDIT))
    last = list((await shop.due(ada, through=day(6))).periods)
    for earlier in answers:
        assert last[: len(earlier)] == earlier
    both = [*last, *(await shop.due(bob, through=day(6))).periods]
    keys = [
        (each.item_id, each.price_id, each.period.start_time.ToNanoseconds(), each.kind, each.change_id)
        for each in both
    ]
    assert len(set(keys)) == len(keys) > len(last)


async def test_more_than_one_answer_can_hold_is_refused(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than answered in part, for one customer as for all of them together."""
    ada, bob = await shop.customer(), await shop.customer()
    plan = await shop.plan(shop.price("seats"))
    for each in (ada, bob):
        await shop.subscribe(each, plan)
    request = pb.BatchListBillablePeriodsRequest(customer_ids=[ada.id, bob.id], through_time=wire.timestamp(day(3)))
    assert sum(len(each.periods) for each in (await shop.api.BatchListBillablePeriods(request)).schedules) == 6
    monkeypatch.setattr(reads, "PERIODS_PER_ANSWER_MAX", 5)
    with refused("TOO_MANY_PERIODS", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.BatchListBillablePeriods(request)
    del request.customer_ids[1]
    await shop.api.BatchListBillablePeriods(request)
    monkeypatch.setattr(billable_periods, "PERIODS_MAX", 2)
    with refused("TOO_MANY_PERIODS", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.api.BatchListBillablePeriods(request)


async def test_schedules_are_of_customers_that_there_are(shop: Any) -> None:
    """One that is unknown spoils the answer, and is named."""
    ada, stranger = await shop.customer(), ids.mint("cus", day(1))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
        await shop.api.BatchListBillablePeriods(
            pb.BatchListBillablePeriodsRequest(customer_ids=[ada.id, stranger], through_time=wire.timestamp(day(1)))
        )
    assert stranger in refusal.metadata.values()


async def test_the_log_is_read_without_the_catalog(suite: Suite, shop: Any) -> None:
    """What was agreed about prices is kept with the subscription, also when the plan is archived."""
    ada, plan = await shop.customer(), await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan)
    await shop.catalog.ArchivePlan(catalog_service_pb2.ArchivePlanRequest(id=plan.id))
    await suite.stop("catalog")
    await shop.change(subscription, set_quantity(subscription.items[0], 4))
    assert len(await shop.log(subscription)) == 1
    assert len((await shop.due(ada, through=day(2))).periods) == 4
