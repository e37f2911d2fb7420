"""Which ends of periods are announced, one after the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from common.period import Interval, Period, Unit
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.period_ends import EndedPeriod, announced, next_ends
from subscriptions.domain.subscription import (
    BillingTiming,
    Item,
    ItemId,
    PlanId,
    PriceId,
    Subscription,
    SubscriptionId,
)

DAILY, MONTHLY, QUARTERLY = Interval(Unit.DAY, 1), Interval(Unit.MONTH, 1), Interval(Unit.MONTH, 3)


def day(month: int, number: int = 1) -> datetime:
    return datetime(2026, month, number, tzinfo=UTC)


def agree(*intervals: Interval | None, start: datetime | None = None, trial_days: int = 0) -> Subscription:
    items = tuple(
        Item(
            id=ItemId(f"item-{n}"),
            price_id=PriceId(f"price-{n}"),
            interval=interval,
            timing=BillingTiming.IN_ARREARS if interval else BillingTiming.IN_ADVANCE,
            meter="",
            quantity=Decimal(1),
        )
        for n, interval in enumerate(intervals)
    )
    return Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=CustomerId("cus"),
        plan_id=PlanId("plan"),
        items=items,
        currency="EUR",
        time_zone="UTC",
        start_time=start or day(1),
        billing_day=0,
        trial_days=trial_days,
        at=day(1),
    )


def ends(subscription: Subscription, *, through: datetime) -> list[tuple[datetime, tuple[ItemId, ...]]]:
    """All that would be announced, one job run after the other."""
    told: list[tuple[datetime, tuple[ItemId, ...]]] = []
    for _ in range(1_000):
        upcoming = [ended for ended in next_ends(subscription) if ended.period.end <= through]
        if not upcoming:
            return told
        for ended in upcoming:
            subscription = announced(subscription, ended)
            told.append((ended.period.end, ended.item_ids))
    raise AssertionError("never comes to an end")


def test_items_of_one_period_end_together() -> None:
    """One announcement, however many items: whoever bills has to look once."""
    assert next_ends(agree(MONTHLY, MONTHLY)) == [
        EndedPeriod(Period(day(1), day(2)), (ItemId("item-0"), ItemId("item-1")))
    ]


def test_different_periods_that_end_together_are_told_apart() -> None:
    """A quarter and its last month end at one instant and are two periods, the longer one first."""
    assert ends(agree(MONTHLY, QUARTERLY), through=day(4)) == [
        (day(2), ("item-0",)),
        (day(3), ("item-0",)),
        (day(4), ("item-1",)),
        (day(4), ("item-0",)),
    ]


def test_announcing_changes_nothing_that_others_see() -> None:
    """No revision without a change."""
    subscription = agree(MONTHLY)
    [ended] = next_ends(subscription)
    after = announced(subscription, ended)
    assert (after.revision, after.update_time, after.periods_ended_through) == (1, day(1), day(2))


def test_before_the_start_nothing_ends() -> None:
    """It is announced that a subscription began before it is announced that a period of it ended."""
    pending = agree(MONTHLY, start=day(3))
    assert next_ends(pending) == []
    assert ends(pending.begin(at=day(3)), through=day(4)) == [(day(4), ("item-0",))]


def test_in_a_trial_nothing_ends() -> None:
    """The trial itself is no period; what begins after it ends like any other."""
    trialing = agree(MONTHLY, trial_days=14)
    assert next_ends(trialing) == []
    assert ends(trialing.end_trial(at=day(1, 15)), through=day(3)) == [(day(2, 15), ("item-0",))]
    decided = trialing.cancel_at_period_end(at=day(1, 10))
    assert next_ends(decided.cancel(at=day(1, 15))) == []


def test_what_is_billed_once_has_no_period_that_ends() -> None:
    """Neither does it end with the others, nor is there anything to tell of it alone."""
    assert ends(agree(None, MONTHLY), through=day(2)) == [(day(2), ("item-1",))]
    assert next_ends(agree(None)) == []


def test_a_pause_in_a_period_does_not_hide_its_end() -> None:
    """What was served before the pause is billed then; the months without service end unnoticed."""
    paused = agree(MONTHLY).pause(at=day(1, 10))
    assert ends(paused, through=day(12)) == [(day(2), ("item-0",))]
    resumed = paused.resume(at=day(5, 20), past_due=False)
    assert ends(resumed, through=day(7)) == [(day(2), ("item-0",)), (day(6), ("item-0",)), (day(7), ("item-0",))]


def test_a_short_period_that_was_told_does_not_hide_a_long_one() -> None:
    """The day of the pause ended long before the month of it."""
    begun = agree(DAILY, MONTHLY, start=day(1, 30)).begin(at=day(1, 30))
    paused = begun.pause(at=day(1, 30) + timedelta(hours=1))
    assert ends(paused, through=day(12)) == [(day(1, 31), ("item-0",)), (day(2, 28), ("item-1",))]


def test_the_last_period_end_is_told_when_the_subscription_ends_with_it() -> None:
    """In either order of the two jobs, so that what is billed in arrears is billed promptly."""
    decided = agree(MONTHLY).cancel_at_period_end(at=day(1, 10))
    expected = [(day(2), ("item-0",))]
    assert ends(decided, through=day(12)) == expected
    assert ends(decided.cancel(at=day(2)), through=day(12)) == expected


def test_a_period_that_was_cut_short_did_not_end() -> None:
    """The cancellation itself says so."""
    assert ends(agree(MONTHLY).cancel(at=day(2, 10)), through=day(12)) == [(day(2), ("item-0",))]
    quarterly_too = agree(MONTHLY, QUARTERLY).cancel_at_period_end(at=day(1, 10))
    assert ends(quarterly_too, through=day(12)) == [(day(2), ("item-0",))]


def test_nothing_ends_after_the_calendar() -> None:
    """The last period that ends in it is the last that is told."""
    start = datetime(2299, 10, 15, tzinfo=UTC)
    last = agree(MONTHLY, start=start).begin(at=start)
    assert len(ends(last, through=datetime(2300, 1, 1, tzinfo=UTC))) == 2
