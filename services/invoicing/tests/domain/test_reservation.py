"""The life of a reservation of credit: every verb in every state moves it, changes nothing, or raises."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from common.errors import SaldoError
from invoicing.domain.errors import (
    CreditReservationEnded,
    CreditReservationExceeded,
    CreditReservationExpired,
)
from invoicing.domain.reservation import Reservation, ReservationId, ReservationState

from .test_credit import NOW, eur

SECOND = timedelta(seconds=1)
OPEN = Reservation(
    id=ReservationId("cres_1"),
    customer_id="cus_1",
    amount=eur(100),
    committed=eur(0),
    state=ReservationState.OPEN,
    expire_time=NOW + SECOND,
    end_time=None,
    reference="",
    revision=1,
    create_time=NOW,
)


def in_state(state: ReservationState) -> Reservation:
    return OPEN if state is ReservationState.OPEN else replace(OPEN, state=state, end_time=NOW)


@pytest.mark.parametrize("amount", [1, 99, 100, None])
def test_as_much_as_was_reserved_can_be_used(amount: int | None) -> None:
    """All of it, unless something else is said."""
    told = None if amount is None else eur(amount)
    found = OPEN.commit(told, at=NOW)
    assert (found.state, found.committed) == (ReservationState.COMMITTED, told or eur(100))
    assert (found.end_time, found.revision) == (NOW, 2)
    assert found.is_committed_with(told)
    assert not found.is_committed_with(eur(2))


def test_more_than_was_reserved_cannot_be_used() -> None:
    """Nobody else could have known of it."""
    with pytest.raises(CreditReservationExceeded):
        OPEN.commit(eur(101), at=NOW)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (ReservationState.COMMITTED, CreditReservationEnded),
        (ReservationState.RELEASED, CreditReservationEnded),
        (ReservationState.EXPIRED, CreditReservationExpired),
    ],
)
def test_what_has_ended_is_not_used(state: ReservationState, error: type[SaldoError]) -> None:
    """The credit may be somebody else's by now."""
    with pytest.raises(error):
        in_state(state).commit(None, at=NOW)


def test_the_moment_it_expires_is_too_late() -> None:
    """Also before anybody looked."""
    with pytest.raises(CreditReservationExpired):
        OPEN.commit(None, at=NOW + SECOND)


def test_releasing_what_is_free_changes_nothing() -> None:
    """Only what was used cannot be let go of."""
    assert OPEN.release(at=NOW).state is ReservationState.RELEASED
    for state in (ReservationState.RELEASED, ReservationState.EXPIRED):
        assert in_state(state).release(at=NOW) == in_state(state)
    with pytest.raises(CreditReservationEnded):
        in_state(ReservationState.COMMITTED).release(at=NOW)


def test_only_what_is_open_and_over_expires() -> None:
    """Whoever comes too late finds it settled."""
    assert OPEN.expire(at=NOW) == OPEN
    assert OPEN.expire(at=NOW + SECOND).state is ReservationState.EXPIRED
    for state in (ReservationState.COMMITTED, ReservationState.RELEASED, ReservationState.EXPIRED):
        assert in_state(state).expire(at=NOW + SECOND) == in_state(state)
