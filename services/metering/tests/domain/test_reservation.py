"""A reservation of quota: open once, ended once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument
from metering.domain.errors import QuotaNotReservable, QuotaReservationEnded, QuotaReservationExpired
from metering.domain.filter import DimensionMatch, EventFilter
from metering.domain.meter import Aggregation, Definition
from metering.domain.reservation import Found, Reservation, ReservationId, State, Turn, check_reservable

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
EU: Final = DimensionMatch(dimension="region", values=("eu",))
MINUTE: Final = timedelta(minutes=1)
MICROSECOND: Final = timedelta(microseconds=1)
OPEN: Final = Reservation(
    id=ReservationId("qres_1"),
    customer_id="cus_1",
    feature="calls",
    meter="calls",
    quantity=Decimal(5),
    found=Found(granted=None, period=None, through_position=0, names=("cus_1",)),
    number=1,
    state=State.OPEN,
    create_time=NOW,
    expire_time=NOW + MINUTE,
    dimensions={},
)


def turn(at: datetime) -> Turn:
    return Turn(number=7, time=at)


def commit(reservation: Reservation, at: datetime = NOW, quantity: int | None = None, **told: str) -> Reservation:
    return reservation.commit(None if quantity is None else Decimal(quantity), told, at=at, turn=turn(at))


def test_time_ends_a_reservation_to_the_microsecond() -> None:
    """Whoever comes after may have what it had set aside, and not an instant before."""
    assert OPEN.as_of(OPEN.expire_time - MICROSECOND) is OPEN
    expired = OPEN.as_of(OPEN.expire_time)
    assert (expired.state, expired.end_time) == (State.EXPIRED, OPEN.expire_time)
    assert commit(OPEN, OPEN.expire_time - MICROSECOND).state is State.COMMITTING
    with pytest.raises(QuotaReservationExpired):
        commit(OPEN, OPEN.expire_time)


def test_the_latest_clock_decides() -> None:
    """Somebody whose clock is ahead may have been given what expired; one whose clock is behind must not commit it."""
    with pytest.raises(QuotaReservationExpired):
        OPEN.commit(None, {}, at=NOW, turn=turn(OPEN.expire_time))
    assert OPEN.release(at=NOW, turn=turn(OPEN.expire_time)).state is State.EXPIRED


def test_what_is_being_committed_does_not_expire() -> None:
    """The work was done in time."""
    begun = commit(OPEN, quantity=3, region="eu")
    assert begun.as_of(OPEN.expire_time + MINUTE) is begun
    assert (begun.committed_quantity, begun.commit_time, begun.dimensions) == (Decimal(3), NOW, {"region": "eu"})


def test_a_commit_is_repeated_and_not_changed() -> None:
    """The usage event is stored once; another quantity would say something else than it."""
    begun = commit(OPEN, quantity=3)
    done = begun.committed(at=NOW, turn=turn(NOW))
    assert (done.state, done.end_number) == (State.COMMITTED, 7)
    for each in (begun, done):
        assert commit(each, OPEN.expire_time + MINUTE, quantity=3) is each
        for quantity, told in ((4, {}), (None, {}), (3, {"region": "eu"})):
            with pytest.raises(QuotaReservationEnded):
                commit(each, NOW, quantity, **told)
        with pytest.raises(QuotaReservationEnded):
            each.release(at=NOW, turn=turn(NOW))
    assert done.committed(at=NOW + MINUTE, turn=turn(NOW)) is done


def test_no_more_is_used_than_was_reserved() -> None:
    """The rest would be nobody's to give."""
    with pytest.raises(InvalidArgument, match="at most 5"):
        commit(OPEN, quantity=6)


def test_what_was_released_is_not_committed() -> None:
    """Others may have it; and to release it once more changes nothing."""
    released = OPEN.release(at=NOW, turn=turn(NOW))
    assert released.state is State.RELEASED
    assert released.release(at=NOW + MINUTE, turn=turn(NOW)) == released
    with pytest.raises(QuotaReservationEnded):
        commit(released)


STEPS: Final[tuple[Callable[[Reservation, datetime], Reservation], ...]] = (
    lambda each, at: commit(each, at),
    lambda each, at: each.committed(at=at, turn=turn(at)),
    lambda each, at: each.release(at=at, turn=turn(at)),
    lambda each, at: each.as_of(at),
)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 30)), max_size=12))
def test_a_reservation_ends_once(steps: list[tuple[Callable[[Reservation, datetime], Reservation], int]]) -> None:
    """Whatever is tried in whatever order: what has ended stays as it ended."""
    reservation, at = OPEN, NOW
    for step, seconds in steps:
        at += timedelta(seconds=seconds)
        ended = reservation.state in (State.COMMITTED, State.RELEASED, State.EXPIRED)
        try:
            after = step(reservation, at)
        except (QuotaReservationEnded, QuotaReservationExpired):
            after = reservation
        assert after == reservation or not ended
        reservation = after
    assert (reservation.end_time is None) == (reservation.state in (State.OPEN, State.COMMITTING))
    assert (reservation.commit_time is None) == (reservation.state not in (State.COMMITTING, State.COMMITTED))


@pytest.mark.parametrize("changes", [{}, {"carries_over": True}])
def test_a_sum_is_reservable(changes: dict[str, Any]) -> None:  # Any: fields of a definition
    """Its quantity becomes more by the value of the usage event, over periods or not."""
    check_reservable("calls", Definition(aggregation=Aggregation.SUM, **changes), Decimal("2.5"))
    check_reservable("calls", Definition(aggregation=Aggregation.COUNT), Decimal(1))


@pytest.mark.parametrize(
    ("of", "quantity"),
    [
        (Definition(aggregation=Aggregation.COUNT), 2),
        (Definition(aggregation=Aggregation.MAX), 1),
        (Definition(aggregation=Aggregation.LATEST), 1),
        (Definition(aggregation=Aggregation.UNIQUE_COUNT, unique_dimension="host"), 1),
        (Definition(aggregation=Aggregation.SUM, value_expression="value * 2"), 1),
        (Definition(aggregation=Aggregation.SUM, filter=EventFilter(match=(EU,))), 1),
    ],
)
def test_what_counts_otherwise_is_not_reservable(of: Definition, quantity: int) -> None:
    """What was set aside and what comes of it would be two figures."""
    with pytest.raises(QuotaNotReservable):
        check_reservable("calls", of, Decimal(quantity))
