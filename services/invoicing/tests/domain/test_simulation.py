"""Bills of the past at other prices: rated as they were billed, added up by customer, and how that spreads."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from common.period import Period
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import UsageKey
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Needs,
    Operators,
    Package,
    Percentage,
    PerUnit,
    Price,
    Size,
    Tier,
    Volume,
)
from invoicing.domain.simulation import (
    QUANTILES,
    BilledPeriod,
    Bills,
    CurrencyOutcome,
    PriceToTry,
    rated_anew,
    rated_by,
    to_ask,
)

MONTHLY = ("MONTH", 1)
ONE = Decimal(1)


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def to_try(model: Model, *, meter: str = "", operators: Operators | None = None) -> PriceToTry:
    price = Price(
        id="price",
        currency="EUR",
        model=model,
        product="",
        unit_label="",
        meter=meter,
        is_metered=bool(meter),
        operators=operators or Operators(),
    )
    return PriceToTry(price=price, billing_interval=MONTHLY)


JANUARY = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
LICENSED = BilledPeriod(
    customer_id="cus_1",
    price_id="price_1",
    billed=eur(10_00),
    line_count=1,
    quantity=Decimal(3),
    meter="",
    usage_quantity=None,
    period=JANUARY,
    proration=Fraction(1),
    is_complete=True,
    refused=eur(0),
    refused_since=eur(0),
)
METERED = replace(LICENSED, meter="calls", quantity=Decimal(100), usage_quantity=Decimal(120), line_count=2)


def anew(period: BilledPeriod, price: PriceToTry) -> int | None:
    found = rated_anew(period, price, billed_by=MONTHLY)
    return None if found is None else found.minor


def test_a_licensed_line_is_rated_with_its_quantity() -> None:
    """As the subscription had it."""
    assert anew(LICENSED, to_try(PerUnit(unit_price=Decimal("1.5")))) == 4_50
    assert anew(LICENSED, to_try(Flat(amount=Decimal(7)))) == 7_00


def test_a_metered_line_is_rated_with_what_was_last_known() -> None:
    """Late usage counts from the beginning: the first line's quantity was only what was known then."""
    assert anew(METERED, to_try(PerUnit(unit_price=Decimal("0.1")), meter="calls")) == 12_00


def test_of_what_was_refused_the_same_share_is_left_out() -> None:
    """At the same price nothing changes, at twice the price twice as much is billed; what nothing was billed for stays
    free. What was refused since counts only where usage is counted anew.
    """
    refused = replace(METERED, billed=eur(9_00), refused=eur(3_00), refused_since=eur(1_00))
    same, dearer = (to_try(PerUnit(unit_price=Decimal(price)), meter="calls") for price in ("0.1", "0.2"))
    assert (anew(refused, same), anew(refused, dearer)) == (9_00, 18_00)
    assert anew(replace(refused, billed=eur(0)), dearer) == 0
    counted = Usage(meter="calls", quantity=Decimal(130), event_count=1, digest="d", through_position=1)
    assert [rated_by(refused, counted, each) for each in (same, dearer)] == [eur(9_00), eur(18_00)]


def test_a_part_of_a_period_stays_that_part() -> None:
    """Of the exact amount, rounded once: half of 10.0051 is 5.00, while half of 10.01 would be 5.01."""
    half = replace(LICENSED, proration=Fraction(1, 2))
    assert anew(half, to_try(Flat(amount=Decimal("10.0051")))) == 5_00
    assert anew(half, to_try(Flat(amount=Decimal("10.01")))) == 5_01
    assert anew(replace(LICENSED, proration=Fraction(1, 3)), to_try(Flat(amount=Decimal(10)))) == 3_33


def test_what_was_corrected_below_zero_costs_what_nothing_costs() -> None:
    """As it would have been billed; a minimum is due also then."""
    below = replace(METERED, usage_quantity=Decimal(-5))
    assert anew(below, to_try(PerUnit(unit_price=ONE), meter="calls")) == 0
    least = Operators(minimum_amount=Decimal(2))
    assert anew(below, to_try(PerUnit(unit_price=ONE), meter="calls", operators=least)) == 2_00


@pytest.mark.parametrize(
    ("model", "cents"),
    [
        (Graduated(tiers=(Tier(up_to=Decimal(100), unit_price=ONE), Tier(up_to=None, unit_price=Decimal(2)))), 140_00),
        (Volume(tiers=(Tier(up_to=Decimal(100), unit_price=ONE), Tier(up_to=None, unit_price=Decimal(2)))), 240_00),
        (Package(size=Decimal(50), price=ONE), 3_00),
        (Dynamic(multiplier=Decimal("1.5")), 180_00),
        (Percentage(percent=Decimal(10)), 12_00),
        (Percentage(percent=Decimal(10), free_amount=Decimal(20)), 10_00),
    ],
)
def test_a_total_is_enough_for_most_models(model: Model, cents: int) -> None:
    """Also for a percentage, as long as nothing of it is by transaction."""
    assert anew(METERED, to_try(model, meter="calls")) == cents


@pytest.mark.parametrize(
    "model",
    [
        Percentage(percent=ONE, fixed_fee=Decimal("0.1")),
        Percentage(percent=ONE, free_transactions=1),
        Percentage(percent=ONE, transaction_minimum=ONE),
        Percentage(percent=ONE, transaction_maximum=ONE),
        Matrix(dimensions=("region",), cells={}, default=PerUnit(unit_price=ONE)),
        Capacity(sizes=(Size(limits={}, amount=ONE),)),
    ],
)
def test_what_was_not_kept_is_not_guessed(model: Model) -> None:
    """Transactions, dimensions and the usage of other meters are not on a line."""
    assert anew(METERED, to_try(model, meter="calls")) is None


def test_metering_is_asked_what_the_price_needs_and_the_line_does_not_say() -> None:
    """By the kind of detail, of the very period, and of the meter that is priced now."""
    by_unit = PerUnit(unit_price=ONE)
    by_region = Matrix(dimensions=("region",), cells={}, default=by_unit)
    asked = to_ask(METERED, to_try(by_region, meter="calls"), billed_by=MONTHLY)
    assert asked == UsageKey("calls", JANUARY, Needs(group_by=("region",)))
    assert to_ask(METERED, to_try(by_unit, meter="rows"), billed_by=MONTHLY) == UsageKey("rows", JANUARY)
    assert to_ask(LICENSED, to_try(by_unit, meter="rows"), billed_by=MONTHLY) == UsageKey("rows", JANUARY)


def test_metering_is_not_asked_in_vain() -> None:
    """What the line says is enough, or no usage would help."""
    by_unit = PerUnit(unit_price=ONE)
    by_region = Matrix(dimensions=("region",), cells={}, default=by_unit)
    assert to_ask(METERED, to_try(by_unit, meter="calls"), billed_by=MONTHLY) is None
    assert to_ask(METERED, to_try(by_unit), billed_by=MONTHLY) is None
    assert to_ask(METERED, to_try(by_region, meter="calls"), billed_by=("YEAR", 1)) is None
    late = replace(METERED, is_complete=False)
    assert to_ask(late, to_try(by_region, meter="calls"), billed_by=MONTHLY) is None


def test_another_kind_of_price_cannot_be_compared() -> None:
    """Seats are not calls, one meter is not another, a month is not a year, and half a history is none."""
    by_unit = PerUnit(unit_price=ONE)
    assert anew(LICENSED, to_try(by_unit, meter="calls")) is None
    assert anew(METERED, to_try(by_unit)) is None
    assert anew(METERED, to_try(by_unit, meter="rows")) is None
    assert anew(replace(METERED, is_complete=False), to_try(by_unit, meter="calls")) is None
    assert rated_anew(LICENSED, to_try(by_unit), billed_by=("YEAR", 1)) is None


def test_what_could_not_be_billed_is_not_counted() -> None:
    """An amount that nobody could pay says that the price is wrong, not that the simulation is."""
    most = PerUnit(unit_price=Decimal(10**15))
    assert anew(replace(LICENSED, quantity=Decimal(10**10)), to_try(most)) is None
    assert anew(replace(LICENSED, quantity=Decimal(-1)), to_try(most)) is None


# Adding up


def outcome(*changes: int) -> CurrencyOutcome:
    """Each customer was billed 10.00."""
    bills = Bills()
    for n, change in enumerate(changes):
        bills.add(f"cus_{n:03d}", billed=eur(10_00), simulated=eur(10_00 + change), line_count=1)
    [found] = bills.outcomes()
    return found


def test_bills_add_up_by_customer_and_currency() -> None:
    """A customer who is billed in two currencies is one in each."""
    bills = Bills()
    bills.add("a", billed=eur(100), simulated=eur(150), line_count=2)
    bills.add("a", billed=eur(100), simulated=eur(60), line_count=1)
    bills.add("b", billed=eur(-10), simulated=eur(-10), line_count=0)
    bills.add("a", billed=Money(7, "CHF"), simulated=Money(0, "CHF"), line_count=1)
    francs, euros = bills.outcomes()
    assert (francs.currency, francs.billed, francs.simulated, francs.line_count) == (
        "CHF",
        Money(7, "CHF"),
        Money(0, "CHF"),
        1,
    )
    assert (euros.currency, euros.billed, euros.simulated, euros.line_count) == ("EUR", eur(190), eur(200), 3)
    assert [(each.customer_id, each.change) for each in euros.customers] == [("b", eur(0)), ("a", eur(10))]
    assert (euros.raised_count, euros.lowered_count) == (1, 0)
    assert (francs.raised_count, francs.lowered_count) == (0, 1)


def test_nothing_billed_is_no_outcome() -> None:
    """Not one of zeros in some currency that nobody uses."""
    assert Bills().outcomes() == []


def test_quantiles_are_changes_of_somebody() -> None:
    """By nearest rank: of 20 customers, 5 percent are the first, and 10 the second."""
    found = dict(outcome(*range(100, 2_100, 100)).quantiles)
    assert {percent: change.minor for percent, change in found.items()} == {
        0: 100, 5: 100, 10: 200, 25: 500, 50: 1_000, 75: 1_500, 90: 1_800, 95: 1_900, 100: 2_000,
    }  # fmt: skip


def test_one_customer_is_every_quantile() -> None:
    """Also the smallest."""
    assert {change.minor for _, change in outcome(-5).quantiles} == {-5}


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=60))
def test_a_quantile_is_the_smallest_change_that_so_many_do_not_exceed(changes: list[int]) -> None:
    """The definition, written the other way round."""
    found = outcome(*changes)
    assert [percent for percent, _ in found.quantiles] == list(QUANTILES)
    for percent, change in found.quantiles:
        enough = max(math.ceil(Fraction(percent, 100) * len(changes)), 1)
        assert sum(each <= change.minor for each in changes) >= enough
        assert sum(each < change.minor for each in changes) < enough


def test_the_largest_changes_come_first_either_way() -> None:
    """Of equals in order of their id; who is not touched is not named."""
    found = outcome(5, -20, 0, 20, 1)
    named = [(each.customer_id, each.change.minor) for each in found.largest_changes(100)]
    assert named == [("cus_001", -20), ("cus_003", 20), ("cus_000", 5), ("cus_004", 1)]
    assert found.largest_changes(1) == [found.customers[0]]
    assert found.largest_changes(0) == []
