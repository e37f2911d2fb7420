"""What is to be billed, minus what is already billed: examples, and what always holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, exact_sum, sum_money
from common.period import Interval, Period, Unit, day_fraction, periods_between
from invoicing.domain import lines_due as module
from invoicing.domain.consolidation import consolidate
from invoicing.domain.errors import TooManyLines
from invoicing.domain.line import Line, LineKey, Usage, usage_to_rate
from invoicing.domain.lines_due import (
    CORRECTION_WINDOW,
    BillablePeriod,
    Billed,
    Due,
    UsageKey,
    lines_due,
    recomputed,
)
from invoicing.domain.next_look import LAST_LOOK, next_look
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Operators,
    Percentage,
    PerUnit,
    Price,
    Size,
    Tier,
)
from invoicing.domain.rating import rate
from invoicing.domain.steps import StepKind
from invoicing.domain.usage import MeterQuantity, UsageGroup, UsageToRate

from .arrangements import NOTHING_DECLARED

LONDON = "Europe/London"
JAN, FEB, MAR, APR, MAY = periods_between(
    datetime(2026, 1, 1, tzinfo=UTC),
    LONDON,
    Interval(Unit.MONTH, 1),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 5, 2, tzinfo=UTC),
    limit=5,
)
PRICES = {
    "seat": Price(
        id="seat", currency="GBP", model=PerUnit(unit_price=Decimal("9.50")), product="Seats", unit_label="seat"
    ),
    "contract": Price(
        id="contract", currency="GBP", model=Flat(amount=Decimal("24.90")), product="Contract", unit_label=""
    ),
    "kwh": Price(
        id="kwh", currency="GBP", model=PerUnit(unit_price=Decimal("0.14228")), product="Electricity", unit_label="kWh"
    ),
    "calls": Price(
        id="calls",
        currency="GBP",
        model=Graduated(
            tiers=(
                Tier(up_to=Decimal(100), unit_price=Decimal("0.067")),
                Tier(up_to=None, unit_price=Decimal("0.033"), flat_amount=Decimal(3)),
            )
        ),
        product="Calls",
        unit_label="call",
    ),
    "support": Price(
        id="support",
        currency="GBP",
        model=PerUnit(unit_price=Decimal(5)),
        product="Support",
        unit_label="seat",
        operators=Operators(minimum_amount=Decimal(31)),
    ),
    "usd": Price(id="usd", currency="USD", model=Flat(amount=Decimal(5)), product="Abroad", unit_label=""),
}


def licensed(price: str, period: Period, *, full: Period | None = None, quantity: str = "1") -> BillablePeriod:
    full = full or period
    return BillablePeriod(
        subscription_id="sub_1",
        item_id=f"item_{price}",
        price_id=price,
        quantity=Decimal(quantity),
        meter="",
        period=period,
        full_period=full,
        proration=day_fraction(period, full, LONDON),
        bill_time=period.start,
    )


def metered(price: str, period: Period, *, full: Period | None = None) -> BillablePeriod:
    full = full or period
    return BillablePeriod(
        subscription_id="sub_1",
        item_id=f"item_{price}",
        price_id=price,
        quantity=None,
        meter=price,
        period=period,
        full_period=full,
        proration=day_fraction(period, full, LONDON),
        bill_time=period.end,
    )


def counted(quantity: str | int | Decimal, *, meter: str = "kwh", position: int = 1) -> Usage:
    return Usage(
        meter=meter,
        quantity=Decimal(quantity),
        event_count=1,
        digest=f"digest of {Decimal(quantity).normalize()}",
        through_position=position,
    )


def usage_of(periods: Iterable[BillablePeriod], usage: Usage) -> dict[UsageKey, Usage]:
    return {UsageKey(each.meter, each.period): replace(usage, meter=each.meter) for each in periods if each.meter}


def due(
    periods: Sequence[BillablePeriod],
    usage: dict[UsageKey, Usage] | None = None,
    billed: dict[LineKey, Billed] | None = None,
    *,
    as_of: datetime = MAY.end,
    next_bill_time: datetime | None = None,
) -> list[Due]:
    return lines_due(periods, PRICES, usage or {}, billed or {}, as_of=as_of, next_bill_time=next_bill_time)


def billed(lines: Iterable[Line], *, final: bool = True) -> dict[LineKey, Billed]:
    by_key: dict[LineKey, list[tuple[Line, bool]]] = {}
    for line in lines:
        by_key.setdefault(line.key, []).append((line, final))
    return {key: Billed.of(found) for key, found in by_key.items()}


def test_seats_in_advance_and_usage_in_arrears_are_due_on_the_same_day() -> None:
    """The first of the month: the month that ended, by its usage, and the month that begins, by its seats."""
    periods = [metered("kwh", MAR), licensed("seat", APR, quantity="12")]
    assert MAR.end == APR.start == datetime(2026, 3, 31, 23, tzinfo=UTC)  # the clocks went forward in between
    found = due(periods, usage_of(periods, counted("412.537")))
    assert [(each.line.description, each.line.amount) for each in found] == [
        ("Electricity", Money(58_70, "GBP")),
        ("Seats", Money(114_00, "GBP")),
    ]
    [bill] = consolidate(found, NOTHING_DECLARED)
    assert bill.bill_time == APR.start
    assert len(bill.lines) == 2


def test_a_contract_from_mid_month_costs_its_days() -> None:
    """17 of 31 civil days of March, although one of them has 23 hours; rounded once."""
    rest = Period(datetime(2026, 3, 15, tzinfo=UTC), MAR.end)
    [found] = due([licensed("contract", rest, full=MAR)])
    line = found.line
    assert line.proration == Fraction(17, 31)
    assert line.amount == Money(13_65, "GBP")  # 13.6548…
    assert [step.description for step in line.steps] == ["Fixed price", "17/31 of the full period"]
    assert exact_sum(step.amount for step in line.steps) == line.exact_amount
    assert Money.rounded(line.exact_amount, "GBP") == line.amount


def test_a_share_is_written_with_36_decimals_and_told_as_one() -> None:
    """24.90 × 17/31 has no last decimal; what is written is enough for anybody, and what is billed is exact."""
    rest = Period(datetime(2026, 3, 15, tzinfo=UTC), MAR.end)
    [found] = due([licensed("contract", rest, full=MAR)])
    taken_off = found.line.steps[-1]
    assert taken_off.kind is StepKind.PRORATION
    assert abs(Fraction(found.line.exact_amount) - Fraction("24.90") * 17 / 31) <= Fraction(1, 2 * 10**36)
    assert found.line.exact_amount.as_tuple().exponent == -36


def test_the_minimum_is_that_of_a_whole_period() -> None:
    """One seat at 5 is raised to 31; 17 of 31 days of that are 17, and not the 31 again."""
    rest = Period(datetime(2026, 3, 15, tzinfo=UTC), MAR.end)
    [found] = due([licensed("support", rest, full=MAR)])
    assert found.line.amount == Money(17_00, "GBP")
    assert [step.amount for step in found.line.steps] == [5, 26, -14]


VALUES = (Decimal(40), Decimal(60))
GROUPS = (UsageGroup(dimensions={"region": "eu"}, quantity=Decimal(100)),)


@pytest.mark.parametrize(
    ("model", "amount"),
    [
        (Percentage(percent=Decimal(1), fixed_fee=Decimal("0.50")), "2.00"),
        (Dynamic(multiplier=Decimal("1.5")), "150"),
        (
            Matrix(
                dimensions=("region",),
                cells={("eu",): PerUnit(unit_price=Decimal(2))},
                default=PerUnit(unit_price=Decimal(9)),
            ),
            "200",
        ),
        (
            Capacity(
                sizes=(
                    Size(limits={"kwh": Decimal(100), "kw": Decimal(5)}, amount=Decimal(10)),
                    Size(limits={}, amount=Decimal(30)),
                )
            ),
            "30",
        ),
        (PerUnit(unit_price=Decimal(3)), "300"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_price_looks_at_as_much_of_the_usage_as_its_model_needs(model: Model, amount: str) -> None:
    """2 transactions of 100 at 1% and 0.50 each; 100 in the cell of 2; 6 kW are beyond the size of 5."""
    usage = replace(
        counted(100), values=VALUES, groups=GROUPS, other_meters=(MeterQuantity(meter="kw", quantity=Decimal(6)),)
    )
    price = replace(PRICES["kwh"], model=model, is_metered=True, meter="kwh")
    assert rate(price, usage_to_rate(price, usage)).exact_amount == Decimal(amount)


def test_usage_is_never_prorated() -> None:
    """The usage of half a month is half a month's usage already."""
    rest = Period(datetime(2026, 3, 15, tzinfo=UTC), MAR.end)
    periods = [metered("kwh", rest, full=MAR)]
    [found] = due(periods, usage_of(periods, counted(100)))
    assert found.line.amount == Money(14_23, "GBP")
    assert found.line.proration == 1


def test_a_period_without_usage_is_billed_all_the_same() -> None:
    """So that every period is billed exactly once, and late usage has something to correct."""
    periods = [metered("kwh", MAR)]
    [found] = due(periods, usage_of(periods, counted(0)))
    assert found.line.amount == Money.zero("GBP")


def test_late_usage_is_billed_as_the_difference_it_makes() -> None:
    """Over a tier border: the correction is what the whole now costs, less what was billed for it."""
    periods = [metered("calls", MAR)]
    [first] = due(periods, usage_of(periods, counted(90, meter="calls")))
    assert first.line.amount == Money(6_03, "GBP")
    [late] = due(periods, usage_of(periods, counted(110, meter="calls", position=2)), billed([first.line]))
    line = late.line
    assert line.amount == Money(10_03 - 6_03, "GBP")
    assert (line.correction, line.quantity, line.description) == (1, Decimal(20), "Calls – late usage")
    assert line.steps[-1].amount == Decimal("-6.03")
    assert exact_sum(step.amount for step in line.steps) == line.exact_amount
    assert line.usage is not None
    assert line.usage.quantity == 110
    assert due(periods, usage_of(periods, counted(110, meter="calls", position=3)), billed([first.line, line])) == []


def test_corrections_compare_what_was_billed_not_what_was_exact() -> None:
    """0.067 x 55 = 3.685 was billed as 3.69. One call more is 3.752, so 6 pence are due, not 7."""
    periods = [metered("calls", MAR)]
    [first] = due(periods, usage_of(periods, counted(55, meter="calls")))
    assert first.line.amount == Money(3_69, "GBP")
    [late] = due(periods, usage_of(periods, counted(56, meter="calls", position=2)), billed([first.line]))
    assert late.line.amount == Money(6, "GBP")


def test_late_usage_that_costs_nothing_makes_no_line() -> None:
    """Other events, the same cents: nobody needs to read about it."""
    periods = [metered("kwh", MAR)]
    [first] = due(periods, usage_of(periods, counted("100")))
    assert due(periods, usage_of(periods, counted("100.01", position=2)), billed([first.line])) == []


def test_usage_by_another_version_of_the_meter_is_billed_as_the_difference() -> None:
    """Of the same events, and so with the same digest: what was billed says by which version that was."""
    periods = [metered("kwh", MAR)]
    first_version = replace(counted(100), meter_versions={"kwh": 1})
    [first] = due(periods, usage_of(periods, first_version))
    # What is of before meters had versions says nothing, and was counted by the first.
    for before in (first.line, replace(first.line, usage=counted(100))):
        anew = replace(first_version, quantity=Decimal(150), meter_versions={"kwh": 2})
        [found] = due(periods, usage_of(periods, anew), billed([before]))
        assert found.line.amount == Money(21_34 - 14_23, "GBP")
        assert found.line.description == f"{before.description} – usage counted anew"
        assert due(periods, usage_of(periods, first_version), billed([before])) == []
        assert due(periods, usage_of(periods, anew), billed([before, found.line])) == []


def test_a_draft_is_recomputed_and_not_corrected() -> None:
    """Or late usage would be billed twice: in the draft's line, and on top of it."""
    periods = [metered("kwh", MAR)]
    [first] = due(periods, usage_of(periods, counted(100)))
    more = counted(110, position=2)
    assert due(periods, usage_of(periods, more), billed([first.line], final=False)) == []
    assert recomputed(first.line, price=PRICES["kwh"], usage=more, billed_elsewhere=None).amount == Money(15_65, "GBP")


def test_an_older_count_corrects_nothing() -> None:
    """A bill run may have asked before the invoice was finalized with what came in later."""
    periods = [metered("kwh", MAR)]
    [first] = due(periods, usage_of(periods, counted(110, position=9)))
    assert due(periods, usage_of(periods, counted(100, position=8)), billed([first.line])) == []
    older = counted(100, position=8)
    assert recomputed(first.line, price=PRICES["kwh"], usage=older, billed_elsewhere=None) == first.line


def test_a_correction_in_a_draft_is_recomputed_as_one() -> None:
    """It stays the difference to what was billed elsewhere."""
    periods = [metered("kwh", MAR)]
    [first] = due(periods, usage_of(periods, counted(100)))
    before = billed([first.line])
    [late] = due(periods, usage_of(periods, counted(110, position=2)), before)
    elsewhere = before[first.line.key]
    again = recomputed(late.line, price=PRICES["kwh"], usage=counted(120, position=3), billed_elsewhere=elsewhere)
    assert again.amount + first.line.amount == Money.rounded(Decimal("17.0736"), "GBP")
    assert again.description == "Electricity – late usage"
    assert again.correction == 1


def test_corrections_have_a_window() -> None:
    """Two bill runs of a monthly customer; what comes later than that is not looked for."""
    periods = [metered("kwh", JAN)]
    [first] = due(periods, usage_of(periods, counted(100)), as_of=JAN.end)
    late = usage_of(periods, counted(200, position=2))
    last = JAN.end + CORRECTION_WINDOW
    assert len(due(periods, late, billed([first.line]), as_of=last)) == 1
    assert due(periods, late, billed([first.line]), as_of=last + timedelta(microseconds=1)) == []


def test_a_correction_waits_for_company() -> None:
    """Nobody wants an invoice of its own for some cents when the next one comes in time."""
    periods = [metered("kwh", MAR)]
    [first] = due(periods, usage_of(periods, counted(100)))
    late = usage_of(periods, counted(200, position=2))
    mid_april = datetime(2026, 4, 12, tzinfo=UTC)
    waiting = due(periods, late, billed([first.line]), as_of=mid_april, next_bill_time=APR.end)
    assert consolidate(waiting, NOTHING_DECLARED) == []
    [bill] = consolidate([*waiting, *due([licensed("seat", MAY)])], NOTHING_DECLARED)
    assert [line.correction for line in bill.lines] == [1, 0]
    assert bill.bill_time == MAY.start
    found = due(periods, late, billed([first.line]), as_of=mid_april, next_bill_time=None)
    [alone] = consolidate(found, NOTHING_DECLARED)
    assert alone.bill_time == mid_april  # no bill will come any more: now or never


def test_a_correction_takes_off_at_most_what_there_is() -> None:
    """An invoice cannot owe money to the customer; the correction is found again by the next bill run."""
    periods = [metered("kwh", MAR)]
    [first] = due(periods, usage_of(periods, counted(1_000)))
    [less] = due(periods, usage_of(periods, counted(10, position=2)), billed([first.line]))
    assert less.line.amount.minor < 0
    [bill] = consolidate([less, *due([licensed("seat", APR)])], NOTHING_DECLARED)
    assert [line.description for line in bill.lines] == ["Seats"]
    [bill] = consolidate([less, *due([licensed("seat", APR, quantity="100")])], NOTHING_DECLARED)
    assert len(bill.lines) == 2
    assert consolidate([less], NOTHING_DECLARED) == []


def test_currencies_do_not_share_an_invoice() -> None:
    """A total is of one currency."""
    bills = consolidate(due([licensed("usd", MAR), licensed("seat", MAR), licensed("contract", MAR)]), NOTHING_DECLARED)
    assert [(bill.currency, len(bill.lines)) for bill in bills] == [("GBP", 2), ("USD", 1)]


def test_what_is_found_late_joins_the_bill_at_hand() -> None:
    """A subscription that was made for the past is billed for all its months on one invoice, of the newest of them."""
    [bill] = consolidate(due([licensed("seat", JAN), licensed("seat", FEB), licensed("seat", MAR)]), NOTHING_DECLARED)
    assert bill.bill_time == MAR.start
    assert [line.period for line in bill.lines] == [JAN, FEB, MAR]


def test_a_bill_run_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault upstream must not become an endless invoice."""
    monkeypatch.setattr(module, "LINES_MAX", 2)
    with pytest.raises(TooManyLines):
        due([licensed("seat", JAN), licensed("seat", FEB), licensed("seat", MAR)])


def test_the_next_look_is_the_next_bill_time() -> None:
    """Nothing else is to be expected, so nobody is woken for nothing."""
    periods = [metered("kwh", MAR), licensed("seat", APR)]
    assert next_look(periods, as_of=APR.start, next_bill_time=APR.end) == APR.end
    assert next_look([], as_of=APR.start, next_bill_time=None) is None


def test_the_last_usage_is_looked_at_once_more() -> None:
    """After a cancellation no bill will come by that could carry late usage."""
    last = metered("kwh", MAR)
    look = MAR.end + LAST_LOOK
    assert next_look([last], as_of=MAR.end, next_bill_time=None) == look
    assert next_look([last], as_of=look, next_bill_time=None) is None
    # A yearly seat beside it comes by too late, a weekly one in time.
    assert next_look([last], as_of=MAR.end, next_bill_time=MAR.end + timedelta(days=300)) == look
    weekly = MAR.end + timedelta(days=7)
    assert next_look([last], as_of=MAR.end, next_bill_time=weekly) == weekly


def test_a_period_that_a_later_run_has_looked_at_needs_no_look_of_its_own() -> None:
    """One more look per period is enough; a customer is not billed in dribs and drabs."""
    periods = [metered("kwh", FEB), licensed("seat", APR)]
    assert next_look(periods, as_of=APR.start, next_bill_time=None) is None


# What always holds

quantities = st.decimals(min_value=0, max_value=10**6, places=3, allow_nan=False, allow_infinity=False)
several_periods = st.lists(
    st.one_of(
        st.builds(metered, st.sampled_from(["kwh", "calls"]), st.sampled_from([JAN, FEB, MAR, APR])),
        st.builds(licensed, st.sampled_from(["seat", "contract", "usd"]), st.sampled_from([JAN, FEB, MAR, APR, MAY])),
    ),
    unique_by=lambda each: each.key,
    max_size=12,
)


@given(several_periods, quantities)
def test_billing_twice_bills_nothing(periods: list[BillablePeriod], quantity: Decimal) -> None:
    """Whatever runs twice, by a repeated fact or a restart, changes nothing."""
    usage = usage_of(periods, counted(quantity))
    first = due(periods, usage)
    assert {each.line.key for each in first} == {each.key for each in periods}
    assert due(periods, usage, billed(each.line for each in first)) == []


@given(st.sampled_from(["kwh", "calls"]), st.lists(quantities, min_size=1, max_size=6))
def test_whatever_comes_late_the_lines_add_up_to_the_true_usage(price: str, counts: list[Decimal]) -> None:
    """However often usage changes, in whichever direction: what was billed is what all of it costs, rounded once."""
    periods = [metered(price, APR)]
    lines: list[Line] = []
    for position, quantity in enumerate(counts):
        usage = usage_of(periods, counted(quantity, position=position))
        lines += [each.line for each in due(periods, usage, billed(lines))]
    true_amount = rate(PRICES[price], UsageToRate.of(counts[-1])).amount
    assert sum_money((line.amount for line in lines), "GBP") == true_amount
    assert [line.correction for line in lines] == list(range(len(lines)))
    for line in lines:
        assert exact_sum(step.amount for step in line.steps) == line.exact_amount


@given(st.lists(st.integers(1, 30), unique=True, max_size=4), st.integers(1, 50))
def test_the_parts_of_a_month_cost_the_month(cuts: list[int], seats: int) -> None:
    """Each part is rounded on its own: the sum is at most half a penny per part away from the whole."""
    marks = [MAR.start, *(MAR.start + timedelta(days=day) for day in sorted(cuts)), MAR.end]
    parts = [Period(start, end) for start, end in pairwise(marks)]
    found = due([licensed("seat", part, full=MAR, quantity=str(seats)) for part in parts])
    whole = Money.rounded(Decimal("9.50") * seats, "GBP")
    assert abs(sum_money((each.line.amount for each in found), "GBP") - whole).minor <= len(parts) / 2
    assert sum(each.line.proration for each in found) == 1
