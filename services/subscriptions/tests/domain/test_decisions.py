"""Decisions about a subscription: from when on they hold, which of them stand in each other's way, and how many fit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from common.errors import InvalidArgument, SaldoError
from common.money import Money
from common.period import LATEST
from services.subscriptions.tests.agreed import (
    AT_PERIOD_END,
    DAILY,
    MICROSECOND,
    agree,
    at,
    cancelled,
    change,
    next_change,
    paused,
    resumed,
    scheduled,
    terms,
)
from services.subscriptions.tests.domain.test_subscription import SEATS, quantity, state
from subscriptions.domain import errors, verbs
from subscriptions.domain.change import (
    CHANGES_MAX,
    AddItem,
    Commitment,
    End,
    RemoveItem,
    SetBillingDay,
    SetCommitment,
    SetQuantity,
    Timing,
)
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Decision
from subscriptions.domain.terms import ITEMS_MAX, Item, ItemId


def test_what_was_to_come_after_the_end_does_not_come() -> None:
    """And nothing new can be decided for after it."""
    planned = change(agree(), quantity(5), on="01-10", decision=scheduled("03-01"))
    decided = cancelled(planned, on="01-15", decision=AT_PERIOD_END)
    assert decided.changes[0].revoked_time == at("01-15")
    with pytest.raises(errors.ChangeAfterEnd):
        change(decided, quantity(5), on="01-20", decision=scheduled("02-01"))
    assert change(decided, quantity(5), on="01-20", decision=scheduled(at("02-01") - MICROSECOND)).end == at("02-01")


def test_two_calls_at_once_are_taken_one_after_the_other() -> None:
    """A call takes its time before it waits for its turn: a pause may have been asked for before service resumed."""
    resumption = resumed(paused(agree(), on="01-10"), on="01-20")
    late = paused(resumption, on="01-15")
    assert (late.changes[-1].recorded_time, late.changes[-1].effective_time) == (at("01-20"), at("01-20"))
    assert state(resumed(late, on="01-15"), "01-20") is State.ACTIVE
    changed = change(change(agree(), quantity(5), on="01-20"), quantity(7), on="01-15")
    assert changed.as_of(at("01-20")).items[SEATS].quantity == 7
    with pytest.raises(errors.SubscriptionCancelled):
        cancelled(cancelled(agree(), on="01-20"), on="01-15")


def test_a_change_reaches_back_to_the_periods_under_way_and_the_last_change() -> None:
    """What was before is billed, and what was decided last stays decided."""
    both = agree(terms("a"), terms("b", interval=DAILY))
    assert both.earliest_change(at("2026-02-10T12:00")) == at("02-10")
    monthly = change(agree(), quantity(2), on="02-05")
    assert monthly.earliest_change(at("02-10")) == at("02-05")
    with pytest.raises(errors.ChangeTooEarly) as refusal:
        change(monthly, quantity(3), on="02-10", decision=scheduled(at("02-05") - MICROSECOND))
    assert refusal.value.metadata["earliest_time"] == at("02-05").isoformat()
    corrected = change(monthly, quantity(3), on="02-10", decision=scheduled("02-05"))
    assert corrected.changes[-1].effective_time == at("02-05")


@pytest.mark.parametrize("effective", [None, LATEST, datetime(1969, 12, 31, tzinfo=UTC)])
def test_a_time_must_be_given_and_lie_in_the_calendar(effective: datetime | None) -> None:
    """For the timing that needs one."""
    with pytest.raises(InvalidArgument) as refusal:
        change(agree(), quantity(2), on="01-10", decision=Decision(timing=Timing.AT_TIME, effective_time=effective))
    assert refusal.value.field == "effective_time"


def test_a_change_that_makes_a_later_one_impossible_is_refused() -> None:
    """By the name of the later one, which can be revoked."""
    extra = Item(id=ItemId("extra"), terms=terms("extra"))
    planned = change(
        change(agree(), AddItem(extra), on="01-05"),
        SetQuantity(extra.id, Decimal(4)),
        on="01-06",
        decision=scheduled("02-10"),
    )
    with pytest.raises(errors.ChangeConflicts) as refusal:
        change(planned, RemoveItem(extra.id), on="01-10")
    assert refusal.value.metadata == {"subscription": "sub", "change": planned.changes[-1].id}
    freed = verbs.revoke(planned, planned.changes[-1].id, at=at("01-10"))
    assert list(change(freed, RemoveItem(extra.id), on="01-10").as_of(at("01-10")).items) == [SEATS]


def test_what_another_change_stands_on_is_not_revoked() -> None:
    """First the one that came after."""
    extra = Item(id=ItemId("extra"), terms=terms("extra"))
    planned = change(agree(), AddItem(extra), on="01-05", decision=scheduled("02-01"))
    planned = change(planned, RemoveItem(extra.id), on="01-06", decision=scheduled("02-10"))
    with pytest.raises(errors.ChangeConflicts):
        verbs.revoke(planned, planned.changes[0].id, at=at("01-10"))


def test_only_what_is_scheduled_is_revoked() -> None:
    """What has happened has happened, and what is not there cannot be taken back."""
    changed = change(agree(), quantity(2), on="01-10")
    with pytest.raises(errors.ChangeNotScheduled):
        verbs.revoke(changed, changed.changes[-1].id, at=at("01-10"))
    with pytest.raises(errors.ChangeNotFound):
        verbs.revoke(changed, next_change(changed), at=at("01-10"))
    planned = change(agree(), quantity(2), on="01-10", decision=scheduled("02-01"))
    revoked = verbs.revoke(planned, planned.changes[-1].id, at=at("01-11"))
    with pytest.raises(errors.ChangeNotScheduled):
        verbs.revoke(revoked, revoked.changes[-1].id, at=at("01-12"))


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (RemoveItem(SEATS), errors.NoItemsLeft),
        (RemoveItem(ItemId("stranger")), errors.ItemNotFound),
        (SetQuantity(ItemId("stranger"), Decimal(1)), errors.ItemNotFound),
        (SetCommitment(Commitment(minimum=Money(100, "USD"), months=1)), InvalidArgument),
        (SetBillingDay(32), InvalidArgument),
    ],
)
def test_a_change_that_cannot_be_is_refused(action: RemoveItem, reason: type[SaldoError]) -> None:
    """By name, and nothing of it is kept."""
    with pytest.raises(reason):
        change(agree(), quantity(2), action, on="01-10")


def test_items_are_limited_at_any_time() -> None:
    """Everything that is read together has a limit."""
    many = [AddItem(Item(id=ItemId(f"extra-{n}"), terms=terms())) for n in range(ITEMS_MAX)]
    with pytest.raises(errors.TooManyItems):
        change(agree(), *many, on="01-10")
    assert len(change(agree(), *many[1:], on="01-10").as_of(at("01-10")).items) == ITEMS_MAX


def test_changes_are_limited_but_it_can_be_cancelled() -> None:
    """Nobody is held by a limit of ours."""
    first = change(agree(), quantity(2), on="01-10").changes[0]
    worn = replace(agree(), changes=(first,) * CHANGES_MAX)
    with pytest.raises(errors.TooManyChanges):
        change(worn, quantity(3), on="01-11")
    assert state(cancelled(worn, on="01-11"), "01-11") is State.CANCELLED


def test_what_was_known_then_can_be_asked_for() -> None:
    """An end that was decided and revoked, at each of three moments; before it was agreed there was nothing."""
    decided = cancelled(agree(known="01-01"), on="01-10", decision=AT_PERIOD_END)
    revoked = verbs.revoke_cancellation(decided, new_id=lambda: next_change(decided), at=at("01-20"))
    ends = [known.end for on in ("01-05", "01-15", "01-25") if (known := revoked.as_known(at(on))) is not None]
    assert ends == [None, at("02-01"), None]
    assert revoked.as_known(at("01-01") - MICROSECOND) is None


def test_what_a_cancellation_took_back_comes_again_with_its_revocation() -> None:
    """Whoever changes their mind about leaving has not changed their mind about the ramp that was agreed."""
    before = agree()
    (item_id,) = before.as_of(at("01-05")).items
    ramp = change(before, SetQuantity(item_id, Decimal(5)), on="01-05", decision=scheduled("03-01"))
    ended = cancelled(ramp, on="01-10", decision=AT_PERIOD_END)
    (only,) = ended.scheduled(at("01-10"))
    assert only.has(End)
    going_on = verbs.revoke_cancellation(ended, new_id=lambda: next_change(ended), at=at("01-12"))
    (again,) = going_on.scheduled(at("01-12"))
    assert (again.effective_time, again.recorded_time) == (at("03-01"), at("01-12"))
    assert going_on.as_of(at("03-02")).items[item_id].quantity == 5
