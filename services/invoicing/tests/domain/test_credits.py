"""What was billed in advance and is not wanted: taken off as far as invoices have room, and never more than once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, exact_sum
from common.period import Period
from invoicing.domain.consolidation import Bill, consolidate, credits_taken, left_waiting
from invoicing.domain.line import LineKey, LineKind
from invoicing.domain.lines_due import BillablePeriod, Billed, lines_due
from invoicing.domain.price import PerUnit, Price
from invoicing.domain.steps import StepKind

from .arrangements import NOTHING_DECLARED

JUNE = Period(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
JULY = Period(JUNE.end, datetime(2026, 8, 1, tzinfo=UTC))
HALF = Period(datetime(2026, 6, 16, tzinfo=UTC), JUNE.end)
SEAT_AMOUNT = Decimal("9.99")
SEAT = Price(id="seat", currency="EUR", model=PerUnit(unit_price=SEAT_AMOUNT), product="Seats", unit_label="seat")
PRICES = {SEAT.id: SEAT}


def period(
    quantity: str,
    *,
    of: Period = JUNE,
    full: Period = JUNE,
    share: Fraction = Fraction(1),
    kind: LineKind = LineKind.OWED,
    change_id: str = "",
    item: str = "subi_1",
) -> BillablePeriod:
    return BillablePeriod(
        subscription_id="sub_1",
        item_id=item,
        price_id=SEAT.id,
        quantity=Decimal(quantity),
        meter="",
        period=of,
        full_period=full,
        proration=share,
        bill_time=of.start,
        kind=kind,
        change_id=change_id,
    )


def credit(quantity: str, *, item: str = "subi_1", share: Fraction = Fraction(1, 2)) -> BillablePeriod:
    return period(quantity, of=HALF, share=share, kind=LineKind.CREDIT, change_id="chg_1", item=item)


def run(
    periods: Sequence[BillablePeriod], billed: dict[LineKey, Billed]
) -> tuple[list[Bill], list[datetime], dict[LineKey, Billed]]:
    """One bill run whose invoices are final at once: the bills, what waits, and what is billed after it."""
    due = lines_due(periods, PRICES, {}, billed, as_of=JULY.start, next_bill_time=None)
    bills = consolidate(due, NOTHING_DECLARED)
    after = dict(billed)
    for bill in bills:
        for line in bill.lines:
            before = after.get(line.key)
            amount = line.amount if before is None else before.amount + line.amount
            after[line.key] = Billed(amount=amount, usage=None, correction=line.correction, is_final=True)
    return bills, left_waiting(due, credits_taken(bills)), after


def test_a_credit_is_the_share_of_what_was_billed() -> None:
    """Half of five seats at 9.99 is 24.975, rounded as what was billed is: away from zero."""
    bills, waiting, _ = run([period("9", of=JULY, full=JULY), credit("5")], {})
    (bill,) = bills
    line = next(line for line in bill.lines if line.is_credit)
    assert line.amount == Money(-2498, "EUR")
    assert line.exact_amount == Decimal("-24.975")
    assert exact_sum(step.amount for step in line.steps) == line.exact_amount
    assert line.description == "Seats – unused"
    assert waiting == []


def test_a_credit_alone_waits_for_an_invoice() -> None:
    """Nobody is sent an invoice that owes them something."""
    bills, waiting, _ = run([credit("5")], {})
    assert bills == []
    assert waiting == [HALF.start]


def test_an_invoice_takes_as_much_of_a_credit_as_it_has_room_for() -> None:
    """And says what of it comes later; the next one goes on where it ended, and then nothing is left."""
    periods = [period("1", of=HALF, share=Fraction(1, 2), change_id="chg_1"), credit("5")]
    (first,), waiting, billed = run(periods, {})
    owed, taken = first.lines
    assert (owed.amount.minor, taken.amount.minor) == (500, -500)
    assert taken.steps[-1].kind is StepKind.CREDITED_LATER
    assert exact_sum(step.amount for step in taken.steps) == taken.exact_amount
    assert waiting == [HALF.start]

    (second,), waiting, billed = run([*periods, period("9", of=JULY, full=JULY)], billed)
    rest = next(line for line in second.lines if line.is_credit)
    assert rest.correction == 1
    assert rest.amount.minor == -2498 + 500
    assert exact_sum(step.amount for step in rest.steps) == rest.exact_amount
    assert waiting == []
    assert run([*periods, period("9", of=JULY, full=JULY)], billed)[:2] == ([], [])


def test_a_credit_and_what_replaces_it_are_two_lines_of_one_period() -> None:
    """The same price from the same moment on, twice: the key tells them apart."""
    periods = [period("5"), credit("5"), period("8", of=HALF, share=Fraction(1, 2), change_id="chg_1")]
    (bill,), _, _ = run(periods, {})
    assert len({line.key for line in bill.lines}) == 3
    assert sum(line.amount.minor for line in bill.lines) == 4995 - 2498 + 3996


@given(
    owed=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    credited=st.lists(st.tuples(st.integers(1, 30), st.fractions(0, 1)), max_size=6),
)
def test_nothing_is_credited_twice_and_nothing_is_lost(owed: list[int], credited: list[tuple[int, Fraction]]) -> None:
    """Whatever comes to be billed in however many runs: no invoice is negative, and all of a credit is taken off in the
    end, or there was not enough to take it off.
    """
    credits_due = [credit(str(units), item=f"subi_c{n}", share=share) for n, (units, share) in enumerate(credited)]
    due: list[BillablePeriod] = list(credits_due)
    billed: dict[LineKey, Billed] = {}
    total = 0
    for n, units in enumerate(owed):
        due.append(period(str(units), of=JULY, full=JULY, item=f"subi_{n}"))
        bills, waiting, billed = run(due, billed)
        for bill in bills:
            amount = sum(line.amount.minor for line in bill.lines)
            assert amount >= 0
            total += amount
            assert not (waiting and amount), "a credit waits although there was room"
    whole_owed = sum(Money.rounded(SEAT_AMOUNT * units, "EUR").minor for units in owed)
    whole_credit = sum(Money.rounded(Fraction(SEAT_AMOUNT) * units * share, "EUR").minor for units, share in credited)
    assert total == max(0, whole_owed - whole_credit)
