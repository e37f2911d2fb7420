"""The independent rater against figures worked out by hand: it must not learn from what it checks."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tools.check.rater import Step, Tariff, cost, decimals, minor

TIERS = Tariff(
    steps=(
        Step(up_to=Fraction(10), unit_price=Fraction(5), flat_amount=Fraction(0)),
        Step(up_to=Fraction(20), unit_price=Fraction(4), flat_amount=Fraction(7)),
        Step(up_to=None, unit_price=Fraction(3), flat_amount=Fraction(1, 2)),
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
    assert cost(TIERS, Fraction(quantity)) == Fraction(amount)


@pytest.mark.parametrize("tariff", [TIERS, Tariff(unit_price=Fraction(5))])
def test_less_than_nothing_costs_what_nothing_costs(tariff: Tariff) -> None:
    """Usage that was taken back twice is not money that is owed to the customer."""
    assert cost(tariff, Fraction(-3)) == 0


def test_flat_is_the_same_whatever_the_quantity() -> None:
    """A thousand of it cost what one costs."""
    assert cost(Tariff(flat=Fraction("9.99")), Fraction(1000)) == Fraction("9.99")


def test_per_unit_is_exact() -> None:
    """January of the real household: 64.1647... pounds."""
    exact = cost(Tariff(unit_price=Fraction("0.14228")), Fraction("450.9750001"))
    assert exact == Fraction("64.164723014228")
    assert minor(exact, "GBP") == 6416


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
    assert minor(Fraction(amount), currency) == rounded


def test_a_third_is_never_a_float() -> None:
    """A share of a month has no last decimal."""
    assert minor(Fraction(100) * Fraction(1, 3), "EUR") == 3333


def test_decimals_of_currencies() -> None:
    """The table is a copy made by hand, so that a wrong one elsewhere shows."""
    assert [decimals(currency) for currency in ("JPY", "EUR", "BHD", "CLF")] == [0, 2, 3, 4]
