"""The independent rater against figures worked out by hand: it must not learn from what it checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from tools.check.rater import (
    Before,
    Capacity,
    Change,
    Conversion,
    Dynamic,
    Flat,
    Graduated,
    Group,
    Matrix,
    Model,
    Package,
    Percentage,
    PerUnit,
    Size,
    Step,
    Tariff,
    Used,
    Volume,
    cost,
    decimals,
    due,
    minor,
)

F = Fraction


def tier(up_to: str | None, unit_price: str = "0", flat_amount: str = "0") -> Step:
    return Step(up_to=None if up_to is None else F(up_to), unit_price=F(unit_price), flat_amount=F(flat_amount))


TIERS = (tier("10", "5"), tier("20", "4", "7"), tier(None, "3", "0.5"))
GRADUATED = Tariff(Graduated(TIERS))
VOLUME = Tariff(Volume(TIERS))
PACKAGES = Tariff(Package(size=F(1000), price=F("2.5")))
SEATS = Tariff(Graduated((tier("2", "30", "1"), tier(None, "10", "6"))), metered=False)
REGIONS = Tariff(
    Matrix(
        dimensions=("region", "model"),
        cells={
            ("eu", "large"): PerUnit(F(2)),
            ("eu", ""): Volume((tier("10", "1", "3"), tier(None, "0.5"))),
        },
        default=Package(size=F(10), price=F(7)),
    )
)
SIZES = Tariff(
    Capacity(
        [
            Size({"cpu": F(2), "disk": F(100)}, F(10)),
            Size({"cpu": F(4), "disk": F(500)}, F(25)),
            Size({}, F(90)),
        ]
    )
)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        ("0", "0"),
        ("1", "5"),
        ("10", "50"),  # the last unit of a tier is inside it
        ("10.5", "59"),  # half a unit at 4, and 7 once
        ("20", "97"),
        ("21", "100.5"),
        ("100", "337.5"),
    ],
)
def test_graduated(quantity: str, amount: str) -> None:
    """A tier includes its last unit, and its flat amount is due once something is in it."""
    assert cost(GRADUATED, F(quantity)) == F(amount)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("0", "0"), ("1", "5"), ("10", "50"), ("10.5", "49"), ("20", "87"), ("21", "63.5"), ("100", "300.5")],
)
def test_volume(quantity: str, amount: str) -> None:
    """The one tier prices every unit, and its own flat amount alone is due: 21 cost less than 20."""
    assert cost(VOLUME, F(quantity)) == F(amount)


def test_volume_by_a_quantity_of_its_own() -> None:
    """A part of a period costs what the whole of it would choose."""
    assert cost(VOLUME, Used(quantity=F("10.5"), tier_quantity=F(21))) == F("32")
    assert cost(VOLUME, Used(quantity=F(0), tier_quantity=F(15))) == 0


@pytest.mark.parametrize(("quantity", "amount"), [("0", "0"), ("0.1", "2.5"), ("1000", "2.5"), ("1000.001", "5")])
def test_package(quantity: str, amount: str) -> None:
    """One that was started is paid whole."""
    assert cost(PACKAGES, F(quantity)) == F(amount)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    # By packages of 4 at 3 up to 10, and 1.5 % above it.
    [("0", "0"), ("4", "3"), ("4.5", "6"), ("10", "9"), ("30", "9.3"), ("10.01", "9.00015")],
)
def test_tiers_by_package_and_by_percent(quantity: str, amount: str) -> None:
    """Each tier in its own way; a package does not reach over the end of its tier."""
    steps = (
        Step(up_to=F(10), unit_price=F(3), package_size=F(4)),
        Step(up_to=None, percent=F("1.5")),
    )
    assert cost(Tariff(Graduated(steps)), F(quantity)) == F(amount)


@pytest.mark.parametrize("model", [Graduated((tier("10", "5", "8"), tier(None, "1", "9")), flat_without_usage=True)])
def test_the_flat_amount_of_the_first_tier_without_usage(model: Graduated) -> None:
    """Peers differ, so the price says; with usage it is due once all the same."""
    assert cost(Tariff(model), F(0)) == 8
    assert cost(Tariff(model), F(1)) == 13
    assert cost(Tariff(Volume(model.steps, flat_without_usage=True)), F(0)) == 8
    assert cost(Tariff(Volume(model.steps, flat_without_usage=True)), F(11)) == 20


@pytest.mark.parametrize("tariff", [GRADUATED, VOLUME, PACKAGES, Tariff(PerUnit(F(5))), Tariff(Dynamic()), REGIONS])
def test_less_than_nothing_costs_what_nothing_costs(tariff: Tariff) -> None:
    """Usage that was taken back twice is not money that is owed to the customer."""
    assert cost(tariff, F(-3)) == 0


@pytest.mark.parametrize("tariff", [GRADUATED, VOLUME, PACKAGES, Tariff(PerUnit(F(5))), Tariff(Flat(F(5)))])
def test_less_than_nothing_cannot_be_licensed(tariff: Tariff) -> None:
    """Nobody subscribes to -3 seats."""
    with pytest.raises(ValueError, match="licensed quantity of -3"):
        cost(replace(tariff, metered=False), F(-3))


def test_flat_is_the_same_whatever_the_quantity() -> None:
    """A thousand of it cost what one costs."""
    assert cost(Tariff(Flat(F("9.99"))), F(1000)) == F("9.99")


def test_per_unit_is_exact() -> None:
    """January of the real household: 64.1647... pounds."""
    exact = cost(Tariff(PerUnit(F("0.14228"))), F("450.9750001"))
    assert exact == F("64.164723014228")
    assert minor(exact, "GBP") == 6416


def percentage(
    *,
    fee: str = "0",
    free_transactions: int = 0,
    free_amount: str | None = None,
    least: str = "0",
    most: str | None = None,
) -> Tariff:
    return Tariff(
        Percentage(
            percent=F("1.3"),
            fixed_fee=F(fee),
            free_transactions=free_transactions,
            free_amount=None if free_amount is None else F(free_amount),
            transaction_minimum=F(least),
            transaction_maximum=None if most is None else F(most),
        )
    )


@pytest.mark.parametrize(
    ("tariff", "amounts", "amount"),
    [
        (percentage(), (100, 200), "3.9"),
        (percentage(fee="0.5"), (100, 200), "4.9"),
        (percentage(fee="0.5", free_transactions=2), (1000, 1000, 100), "1.8"),
        # 60 are free, then 40 of the second: its other 20 cost their share and the whole fee.
        (percentage(fee="0.5", free_amount="100"), (60, 60, 100), "2.56"),
        (percentage(fee="0.5", free_amount="100"), (60, 40, 100), "1.8"),  # what just fits is wholly free
        (percentage(fee="0.5", free_amount="100"), (60, 40, 0), "0.5"),  # nothing is left for nothing
        # The count ends it first, and what is left of the amount is lost; then the other way round.
        (percentage(fee="0.5", free_transactions=1, free_amount="100"), (60, 60), "1.28"),
        (percentage(fee="0.5", free_transactions=3, free_amount="100"), (60, 60, 60), "2.04"),
        (percentage(fee="0.5", free_amount="0"), (60,), "1.28"),
        (percentage(fee="0.5", least="1.75", most="2"), (60, 100, 1000), "5.55"),
        (percentage(free_transactions=1, least="1.75"), (60, 60), "1.75"),
        # A credit takes nothing off an allowance, and no fee comes with it.
        (percentage(fee="0.5", free_transactions=1), (-50, 100, 100), "1.15"),
        (percentage(fee="0.5", free_amount="100"), (-50, 100, 100), "1.15"),
        (percentage(), (-50, 10), "0"),
        (percentage(fee="0.5", least="2"), (), "0"),
    ],
)
def test_percentage(tariff: Tariff, amounts: Sequence[int], amount: str) -> None:
    """Transaction by transaction, in order of time."""
    assert cost(tariff, Used(amounts=[F(each) for each in amounts])) == F(amount)


def test_a_total_alone_is_one_transaction() -> None:
    """It is all that is known."""
    assert cost(percentage(fee="0.5", free_amount="100"), F(300)) == F("3.1")
    assert cost(percentage(fee="0.5", free_amount="100"), F(0)) == 0


@pytest.mark.parametrize(
    ("groups", "amount"),
    [
        ((), "14"),  # all of the 15 is what no cell names
        ((("eu", "large", 3),), "6"),
        ((("eu", "", 4),), "7"),
        ((("eu", "", 4), ("eu", "", 7)), "5.5"),  # one cell, so one quantity
        ((("eu", "small", 4), ("us", "large", 6), ("", "", 1)), "14"),  # added up before packages are made
        ((("eu", "large", -3), ("us", "", 5)), "7"),
        ((("eu", "large", 1), ("eu", "", 11), ("us", "", 11)), "21.5"),
    ],
)
def test_matrix(groups: Sequence[tuple[str, str, int]], amount: str) -> None:
    """Each cell at its own tariff, the rest together at the default one."""
    told = [Group({"region": region, "model": model}, F(quantity)) for region, model, quantity in groups]
    assert cost(REGIONS, Used(quantity=F(15), groups=told)) == F(amount)


def test_a_dimension_that_is_not_named_is_empty() -> None:
    """Missing and empty are the same to a cell."""
    assert cost(REGIONS, Used(groups=[Group({"region": "eu"}, F(4))])) == 7


def test_dynamic() -> None:
    """The sum of what usage events carry, with a fifth on top."""
    assert cost(Tariff(Dynamic(F("1.2"))), Used(amounts=[F("1.5"), F("2.25"), F("-0.75")])) == F("3.6")
    assert cost(Tariff(Dynamic()), F("3.14")) == F("3.14")


@pytest.mark.parametrize(
    ("cpu", "disk", "amount"), [(0, 0, 10), (2, 100, 10), (3, 1, 25), (1, 101, 25), (4, 501, 90), (5, 1, 90)]
)
def test_capacity(cpu: int, disk: int, amount: int) -> None:
    """The first size that holds every meter, each up to its limit."""
    assert cost(SIZES, Used(meters={"cpu": F(cpu), "disk": F(disk)})) == amount


@pytest.mark.parametrize(
    ("conversion", "quantity", "converted"),
    [
        (Conversion(factor=F(1, 1000)), "1234", "1.234"),
        (Conversion(factor=F(1, 1000), rounding="UP"), "1001", "2"),
        (Conversion(factor=F(1, 1000), rounding="DOWN"), "1999", "1"),
        (Conversion(factor=F(1, 1000), rounding="HALF_UP"), "1500", "2"),
        (Conversion(factor=F(1, 3600), rounding="HALF_UP", decimals=2), "1799", "0.50"),
        (Conversion(factor=F(3), rounding="UP", decimals=-2), "67", "300"),
        (Conversion(rounding="DOWN", decimals=1), "0.19", "0.1"),
    ],
)
def test_conversion(conversion: Conversion, quantity: str, converted: str) -> None:
    """What is counted becomes what is priced before anything else."""
    assert cost(Tariff(PerUnit(F(1)), conversion=conversion), F(quantity)) == F(converted)


OPERATED = Tariff(
    PerUnit(F(2)),
    conversion=Conversion(factor=F(1, 10), rounding="UP"),
    free_units=F(3),
    discount_percent=F("12.5"),
    minimum=F(5),
    maximum=F(20),
)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        ("0", "5"),  # the minimum, also without usage
        ("30", "5"),
        ("51", "5.25"),  # 6 converted, 3 of them free, 6.00 less an eighth
        ("140", "19.25"),
        ("141", "20"),  # 21.00 is more than the maximum
    ],
)
def test_operators_in_their_order(quantity: str, amount: str) -> None:
    """Each works on what the one before it left."""
    assert cost(OPERATED, F(quantity)) == F(amount)


def test_the_quantity_of_a_tier_is_converted_and_freed_too() -> None:
    """Else a tier would be chosen by numbers that no tier is made for."""
    tariff = replace(VOLUME, conversion=Conversion(factor=F(1, 10)), free_units=F(1))
    assert cost(tariff, Used(quantity=F(60), tier_quantity=F(110))) == 25
    assert cost(tariff, Used(quantity=F(60), tier_quantity=F(111))) == 27


@pytest.mark.parametrize(
    ("changes", "amount"),
    [
        ((("2", "2"),), "61"),
        ((("3", "3"),), "77"),
        # Two of the three of half a month are in the first tier: 1 and 0.5 of them.
        ((("3", "1.5"),), "42"),
        # Two for a month; then two more for half a month in the second tier, and one of them off for a quarter.
        ((("2", "2"), ("2", "1"), ("-1", "-0.25")), "74.5"),
        # From 3 to 1: half in each tier.
        ((("3", "3"), ("-2", "-1")), "57"),
        # Below zero is the first tier, and the whole is not less than nothing.
        ((("-2", "-2"), ("3", "1")), "0"),
        ((("-2", "-0.5"), ("3", "1")), "16"),
        ((("1", "1"), ("-1", "-1")), "1"),
    ],
)
def test_changes_walk_the_tiers(changes: Sequence[tuple[str, str]], amount: str) -> None:
    """Each unit lies in a tier, and each tier that was reached into costs its flat amount in full."""
    used = Used(changes=[Change(F(quantity), F(prorated)) for quantity, prorated in changes])
    assert cost(SEATS, used) == F(amount)


@pytest.mark.parametrize(
    ("changes", "amount"),
    # Of 2 that are free nothing is in a tier, so the first flat amount is due only because the price says so.
    [((("2", "2"),), "1"), ((("3", "3"),), "31"), ((("5", "2.5"),), "42")],
)
def test_changes_above_free_units(changes: Sequence[tuple[str, str]], amount: str) -> None:
    """The tiers begin where the free units end."""
    assert isinstance(SEATS.model, Graduated)
    tariff = replace(SEATS, model=replace(SEATS.model, flat_without_usage=True), free_units=F(2))
    used = Used(changes=[Change(F(quantity), F(prorated)) for quantity, prorated in changes])
    assert cost(tariff, used) == F(amount)


def test_changes_of_any_other_model_add_up() -> None:
    """By what was used of the period; VOLUME chooses by what there is at its end."""
    used = Used(changes=[Change(F(21), F("10.5")), Change(F(-1), F("-0.5"))])
    assert cost(Tariff(PerUnit(F(5))), used) == 50
    assert cost(VOLUME, used) == 47


def test_changes_have_no_packages() -> None:
    """A started package cannot be spread over a period."""
    packed = Tariff(Graduated([Step(up_to=None, unit_price=F(1), package_size=F(2))]))
    with pytest.raises(ValueError, match="packages"):
        cost(packed, Used(changes=[Change(F(1), F(1))]))


def test_what_is_due_is_the_difference_of_rounded_amounts() -> None:
    """55 units at 0.067 are 3.685, billed as 3.69: nothing more is due, and nothing was lost."""
    tariff = Tariff(PerUnit(F("0.067")))
    assert due(tariff, F(55), "EUR", before=Before(billed=369)) == 0
    assert due(tariff, F(5), "EUR", before=Before(quantity=F(50))) == 34  # 3.69 less 3.35
    assert due(tariff, F(-5), "EUR", before=Before(quantity=F(50), billed=335)) == -33  # 3.015 is 3.02


def test_started_packages_of_a_whole_period() -> None:
    """Two parts of 1400 and 1300 by started thousands are 3 thousands, not 2 and 2."""
    assert due(PACKAGES, F(1400), "EUR") == 500
    assert due(PACKAGES, F(1300), "EUR", before=Before(quantity=F(1400))) == 250
    converted = Tariff(PerUnit(F(1)), conversion=Conversion(factor=F(1, 1000), rounding="UP"))
    assert due(converted, F(1300), "EUR", before=Before(quantity=F(1400))) == 100


@pytest.mark.parametrize(
    ("model", "amount"),
    [
        (Flat(F(9)), 0),
        (Volume(TIERS), 0),
        (PerUnit(F(2)), 1000),
        (Graduated(TIERS), 2500),
        (Matrix(dimensions=("region",), cells={("eu",): Volume(TIERS)}, default=PerUnit(F(2))), 1000),
    ],
)
def test_what_may_still_change_is_not_due(model: Model, amount: int) -> None:
    """And neither is the minimum; what only grows is."""
    assert due(Tariff(model, minimum=F(500)), F(5), "EUR", under_way=True) == amount


def test_an_amount_in_advance_is_due_at_once() -> None:
    """It does not wait for the end of what it is paid for."""
    assert due(Tariff(Flat(F(9)), metered=False, in_advance=True), F(5), "EUR", under_way=True) == 900


def test_transactions_since_the_last_bill() -> None:
    """What was billed counts towards minimum and maximum, and a credit takes it back but no more than that."""
    tariff = replace(percentage(), minimum=F(2), maximum=F(5), discount_percent=F(50))
    billed = Before(billed=150)
    assert due(tariff, Used(amounts=[F(200)]), "EUR", before=billed) == 130
    assert due(tariff, Used(amounts=[F(10)]), "EUR", before=billed) == 50  # 1.565, raised to 2
    assert due(tariff, Used(amounts=[F(1000)]), "EUR", before=billed) == 350
    assert due(replace(tariff, minimum=F(0)), Used(amounts=[F(-1000)]), "EUR", before=billed) == -150
    assert due(Tariff(Dynamic()), Used(amounts=[F("2.005")]), "EUR", before=Before(billed=150)) == 201


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("0.005", "EUR", 1),
        ("0.0049999999", "EUR", 0),
        ("-0.005", "EUR", -1),
        ("1.5", "JPY", 2),
        ("0.0005", "KWD", 1),
        ("2.675", "USD", 268),
    ],
)
def test_halves_go_away_from_zero(amount: str, currency: str, rounded: int) -> None:
    """One rule for every currency and either sign."""
    assert minor(F(amount), currency) == rounded


def test_a_third_is_never_a_float() -> None:
    """A share of a month has no last decimal."""
    assert minor(F(100) * F(1, 3), "EUR") == 3333


def test_decimals_of_currencies() -> None:
    """The table is a copy made by hand, so that a wrong one elsewhere shows."""
    assert [decimals(currency) for currency in ("JPY", "EUR", "BHD", "CLF")] == [0, 2, 3, 4]
