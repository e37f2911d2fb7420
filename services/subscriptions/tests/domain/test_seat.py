"""The life of a seat, and how many there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.period import Interval, Unit
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import ItemNotFound, ItemWithoutSeats, SeatNotAssigned, SeatNotInvited
from subscriptions.domain.seat import (
    EXPIRE_DAYS_DEFAULT,
    SEATS_MAX,
    RevokeReason,
    Seat,
    SeatId,
    State,
    seat_count,
    seat_counts,
    terms_with_seats,
)
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import BillingTiming, Item, ItemId, PlanId, PriceId, ProductId, SubscriptionId, Terms

JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
SEATS, CALLS = ItemId("seats"), ItemId("calls")


def day(n: int) -> datetime:
    return JAN_1 + timedelta(days=n)


def terms(quantity: Decimal | None) -> Terms:
    return Terms(
        plan_id=PlanId("plan"),
        price_id=PriceId("price"),
        product_id=ProductId("product"),
        interval=Interval(Unit.MONTH, 1),
        timing=BillingTiming.IN_ADVANCE if quantity is not None else BillingTiming.IN_ARREARS,
        meter="" if quantity is not None else "calls",
        quantity=quantity,
    )


def invited(*, expire_days: int = 3) -> Seat:
    return Seat.invited(
        SeatId("seat"),
        SubscriptionId("sub"),
        SEATS,
        holder="grace",
        email="grace@example.com",
        expire_days=expire_days,
        at=JAN_1,
    )


SUBSCRIPTION = Subscription.agree(
    id=SubscriptionId("sub"),
    customer_id=CustomerId("cus"),
    plan_id=PlanId("plan"),
    items=(Item(id=SEATS, terms=terms(Decimal("2.9"))), Item(id=CALLS, terms=terms(None))),
    currency="EUR",
    time_zone="UTC",
    start_time=JAN_1,
    billing_day=0,
    trial_days=0,
    at=JAN_1,
)


def test_an_invitation_is_claimed_before_it_expires() -> None:
    """In the very moment in which it expires it is too late, whether the job has come by or not."""
    seat = invited()
    claimed = seat.claim(at=day(3) - timedelta(microseconds=1))
    assert (claimed.state, claimed.email, claimed.expire_time, claimed.revision) == (State.CLAIMED, "", None, 2)
    with pytest.raises(SeatNotInvited) as refusal:
        seat.claim(at=day(3))
    assert refusal.value.metadata["state"] == "REVOKED"
    assert invited(expire_days=0).expire_time == day(EXPIRE_DAYS_DEFAULT)


@pytest.mark.parametrize("reason", RevokeReason)
def test_a_seat_is_revoked_once(reason: RevokeReason) -> None:
    """From either state, for good, and the mail address goes with it."""
    for seat in (invited(), invited().claim(at=day(1))):
        revoked = seat.revoke(reason, at=day(2))
        assert (revoked.state, revoked.revoke_reason, revoked.revoke_time) == (State.REVOKED, reason, day(2))
        assert (revoked.email, revoked.expire_time) == ("", None)
        with pytest.raises(SeatNotAssigned):
            revoked.revoke(RevokeReason.REQUESTED, at=day(3))
        with pytest.raises(SeatNotInvited):
            revoked.claim(at=day(2))


def test_a_claimed_seat_is_not_claimed_again() -> None:
    """Not even by the same holder: the token is used up."""
    with pytest.raises(SeatNotInvited) as refusal:
        invited().claim(at=day(1)).claim(at=day(1))
    assert refusal.value.metadata["state"] == "CLAIMED"


def test_an_item_has_as_many_seats_as_whole_units() -> None:
    """Nobody sits on nine tenths of a seat, and usage has none."""
    assert seat_counts(SUBSCRIPTION, at=JAN_1) == {SEATS: 2, CALLS: 0}
    assert seat_count(None) == 0
    assert terms_with_seats(SUBSCRIPTION, SEATS, at=JAN_1).quantity == Decimal("2.9")
    with pytest.raises(ItemWithoutSeats):
        terms_with_seats(SUBSCRIPTION, CALLS, at=JAN_1)
    with pytest.raises(ItemNotFound):
        terms_with_seats(SUBSCRIPTION, ItemId("other"), at=JAN_1)


@given(st.decimals(0, 10**12, places=12))
def test_seats_are_never_more_than_the_quantity(quantity: Decimal) -> None:
    """At most one less, up to the limit of an item."""
    count = seat_count(terms(quantity))
    assert count <= quantity
    assert count > quantity - 1 or count == SEATS_MAX
