"""How a usage becomes an amount, model by model: examples with figures that were worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from common.errors import InvalidArgument
from common.money import Money, exact_sum
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Package,
    Percentage,
    PerUnit,
    Price,
    Size,
    Tier,
    Volume,
)
from invoicing.domain.rating import rate, rate_amounts
from invoicing.domain.steps import StepKind
from invoicing.domain.usage import MeterQuantity, QuantityChange, UsageGroup, UsageToRate

TIERS = Graduated(
    tiers=(
        Tier(up_to=Decimal(1_000), unit_price=Decimal("0.05")),
        Tier(up_to=Decimal(5_000), unit_price=Decimal("0.04"), flat_amount=Decimal(10)),
        Tier(up_to=None, unit_price=Decimal("0.03")),
    )
)
SEATS = (Tier(up_to=Decimal(15), unit_price=Decimal(10)), Tier(up_to=None, unit_price=Decimal(5)))
STORAGE = Percentage(
    percent=Decimal("2.5"), fixed_fee=Decimal("0.30"), free_transactions=2, free_amount=Decimal(100)
)  # fmt: skip


def price(model: Model, *, unit_label: str = "call", **more: Any) -> Price:  # Any: fields of the price
    return Price(id="price_1", currency="EUR", model=model, product="API calls", unit_label=unit_label, **more)


def exact(model: Model, quantity: str | int | None = None, **usage: Any) -> Decimal:  # Any: fields of the usage
    told = None if quantity is None else Decimal(quantity)
    return rate(price(model, is_metered=True), UsageToRate(quantity=told, **usage)).exact_amount


def decimals(*numbers: str | int) -> tuple[Decimal, ...]:
    return tuple(Decimal(number) for number in numbers)


def told(model: Model, usage: UsageToRate, **more: Any) -> list[tuple[str, Decimal]]:  # Any: fields of the price
    return [(step.description, step.amount) for step in rate(price(model, **more), usage).steps]


def test_a_flat_price_does_not_look_at_the_quantity() -> None:
    """A service contract costs the same for one boiler as for two."""
    assert exact(Flat(amount=Decimal("24.90")), 7) == Decimal("24.90")


def test_a_reading_is_rated_with_all_its_digits() -> None:
    """Readings at 14.228 pence: nothing is rounded before the amount is. 412.537 × 0.14228 = 58.69576436."""
    rating = rate(price(PerUnit(unit_price=Decimal("0.14228")), unit_label="kWh"), UsageToRate.of(Decimal("412.537")))
    assert rating.exact_amount == Decimal("58.69576436")
    assert rating.amount == rating.period_amount == Money(58_70, "EUR")
    assert rating.rounding == Decimal("0.00423564")
    assert [step.description for step in rating.steps] == ["412.537 kWh at 0.14228 EUR each"]


def test_the_last_quantity_of_a_tier_belongs_to_it() -> None:
    """`up_to` is inclusive, the convention of every peer: 1,000 × 0.05 = 50; half a unit more is 0.02, and 10 once."""
    assert exact(TIERS, 1_000) == Decimal(50)
    assert exact(TIERS, "1000.5") == Decimal("60.02")
    assert rate_amounts(price(TIERS), decimals(1_000, "1000.000001", 5_000)) == [50_00, 60_00, 220_00]


def test_every_tier_tells_what_it_adds() -> None:
    """A customer who asks why gets an answer line by line: 50 + 160 + 10 + 250 × 0.03."""
    assert told(TIERS, UsageToRate.of(Decimal(5_250))) == [
        ("The first 1,000 call: 1,000 at 0.05 EUR each", Decimal("50.00")),
        ("Over 1,000 up to 5,000 call: 4,000 at 0.04 EUR each", Decimal("160.00")),
        ("Over 1,000 up to 5,000 call, once", Decimal(10)),
        ("Over 5,000 call: 250 at 0.03 EUR each", Decimal("7.50")),
    ]


def test_a_step_tells_its_numbers_too() -> None:
    """Programs read numbers, not sentences: the tier, its bounds, how many, at how much."""
    *_, flat, units = rate(price(TIERS), UsageToRate.of(Decimal(5_250))).steps
    assert (flat.kind, flat.over, flat.up_to, flat.unit_price) == (StepKind.FLAT, Decimal(1_000), Decimal(5_000), None)
    assert (units.kind, units.over, units.up_to, units.quantity) == (StepKind.UNITS, Decimal(5_000), None, Decimal(250))


@pytest.mark.parametrize("model_type", [Graduated, Volume])
def test_the_first_tiers_flat_amount_without_usage_is_as_the_price_says(model_type: type[Graduated | Volume]) -> None:
    """Peers differ. Nobody pays for a tier not reached, unless the seller said so of the first: then its 100."""
    tiers = (Tier(up_to=None, unit_price=Decimal(1), flat_amount=Decimal(100)),)
    rating = rate(price(model_type(tiers=tiers)), UsageToRate.of(Decimal(0)))
    assert rating.exact_amount == 0
    assert len(rating.steps) == 1
    assert exact(model_type(tiers=tiers, flat_without_usage=True), 0) == Decimal(100)
    assert exact(model_type(tiers=tiers, flat_without_usage=True), "0.5") == Decimal("100.5")


def test_a_tier_can_count_in_packages() -> None:
    """100 at 1 per 30 started, 20 at 2 per 15 started: 4 × 1 + 2 × 2 = 8. The border breaks a package in two."""
    tiers = (
        Tier(up_to=Decimal(100), unit_price=Decimal(1), package_size=Decimal(30)),
        Tier(up_to=None, unit_price=Decimal(2), package_size=Decimal(15)),
    )
    assert exact(Graduated(tiers=tiers), 120) == Decimal(8)
    assert exact(Volume(tiers=tiers), 120) == Decimal(16)
    assert told(Graduated(tiers=tiers), UsageToRate.of(Decimal(80))) == [
        ("The first 100 call: 80 call in 3 started packages of 30 at 1.00 EUR each", Decimal(3))
    ]


def test_a_tier_can_take_a_share_of_money() -> None:
    """Tiers of turnover: 3% of the first 1,000 and 1.5% of the 500 above: 30 + 7.50. As a volume 1.5% of all: 22.50."""
    tiers = (Tier(up_to=Decimal(1_000), percent=Decimal(3)), Tier(up_to=None, percent=Decimal("1.5")))
    assert exact(Graduated(tiers=tiers), 1_500) == Decimal("37.5")
    assert exact(Volume(tiers=tiers), 1_500) == Decimal("22.5")
    assert told(Graduated(tiers=tiers), UsageToRate.of(Decimal(800)), unit_label="EUR") == [
        ("The first 1,000 EUR: 3% of 800.00 EUR", Decimal(24))
    ]


def test_a_volume_prices_every_unit_at_the_tier_of_all_of_them() -> None:
    """15 seats at 10 are 150; 16 at 5 are 80."""
    assert exact(Volume(tiers=SEATS), 15) == Decimal(150)
    assert exact(Volume(tiers=SEATS), 16) == Decimal(80)
    assert told(Volume(tiers=SEATS), UsageToRate.of(Decimal(16)), unit_label="seat") == [
        ("16 seat at 5.00 EUR each (over 15 seat)", Decimal(80))
    ]


def test_a_prorated_volume_is_priced_in_the_tier_of_the_full_one() -> None:
    """20 seats for half of the month are 10 seat months, at the price of who has 20: 10 × 5 = 50, and not 100."""
    half = UsageToRate(quantity=Decimal(10), tier_quantity=Decimal(20))
    assert rate(price(Volume(tiers=SEATS)), half).exact_amount == Decimal(50)
    changes = (QuantityChange(quantity=Decimal(20), prorated_quantity=Decimal(10)),)
    assert rate(price(Volume(tiers=SEATS)), UsageToRate(changes=changes)).exact_amount == Decimal(50)


@pytest.mark.parametrize(("quantity", "packages"), [("0", 0), ("0.001", 1), ("100", 1), ("100.5", 2), ("250", 3)])
def test_a_started_package_counts_whole(quantity: str, packages: int) -> None:
    """Packages of 100 at 7: what has been begun cannot be sold to anybody else."""
    assert exact(Package(size=Decimal(100), price=Decimal(7)), quantity) == 7 * packages


def test_free_ends_as_soon_as_either_allowance_is_used_up() -> None:
    """2 transactions and 100 are free, then 2.5% and 0.30 each. Of 60, 70, 10: 60 is free, 40 of 70 too, and 30 pay.

    30 × 2.5% + 0.30 = 1.05, and 10 × 2.5% + 0.30 = 0.55: together 1.60.
    """
    assert exact(STORAGE, amounts=decimals(60, 70, 10)) == Decimal("1.60")
    # Two small ones use up the count, whatever is left of the amount: 80 × 2.5% + 0.30.
    assert exact(STORAGE, amounts=decimals(5, 5, 80)) == Decimal("2.30")
    # Used up to the last cent is used up: one of nothing after it pays what every other does.
    assert exact(STORAGE, amounts=decimals(100, 0)) == Decimal("0.30")
    assert exact(STORAGE, amounts=decimals(100)) == 0


def test_a_transaction_costs_at_least_and_at_most() -> None:
    """1%, at least 0.50 and at most 3.00, of 10, 100 and 1,000: 0.50 + 1.00 + 3.00 = 4.50."""
    model = Percentage(percent=Decimal(1), transaction_minimum=Decimal("0.5"), transaction_maximum=Decimal(3))
    usage = UsageToRate(amounts=decimals(10, 100, 1_000))
    assert told(model, usage) == [
        ("1% of 1,110.00 EUR", Decimal("11.10")),
        ("1 transaction raised from 0.10 EUR to 0.50 EUR", Decimal("0.40")),
        ("1 transaction lowered from 10.00 EUR to 3.00 EUR", Decimal("-7.00")),
    ]
    assert rate(price(model), usage).exact_amount == Decimal("4.50")


def test_a_refund_gives_back_the_share_and_nothing_else() -> None:
    """2.5% of 200 and 0.30, less 2.5% of 80: 5.30 - 2.00 = 3.30. The fixed fee stays, and free is only what is paid."""
    paid = Percentage(percent=Decimal("2.5"), fixed_fee=Decimal("0.30"))
    assert exact(paid, amounts=decimals(200, -80)) == Decimal("3.30")
    assert exact(paid, amounts=decimals(-80)) == 0  # a period never costs less than nothing
    assert exact(STORAGE, amounts=decimals(-1, -1, -1, 50)) == 0  # the three used up nothing


def test_a_total_is_rated_as_one_transaction() -> None:
    """When nothing else is known: (250 - 100) × 2.5% + 0.30 = 4.05; and without usage there was no transaction."""
    assert exact(STORAGE, 250) == Decimal("4.05")
    assert exact(STORAGE, 0) == 0


MATRIX = Matrix(
    dimensions=("region", "model"),
    cells={
        ("eu", "large"): PerUnit(unit_price=Decimal(3)),
        ("us", ""): Volume(tiers=SEATS),
    },
    default=Package(size=Decimal(10), price=Decimal(1)),
)


def group(quantity: int, **dimensions: str) -> UsageGroup:
    return UsageGroup(dimensions=dimensions, quantity=Decimal(quantity))


def test_each_cell_of_a_matrix_has_its_tariff() -> None:
    """eu/large 4 × 3 = 12; us without a model 10 + 6 = 16 at 5 = 80; all else 7 + 5 = 12, two packages of 10: 2. 94."""
    groups = (
        group(4, region="eu", model="large"),
        group(10, region="us"),
        group(6, region="us", model=""),
        group(7, region="us", model="large"),
        group(5, region="asia"),
    )
    assert exact(MATRIX, groups=groups) == Decimal(94)
    assert told(MATRIX, UsageToRate(groups=groups)) == [
        ("region=eu, model=large: 4 call at 3.00 EUR each", Decimal(12)),
        ("region=us, model=: 16 call at 5.00 EUR each (over 15 call)", Decimal(80)),
        ("All else: 12 call in 2 started packages of 10 at 1.00 EUR each", Decimal(2)),
    ]
    assert exact(MATRIX, groups=tuple(reversed(groups))) == Decimal(94)


def test_a_matrix_without_groups_prices_everything_by_default() -> None:
    """Nothing is used for nothing by accident: 25 in three packages of 10 are 3."""
    assert exact(MATRIX, 25) == Decimal(3)
    assert [step.amount for step in rate(price(MATRIX), UsageToRate.of(Decimal(0))).steps] == [Decimal(0)]


def test_a_cell_below_zero_takes_nothing_off_another() -> None:
    """-5 in one cell is nothing there; the 4 × 3 of the other stay due."""
    groups = (group(4, region="eu", model="large"), group(-5, region="us"))
    assert told(MATRIX, UsageToRate(groups=groups)) == [
        ("region=eu, model=large: 4 call at 3.00 EUR each", Decimal(12)),
        ("region=us, model=: -5 call counted, charged as nothing", Decimal(0)),
    ]


def test_a_dynamic_price_passes_amounts_on() -> None:
    """12.34 + 0.66 = 13, and a fifth on top: 15.6."""
    model = Dynamic(multiplier=Decimal("1.2"))
    assert exact(model, amounts=decimals("12.34", "0.66")) == Decimal("15.6")
    assert exact(model, 10) == Decimal(12)
    assert exact(Dynamic(), amounts=decimals("12.34", "-20")) == 0


CAPACITY = Capacity(
    sizes=(
        Size(limits={"gb": Decimal(10), "calls": Decimal(1_000)}, amount=Decimal(5)),
        Size(limits={"gb": Decimal(50), "calls": Decimal(9_000)}, amount=Decimal(20)),
        Size(limits={}, amount=Decimal(99)),
    )
)


@pytest.mark.parametrize(
    ("gb", "calls", "amount"), [(10, 1_000, 5), (11, 0, 20), (0, 1_001, 20), (50, 9_001, 99), (0, 0, 5)]
)
def test_the_smallest_size_that_holds_every_meter(gb: int, calls: int, amount: int) -> None:
    """Limits are inclusive, and one meter beyond them is enough for the next size."""
    used = (MeterQuantity(meter="gb", quantity=Decimal(gb)), MeterQuantity(meter="calls", quantity=Decimal(calls)))
    assert exact(CAPACITY, meter_quantities=used) == amount


def test_the_prices_own_meter_is_its_quantity() -> None:
    """60 GB are more than every size holds, also when only the other meters are told by name."""
    usage = UsageToRate(quantity=Decimal(60), meter_quantities=(MeterQuantity(meter="calls", quantity=Decimal(1)),))
    assert rate(price(CAPACITY, meter="gb"), usage).exact_amount == 99


def change(quantity: int | str, prorated: str) -> QuantityChange:
    return QuantityChange(quantity=Decimal(quantity), prorated_quantity=Decimal(prorated))


STAIRS = Graduated(
    tiers=(
        Tier(up_to=Decimal(5), unit_price=Decimal(10)),
        Tier(up_to=None, unit_price=Decimal(4), flat_amount=Decimal(2)),
    )
)


def test_a_change_is_spread_over_the_tiers_it_passes() -> None:
    """4 seats for the month, then 3 more for half of it: 1 in the first tier, 2 in the second, each half a seat month.

    (4 + 0.5) × 10 + 1 × 4 + 2 once = 51.
    """
    assert exact(STAIRS, changes=(change(4, "4"), change(3, "1.5"))) == Decimal(51)


def test_a_tier_is_reached_above_its_border() -> None:
    """5 seats fill the first tier and do not touch the second: 50, and 50.4 + 2 for a tenth of a seat more."""
    assert exact(STAIRS, changes=(change(5, "5"),)) == Decimal(50)
    assert exact(STAIRS, changes=(change("5.1", "5.1"),)) == Decimal("52.4")


def test_what_is_removed_leaves_the_tiers_it_was_in() -> None:
    """8 from the start, 6 of them gone with a quarter left: 3 of the second tier and 3 of the first, 0.75 of each.

    (5 - 0.75) × 10 + (3 - 0.75) × 4 + 2 = 42.5 + 9 + 2 = 53.5; the 2 of the tier that was reached stay due.
    """
    assert exact(STAIRS, changes=(change(8, "8"), change(-6, "-1.5"))) == Decimal("53.5")


def test_below_zero_it_is_the_first_tier() -> None:
    """2 too many removed, then 10 more for half a month: from -2 to 8, so 7 of them in the first tier, 3 in the second.

    (-2 + 3.5) × 10 + 1.5 × 4 + 2 = 23.
    """
    assert exact(STAIRS, changes=(change(-2, "-2"), change(10, "5"))) == Decimal(23)


def test_a_period_of_changes_never_costs_less_than_nothing() -> None:
    """More was removed than was there, early: below zero it is the first tier, 1 - 3 of it, and nobody is paid."""
    assert exact(STAIRS, changes=(change(1, "1"), change(-4, "-3"))) == 0


def test_a_prorated_quantity_without_a_last_decimal_is_rounded_from_the_exact_one() -> None:
    """3 of them with 1 prorated, a third in each tier of 0.01, and 0.005 once: 3 × 1/3 × 0.01 + 0.005 = 0.015, a half.

    What is written of the thirds adds up to less; the cent is due all the same.
    """
    cent = Decimal("0.01")
    model = Graduated(
        tiers=(
            Tier(up_to=Decimal(1), unit_price=cent, flat_amount=Decimal("0.005")),
            Tier(up_to=Decimal(2), unit_price=cent),
            Tier(up_to=None, unit_price=cent),
        )
    )
    rating = rate(price(model), UsageToRate(changes=(change(3, "1"),)))
    assert exact_sum(step.amount for step in rating.steps) == rating.exact_amount < Decimal("0.015")
    assert exact_sum((Decimal("0.015"), -rating.exact_amount)) < Decimal("1e-35")
    assert rating.amount == Money(2, "EUR")


def test_packages_have_no_prorated_quantity() -> None:
    """Started counts whole, and nobody can say how much of a change has started."""
    model = Graduated(tiers=(Tier(up_to=None, unit_price=Decimal(1), package_size=Decimal(10)),))
    with pytest.raises(InvalidArgument):
        exact(model, changes=(change(4, "4"),))


def test_changes_by_sizes_without_anything_in_common_are_refused() -> None:
    """Their exact sum has millions of digits: nobody could check it, and it would keep everybody else waiting."""
    upper = Tier(up_to=None, unit_price=Decimal(1))
    tiers = (Tier(up_to=Decimal(1), unit_price=Decimal(1)), upper)
    uneven = [change(f"{sign}{n}", f"{sign}1") for n in range(1_000_003, 1_004_003, 2) for sign in ("", "-")]
    even = [change(f"{sign}{n}", f"{sign}1") for n in range(2, 2_000) for sign in ("", "-")]
    assert exact(Graduated(tiers=tiers), changes=tuple(even)) == 0
    with pytest.raises(InvalidArgument) as refused:
        exact(Graduated(tiers=tiers), changes=tuple(uneven))
    assert refused.value.violations[0].field == "usage.changes"


def test_every_other_model_takes_the_sum_of_prorated_quantities() -> None:
    """4 + 1.5 seats at 2 are 11; in packages of 5, two at 3."""
    changes = (change(4, "4"), change(3, "1.5"))
    assert exact(PerUnit(unit_price=Decimal(2)), changes=changes) == Decimal(11)
    assert exact(Package(size=Decimal(5), price=Decimal(3)), changes=changes) == Decimal(6)


@pytest.mark.parametrize("model", [TIERS, Flat(amount=Decimal(1)), MATRIX, STORAGE, Dynamic()])
def test_less_than_nothing_is_not_rated(model: Model) -> None:
    """A negative licensed quantity is somebody's mistake upstream: billed as a credit it would hide."""
    with pytest.raises(NegativeQuantity):
        rate(price(model), UsageToRate.of(Decimal(-1)))


def test_less_than_nothing_counted_costs_what_nothing_does() -> None:
    """One bad report must not keep a customer from being billed for all the rest."""
    assert told(PerUnit(unit_price=Decimal(2)), UsageToRate.of(Decimal(-50)), is_metered=True) == [
        ("-50 call counted, charged as nothing", Decimal(0)),
        ("0 call at 2.00 EUR each", Decimal(0)),
    ]


@pytest.mark.parametrize(
    "bounds", [(None, "10"), ("10", "5", None), ("5", "5", None), ("10",), ()], ids=lambda bounds: str(bounds)
)
@pytest.mark.parametrize("model_type", [Graduated, Volume])
def test_tiers_that_would_leave_units_unbilled_do_not_exist(
    bounds: tuple[str | None, ...], model_type: type[Graduated | Volume]
) -> None:
    """The catalog refuses them; if one came through all the same, nothing is computed with it."""
    tiers = tuple(Tier(up_to=None if to is None else Decimal(to), unit_price=Decimal(1)) for to in bounds)
    with pytest.raises(ValueError, match="tier"):
        model_type(tiers=tiers)


def test_sizes_that_would_hold_nothing_more_do_not_exist() -> None:
    """A size that is larger in one meter and smaller in another has no place in an order."""
    small, large = CAPACITY.sizes[0], CAPACITY.sizes[2]
    crossed = Size(limits={"gb": Decimal(50), "calls": Decimal(500)}, amount=Decimal(20))
    with pytest.raises(ValueError, match="ascend"):
        Capacity(sizes=(small, crossed, large))
    with pytest.raises(ValueError, match="ascend"):
        Capacity(sizes=(small, small, large))
    with pytest.raises(ValueError, match="last"):
        Capacity(sizes=(small,))
    # More of one meter and as much of the other is more.
    wider = Size(limits={"gb": Decimal(50), "calls": Decimal(1_000)}, amount=Decimal(9))
    used = (MeterQuantity(meter="gb", quantity=Decimal(11)), MeterQuantity(meter="calls", quantity=Decimal(1_000)))
    assert exact(Capacity(sizes=(small, wider, large)), meter_quantities=used) == 9
