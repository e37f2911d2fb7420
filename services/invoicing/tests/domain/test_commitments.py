"""What is missing to commitments: never more than was committed, and with what was spent exactly that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, exact_sum
from common.period import Period
from invoicing.domain.commitments import CommittedPeriod, spent_in, true_up_anew, true_ups_due
from invoicing.domain.line import Line, LineKind
from invoicing.domain.lines_due import Billed

from .test_coupons import line

JUNE = Period(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
MAY_AND_JUNE = Period(datetime(2026, 5, 2, tzinfo=UTC), JUNE.end)
FIRST_HALF = Period(JUNE.start, datetime(2026, 6, 16, tzinfo=UTC))


def committed(minor: int, *, period: Period = JUNE, share: Fraction = Fraction(1)) -> CommittedPeriod:
    return CommittedPeriod(
        subscription_id="sub_1",
        period=period,
        full_period=JUNE,
        proration=share,
        minimum=Money(minor, "EUR"),
        bill_time=period.end,
        time_zone="UTC",
    )


def due(commitment: CommittedPeriod, *spent: Line, billed: Billed | None = None) -> list[Line]:
    known = {} if billed is None else {commitment.key: billed}
    return [each.line for each in true_ups_due([commitment], spent, known)]


def test_what_is_missing_is_due_also_without_anything_spent() -> None:
    """The whole of it, or what the lines of that subscription leave."""
    [whole] = due(committed(50_00))
    assert (whole.amount.minor, whole.kind, whole.item_id) == (50_00, LineKind.TRUE_UP, "sub_1")
    [rest] = due(committed(50_00), line(30_00), line(-5_00), line(9_99, subscription="sub_2"))
    assert rest.amount.minor == 25_00
    assert due(committed(50_00), line(50_00)) == []
    assert due(committed(50_00), line(80_00)) == []


def test_a_share_of_a_period_and_of_a_line_is_rounded_once() -> None:
    """As Lago has it: 25 of 28 days of 10.00, less 8.00."""
    [share] = due(committed(10_00, share=Fraction(25, 28)), line(8_00))
    assert share.amount.minor == 93
    # A line of 60 days, half of them in June.
    assert spent_in(JUNE, "sub_1", [line(10_01, period=MAY_AND_JUNE)], zone="UTC") == Fraction(10_01, 2)
    [half] = due(committed(20_00, period=FIRST_HALF, share=Fraction(1, 2)), line(5_01))
    # 10.00 less half of 5.01
    assert half.amount.minor == 7_50


def test_days_are_those_of_the_subscription() -> None:
    """Whoever pays lives elsewhere, where that month has begun and ended on other days."""
    rest = Period(datetime(2026, 6, 11, 6, tzinfo=UTC), JUNE.end)
    commitment = committed(60_00, period=rest, share=Fraction(20, 30))
    [in_utc] = due(commitment, line(30_00, period=JUNE))
    assert (in_utc.amount.minor, in_utc.time_zone) == (40_00 - 20_00, "UTC")
    [in_new_york] = due(replace(commitment, time_zone="America/New_York"), line(30_00, period=JUNE))
    assert in_new_york.amount.minor == 40_00 - 19_00
    drafted = true_up_anew(in_new_york, [line(60_00, period=JUNE)], billed_elsewhere=None, zone="UTC")
    assert drafted.amount.minor == 40_00 - 38_00
    of_before = true_up_anew(
        replace(in_new_york, time_zone=""), [line(60_00, period=JUNE)], billed_elsewhere=None, zone="UTC"
    )
    assert of_before.amount.minor == 0


def test_what_was_billed_before_is_made_up_for() -> None:
    """Down when more was spent since, up when less; not at all while it stands on a draft."""
    [first] = due(committed(50_00), line(30_00))
    billed = Billed.of([(first, True)])
    assert due(committed(50_00), line(30_00), billed=billed) == []
    [less] = due(committed(50_00), line(45_00), billed=billed)
    assert (less.amount.minor, less.correction, less.description) == (-15_00, 1, "Minimum commitment – spent since")
    [more] = due(committed(50_00), line(20_00), billed=billed)
    assert (more.amount.minor, more.correction) == (10_00, 1)
    assert due(committed(50_00), line(45_00), billed=Billed.of([(first, False)])) == []


def test_on_a_draft_it_is_computed_anew() -> None:
    """With what was spent since, down to nothing."""
    [first] = due(committed(10_01, period=FIRST_HALF, share=Fraction(1, 2)), line(2_00, period=FIRST_HALF))
    again = true_up_anew(
        replace(first, id="line_1"), [line(3_00, period=FIRST_HALF)], billed_elsewhere=None, zone="UTC"
    )
    assert (again.id, again.amount.minor) == ("line_1", 2_01)
    filled = true_up_anew(first, [line(9_00, period=FIRST_HALF)], billed_elsewhere=None, zone="UTC")
    assert filled.amount.minor == 0


@given(st.integers(0, 100_000), st.lists(st.integers(0, 20_000), max_size=5), st.integers(1, 30))
def test_together_they_are_what_was_committed(minimum: int, spent: list[int], days: int) -> None:
    """Whatever was spent: to half a cent, and never more than nothing back."""
    commitment = committed(minimum, share=Fraction(days, 30))
    lines = [line(minor) for minor in spent]
    missing = sum(each.amount.minor for each in due(commitment, *lines))
    exact = minimum * Fraction(days, 30) - sum(spent)
    assert missing >= 0
    assert abs(missing - max(exact, Fraction(0))) <= Fraction(1, 2)
    for each in due(commitment, *lines):
        assert exact_sum(step.amount for step in each.steps) == each.exact_amount
        assert abs(each.exact_amount - each.amount.amount) <= Decimal("0.005")
