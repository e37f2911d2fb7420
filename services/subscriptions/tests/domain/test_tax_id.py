"""What becomes of a tax id, whatever its authority says, and when it says nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import TaxIdNotVerifiable
from subscriptions.domain.tax_id import WAITS, State, TaxId, TaxIdId, TaxNumber

START = datetime(2026, 1, 1, tzinfo=UTC)
TRIES = 8
answers = st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), max_size=30)


def added(kind: str = "EU_VAT") -> TaxId:
    number = TaxNumber(kind=kind, country="DK", value="DK13585628")
    return TaxId.added(TaxIdId("txid_1"), CustomerId("cus_1"), number, at=START)


def test_only_what_somebody_can_answer_is_pending() -> None:
    """A number that nobody verifies must not look as if an answer were on its way, nor as if it had been verified."""
    assert (added().state, added().next_try_time) == (State.PENDING, START)
    other = added("US_EIN")
    assert (other.state, other.next_try_time) == (State.UNVERIFIED, None)
    with pytest.raises(TaxIdNotVerifiable):
        other.check_verifiable()


@pytest.mark.parametrize(("is_valid", "state"), [(True, State.VALID), (False, State.INVALID)])
def test_an_answer_settles_it(is_valid: bool, state: State) -> None:
    """It is not asked about again by itself, and the tries begin anew should that be needed."""
    silent = added().unanswered(by_schedule=True, at=START)
    settled = silent.answered(is_valid=is_valid, at=START + timedelta(hours=1))
    assert (settled.state, settled.check_time, settled.next_try_time) == (state, START + timedelta(hours=1), None)
    assert (settled.tries, settled.revision) == (0, 3)


def test_silence_is_asked_again_less_and_less_often_and_then_no_more() -> None:
    """Eight tries within five days: an authority that is away for a weekend is waited for, one that is gone is not."""
    tax_id, at, asked = added(), START, 0
    while tax_id.next_try_time is not None:
        at, asked = tax_id.next_try_time, asked + 1
        tax_id = tax_id.unanswered(by_schedule=True, at=at)
    assert (asked, tax_id.state, tax_id.check_time) == (TRIES, State.UNAVAILABLE, None)
    assert timedelta(days=4) < at - START <= timedelta(days=5)
    assert list(WAITS) == sorted(WAITS)
    assert tax_id.revision == 2, "the first silence is news, the others are not"


def test_asking_by_hand_does_not_use_up_the_schedule() -> None:
    """Whoever is impatient during an outage must not end the waiting for it to end."""
    tax_id = added().unanswered(by_schedule=True, at=START)
    for _ in range(20):
        tax_id = tax_id.unanswered(by_schedule=False, at=START)
    assert (tax_id.tries, tax_id.next_try_time) == (1, START + WAITS[0])


@given(answers)
def test_only_an_authority_makes_a_number_valid_or_invalid(told: list[tuple[bool | None, bool]]) -> None:
    """Whatever happens in whatever order: the state is the last answer, or that there has been none."""
    tax_id, last = added(), None
    for n, (answer, by_schedule) in enumerate(told):
        at = START + timedelta(hours=n)
        before = tax_id.revision
        if answer is None:
            tax_id = tax_id.unanswered(by_schedule=by_schedule, at=at)
        else:
            tax_id, last = tax_id.answered(is_valid=answer, at=at), answer
        assert tax_id.revision in (before, before + 1)
    expected = {True: State.VALID, False: State.INVALID, None: State.UNAVAILABLE if told else State.PENDING}
    assert tax_id.state is expected[last]
    assert (tax_id.check_time is not None) == (last is not None)
