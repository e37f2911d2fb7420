"""Which coupons apply to which periods."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from services.subscriptions.tests.agreed import (
    ADVANCE,
    ARREARS,
    CREDIT,
    DAILY,
    KEEP,
    MICROSECOND,
    YEARLY,
    agree,
    at,
    change,
    due,
    paused,
    scheduled,
    terms,
)
from subscriptions.domain.billable_periods import Kind
from subscriptions.domain.change import ApplyDiscount, Change, Proration, RemoveDiscount, SetPrice, SetQuantity, Unused
from subscriptions.domain.errors import DiscountNotApplied
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import NO_CHANGE, BillingTiming, ChangeId, CouponId, Item, ItemId, PriceId

X, Y = CouponId("x"), CouponId("y")
SEATS = ItemId("item-0")


def with_coupon(subscription: Subscription, periods: int, coupon: CouponId = X) -> Subscription:
    """Agreed with the subscription itself."""
    applied = Change(
        id=ChangeId(f"agreed {coupon}"),
        recorded_time=subscription.opening.recorded_time,
        effective_time=subscription.opening.start_time,
        actions=(ApplyDiscount(coupon, periods),),
        proration=Proration.BY_DAY,
        unused=Unused.CREDIT,
        decided_with=NO_CHANGE,
    )
    return replace(subscription, changes=(*subscription.changes, applied))


def apply(
    subscription: Subscription, periods: int, *, on: str, coupon: CouponId = X, effective: str | datetime | None = None
) -> Subscription:
    decision = CREDIT if effective is None else scheduled(effective)
    return change(subscription, ApplyDiscount(coupon, periods), on=on, decision=decision)


def reduced(subscription: Subscription, *, through: str, price: str = "seats") -> list[str]:
    """When the periods begin that coupon X applies to."""
    return [
        each.period.start.strftime("%m-%d")
        for each in due(subscription, through=through).periods
        if each.terms.price_id == PriceId(price) and X in each.coupon_ids
    ]


@pytest.mark.parametrize("trial_days", [0, 14, 45])
def test_what_is_agreed_from_the_start_counts_periods_that_are_billed(trial_days: int) -> None:
    """Two of them, also after a trial of whatever length, and however it is billed."""
    both = agree(terms("seats"), terms("calls", None, timing=ARREARS), trial_days=trial_days)
    agreed = with_coupon(both, 2)
    starts = [each.period.start for each in due(agreed, through="12-31").periods if X in each.coupon_ids]
    assert len(starts) == 4
    assert min(starts) == agreed.timeline.billed_from


def test_a_first_part_counts_as_a_period() -> None:
    """It is the first that is billed: 10 January to 1 February, then February."""
    assert reduced(with_coupon(agree(start="01-10", day=1), 2), through="06-01") == ["01-10", "02-01"]


@pytest.mark.parametrize(
    ("on", "left"),
    [
        ("2025-11-15", 3),
        ("2025-12-31", 3),
        ("01-01", 2),
        ("01-31", 2),
        ("02-01", 1),
        ("2026-02-28T23:59", 1),
        ("03-01", 0),
        ("2026-03-31T23:59", 0),
        ("12-31", 0),
    ],
)
def test_what_is_left_are_the_periods_that_have_not_begun(on: str, left: int) -> None:
    """Three from January on: the one that begins at that very instant is used."""
    agreed = with_coupon(agree(known="2025-11-01"), 3)
    [discount] = agreed.timeline.discounts
    assert agreed.discount_left(discount, at(on)) == left
    assert reduced(agreed, through="12-31") == ["01-01", "02-01", "03-01"]


@pytest.mark.parametrize(("timing", "left"), [(ADVANCE, [2, 2, 1, 0, 0]), (ARREARS, [1, 1, 0, 0, 0])])
def test_what_is_left_begins_with_what_is_not_billed_yet(timing: BillingTiming, left: list[int]) -> None:
    """Applied in the middle of January, in advance for February and March, in arrears for January and February."""
    applied = apply(agree(terms(timing=timing)), 2, on="01-10")
    [discount] = applied.timeline.discounts
    days = ["01-10", "01-31", "02-01", "03-01", "04-01"]
    assert [applied.discount_left(discount, at(day)) for day in days] == left
    end = applied.discount_end(discount)
    assert end is not None
    assert applied.discount_left(discount, end - MICROSECOND) == 0


def test_what_is_left_goes_by_pauses_and_parts() -> None:
    """A first part is a period like any other, and one that is paused has begun all the same."""
    agreed = with_coupon(agree(start="01-10", day=1), 3)
    [discount] = agreed.timeline.discounts
    assert [agreed.discount_left(discount, at(day)) for day in ("01-10", "02-01", "03-01")] == [2, 1, 0]
    away = paused(agreed, on="01-15")
    assert [away.discount_left(discount, at(day)) for day in ("01-10", "02-01", "03-01")] == [2, 1, 0]


def test_nothing_is_left_of_what_has_no_number() -> None:
    """For ever has none, nor is anything counted where nothing recurs."""
    for agreed in (with_coupon(agree(), 0), with_coupon(agree(terms(interval=None)), 2)):
        [discount] = agreed.timeline.discounts
        assert agreed.discount_left(discount, at("06-01")) is None


def test_no_number_of_periods_means_for_ever() -> None:
    """Until it is taken off; the period under way is reduced to its end."""
    agreed = with_coupon(agree(), 0)
    assert reduced(agreed, through="04-30") == ["01-01", "02-01", "03-01", "04-01"]
    removed = change(agreed, RemoveDiscount(X), on="02-10")
    assert reduced(removed, through="04-30") == ["01-01", "02-01"]


def test_later_it_applies_to_what_is_not_billed_yet() -> None:
    """In advance that is the next period, in arrears the one under way."""
    both = agree(terms("seats"), terms("calls", None, timing=ARREARS))
    applied = apply(both, 1, on="01-10")
    assert reduced(applied, through="04-30") == ["02-01"]
    assert reduced(applied, through="04-30", price="calls") == ["01-01"]


def test_what_was_billed_is_not_reduced_afterwards() -> None:
    """Said on the 10th for the 1st, or at the very instant of the bill: the next period is the first of the two."""
    for applied in (
        apply(agree(), 2, on="02-10", effective="02-01"),
        apply(agree(), 2, on="02-01"),
    ):
        assert reduced(applied, through="06-01") == ["03-01", "04-01"]


def test_scheduled_for_a_boundary_it_applies_to_what_begins_there() -> None:
    """It was known when that was billed; a moment later in effect, it is for the period after."""
    assert reduced(apply(agree(), 1, on="01-10", effective="02-01"), through="06-01") == ["02-01"]
    late = apply(agree(), 1, on="01-10", effective=at("02-01") + MICROSECOND)
    assert reduced(late, through="06-01") == ["03-01"]


def test_taking_it_off_takes_nothing_back() -> None:
    """Also at the very instant of a bill that had it, and for a time before that."""
    agreed = with_coupon(agree(), 0)
    for removed in (
        change(agreed, RemoveDiscount(X), on="02-01"),
        change(agreed, RemoveDiscount(X), on="02-10", decision=scheduled("02-01")),
    ):
        assert reduced(removed, through="06-01") == ["01-01", "02-01"]


def test_a_credit_has_the_coupons_of_what_is_credited() -> None:
    """What was billed without it is given back without it, and the other way round."""
    before = apply(agree(terms("seats", 5)), 0, on="01-10")
    after = change(with_coupon(agree(terms("seats", 5)), 0), RemoveDiscount(X), on="01-01", decision=KEEP)
    for subscription, expected in ((before, ()), (after, (X,))):
        changed = change(subscription, SetQuantity(SEATS, Decimal(2)), on="01-15")
        [credit] = [each for each in due(changed, through="01-31").periods if each.kind is Kind.CREDIT]
        assert credit.coupon_ids == expected


def test_applied_again_it_counts_anew_and_is_listed_once() -> None:
    """Two more from February on; what is under way in arrears has it from before and from now."""
    both = agree(terms("seats"), terms("calls", None, timing=ARREARS))
    again = apply(with_coupon(both, 2), 2, on="01-10")
    assert reduced(again, through="06-01") == ["01-01", "02-01", "03-01"]
    [january] = [each for each in due(again, through="02-01").periods if each.terms.price_id == "calls"]
    assert january.coupon_ids == (X,)


def test_several_are_listed_as_they_were_applied() -> None:
    """Invoicing takes them off in this order."""
    two = with_coupon(with_coupon(agree(), 0, Y), 0, X)
    assert [each.coupon_ids for each in due(two, through="01-01").periods] == [(Y, X)]


def test_what_is_billed_once_is_reduced_if_it_comes_after_the_coupon() -> None:
    """It has no periods to count."""
    agreed = with_coupon(agree(terms("setup", interval=None), terms("seats")), 1)
    assert reduced(agreed, through="12-31", price="setup") == ["01-01"]
    late = apply(agree(terms("setup", interval=None), terms("seats")), 1, on="01-10")
    assert reduced(late, through="12-31", price="setup") == []


def test_a_coupon_that_is_not_applied_is_not_taken_off() -> None:
    """By name."""
    with pytest.raises(DiscountNotApplied) as refusal:
        change(agree(), RemoveDiscount(X), on="01-10")
    assert refusal.value.metadata == {"coupon": "x"}


def test_the_end_of_a_discount_is_that_of_its_last_period() -> None:
    """Of the first item that has periods; for ever has none, and taken off it ends then."""
    for subscription, expected in (
        (with_coupon(agree(terms("setup", interval=None), terms("seats")), 3), "04-01"),
        (with_coupon(agree(trial_days=14), 3), "04-15"),
        (apply(agree(), 2, on="01-10"), "04-01"),
        (with_coupon(agree(terms("seats", interval=YEARLY)), 1), "2027-01-01"),
        (change(with_coupon(agree(), 3), RemoveDiscount(X), on="01-10"), "01-10"),
        (with_coupon(agree(terms("setup", interval=None)), 3), None),
        (with_coupon(agree(), 0), None),
    ):
        [discount] = subscription.timeline.discounts
        assert subscription.discount_end(discount) == (None if expected is None else at(expected))


def test_each_item_counts_its_own_periods() -> None:
    """Three days of the one, three months of the other."""
    agreed = with_coupon(agree(terms("seats"), terms("days", interval=DAILY)), 3)
    assert reduced(agreed, through="12-31") == ["01-01", "02-01", "03-01"]
    assert reduced(agreed, through="12-31", price="days") == ["01-01", "01-02", "01-03"]


def test_a_new_price_in_a_reduced_period_is_reduced() -> None:
    """The coupon is on the subscription, not on the price: both of what is given back and what is owed."""
    upgraded = change(with_coupon(agree(), 1), SetPrice(SEATS, terms("gold")), on="01-10")
    upgraded = change(upgraded, SetQuantity(SEATS, Decimal(2)), on="01-20")
    assert [each.coupon_ids for each in due(upgraded, through="02-01").periods] == [(X,)] * 5 + [()]
    assert Item(id=SEATS, terms=terms("gold")).terms == upgraded.as_of(at("01-10")).items[SEATS]
