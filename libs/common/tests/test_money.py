"""Money is exact: rounded once and to the nearest, split without losing any, never mixed."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InvalidArgument
from common.money import (
    MINOR_MAX,
    AmountOutOfRange,
    CurrencyMismatch,
    Money,
    UnknownCurrency,
    currencies,
    exact_product,
    exact_sum,
    minor_units,
    round_half_up,
    sum_money,
)

CURRENCIES = st.sampled_from(["JPY", "EUR", "USD", "BHD", "CLF"])
MINORS = st.integers(-(10**15), 10**15)
AMOUNTS = st.builds(Money, MINORS, CURRENCIES)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=12)
FRACTIONS = st.fractions(min_value=-(10**12), max_value=10**12, max_denominator=10**9)
WEIGHTS = st.lists(
    st.one_of(
        st.integers(0, 10**6),
        st.fractions(min_value=0, max_value=1000, max_denominator=366),
        st.decimals(min_value=0, max_value=1000, places=3),
    ),
    min_size=1,
    max_size=12,
)


def eur(amount: str) -> Money:
    return Money.rounded(Decimal(amount), "EUR")


@pytest.mark.parametrize("currency, places", [("JPY", 0), ("EUR", 2), ("HUF", 2), ("KWD", 3), ("CLF", 4)])
def test_minor_units_are_those_of_iso_4217(currency: str, places: int) -> None:
    """Other tables say otherwise for some; the standard is what banks settle by."""
    assert minor_units(currency) == places


def test_the_currencies_told_are_those_that_are_known() -> None:
    """In order of their code, each once; what has no minor units, such as gold, cannot be billed in."""
    told = currencies()
    assert told == sorted(dict(told).items())
    assert {"EUR": 2, "JPY": 0, "BHD": 3, "CLF": 4}.items() <= dict(told).items()
    assert "XAU" not in dict(told)
    assert all(minor_units(code) == places for code, places in told)


@pytest.mark.parametrize("code", ["XAU", "XXX", "XTS", "XDR", "eur", "Eur", "EURO", "", "€", "DEM", " EUR"])
def test_what_is_no_currency_is_refused(code: str) -> None:
    """Falling back to two decimals would charge a hundred times too much or too little."""
    with pytest.raises(UnknownCurrency) as refused:
        minor_units(code, field="price.currency")
    assert refused.value.field == "price.currency"
    assert isinstance(refused.value, InvalidArgument)
    with pytest.raises(UnknownCurrency):
        Money(1, code)


@pytest.mark.parametrize(
    "value, places, nearest",
    [
        ("2.5", 0, "3"),
        ("-2.5", 0, "-3"),
        ("2.4999999999999999999999999999999999999999", 0, "2"),
        ("0.5", 0, "1"),
        ("-0.5", 0, "-1"),
        ("1.005", 2, "1.01"),
        ("-1.005", 2, "-1.01"),
        ("1.0049999999999999999999999999999999999", 2, "1.00"),
        ("7", 2, "7.00"),
        ("9.995", 2, "10.00"),
        ("1234567890123456789012345678901234567890.5", 0, "1234567890123456789012345678901234567891"),
        ("1E+3", 2, "1000.00"),
        ("1E-30", 2, "0.00"),
    ],
)
def test_halves_are_rounded_away_from_zero(value: str, places: int, nearest: str) -> None:
    """The rule that people, tax offices and all published cases expect, at any number of digits."""
    assert str(round_half_up(Decimal(value), places)) == nearest
    assert str(round_half_up(Fraction(value), places)) == nearest


@settings(deadline=None)
@given(st.one_of(DECIMALS, FRACTIONS), st.integers(0, 12))
def test_the_rounded_value_is_the_nearest(value: Decimal | Fraction, places: int) -> None:
    """Off by half a unit at most, and by exactly half only away from zero."""
    rounded = Fraction(round_half_up(value, places))
    error = (rounded - Fraction(value)) * 10**places
    assert abs(error) <= Fraction(1, 2)
    assert (rounded * 10**places).denominator == 1
    if abs(error) == Fraction(1, 2):
        assert abs(rounded) > abs(Fraction(value))


@settings(deadline=None)
@given(st.one_of(DECIMALS, FRACTIONS))
def test_rounding_mirrors(value: Decimal | Fraction) -> None:
    """A credit of an amount is the amount with its sign turned, to the cent."""
    assert round_half_up(-value) == -round_half_up(value)
    assert isinstance(round_half_up(value), int)


@settings(deadline=None)
@given(st.integers(-(10**39), 10**39), st.integers(0, 60), st.integers(1, 50))
def test_the_context_does_not_matter(digits: int, scale: int, precision: int) -> None:
    """Some library will one day set the precision of the thread; our cents must not depend on it."""
    value = Decimal((int(digits < 0), tuple(int(digit) for digit in str(abs(digits))), -scale))
    truth = round_half_up(Fraction(digits, 10**scale), 2)
    with decimal.localcontext() as context:
        context.prec = precision
        context.rounding = decimal.ROUND_DOWN
        assert round_half_up(value, 2) == truth
        assert Fraction(exact_product(value, value)) == Fraction(digits, 10**scale) ** 2
        assert Fraction(exact_sum([value, Decimal(1)])) == Fraction(digits, 10**scale) + 1
        assert Fraction(Money(MINOR_MAX, "EUR").amount) == Fraction(MINOR_MAX, 100)


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_not_rounded(value: str) -> None:
    """Never zero, never silently."""
    with pytest.raises(ValueError, match="cannot be rounded"):
        round_half_up(Decimal(value), 2)


def test_rounding_before_the_point_is_refused() -> None:
    """A negative number of places is a mistake: no currency has one."""
    for value in (Decimal("15"), Fraction(15)):
        with pytest.raises(ValueError, match="not rounding to a currency"):
            round_half_up(value, -1)


def test_what_rounds_to_nothing_has_no_sign() -> None:
    """Nobody is owed minus zero."""
    assert str(round_half_up(Decimal("-0.001"), 2)) == "0.00"
    assert str(Money.rounded(Decimal("-0.001"), "EUR")) == "0.00 EUR"


@pytest.mark.parametrize(
    "money, text",
    [
        (Money(6416, "GBP"), "64.16 GBP"),
        (Money(-5, "EUR"), "-0.05 EUR"),
        (Money(500, "JPY"), "500 JPY"),
        (Money(1, "BHD"), "0.001 BHD"),
        (Money(0, "EUR"), "0.00 EUR"),
        (Money(10**17, "EUR"), "1000000000000000.00 EUR"),
    ],
)
def test_money_reads_like_money(money: Money, text: str) -> None:
    """Error messages and logs show it so."""
    assert str(money) == text


@settings(deadline=None)
@given(AMOUNTS)
def test_an_amount_is_its_own_rounding(money: Money) -> None:
    """`amount` and `rounded` are inverse, as decimal and as fraction."""
    assert Money.rounded(money.amount, money.currency) == money
    assert Money.rounded(Fraction(money.amount), money.currency) == money


@settings(deadline=None)
@given(MINORS, MINORS, CURRENCIES)
def test_arithmetic_is_that_of_whole_numbers(one: int, other: int, currency: str) -> None:
    """Nothing is ever rounded by adding."""
    a, b = Money(one, currency), Money(other, currency)
    assert (a + b).minor == one + other
    assert (a - b) == a + -b
    assert abs(a).minor == abs(one)
    assert (a * 3) == 3 * a == a + a + a
    assert (a < b, a <= b, a > b, a >= b) == (one < other, one <= other, one > other, one >= other)
    assert sum_money([a, b, a], currency).minor == 2 * one + other


@pytest.mark.parametrize(
    "combine",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a < b,
        lambda a, b: a <= b,
        lambda a, b: a > b,
        lambda a, b: a >= b,
        lambda a, b: sum_money([a, b], a.currency),
        lambda a, b: sum_money([b], a.currency),
    ],
)
def test_currencies_do_not_mix(combine: Callable[[Money, Money], object]) -> None:
    """Ten euros and ten yen are not twenty of anything, and neither is the larger."""
    with pytest.raises(CurrencyMismatch) as refused:
        combine(Money(10, "EUR"), Money(10, "JPY"))
    assert set(refused.value.metadata) == {"currency", "other_currency"}


def test_different_currencies_are_merely_unequal() -> None:
    """Money is a key of dictionaries and sets, so asking for equality cannot fail."""
    assert Money(10, "EUR") != Money(10, "JPY")
    assert len({Money(10, "EUR"), Money(10, "JPY"), Money(10, "EUR")}) == 2


def test_a_sum_of_nothing_is_zero_of_its_currency() -> None:
    """An invoice without lines has a total."""
    assert sum_money([], "JPY") == Money.zero("JPY")


@pytest.mark.parametrize("amount", [Decimal("1E+17"), Decimal("1E+999999"), Fraction(10**40), Decimal("9" * 999)])
def test_more_than_can_be_stored_is_refused(amount: Decimal | Fraction) -> None:
    """An overflowing column would be an internal error in the middle of a bill run."""
    with pytest.raises(AmountOutOfRange):
        Money.rounded(amount, "EUR")
    with pytest.raises(AmountOutOfRange):
        Money.rounded(-amount, "EUR")


def test_the_largest_amount_is_an_amount() -> None:
    """The limit itself is inside, one more is not, whichever way one gets there."""
    largest = Money(MINOR_MAX, "EUR")
    assert -largest == Money(-MINOR_MAX, "EUR")
    with pytest.raises(AmountOutOfRange):
        largest + Money(1, "EUR")
    with pytest.raises(AmountOutOfRange):
        -largest - Money(1, "EUR")
    with pytest.raises(AmountOutOfRange):
        largest * 2


@pytest.mark.parametrize("minor", [Decimal(5), 5.0, "5", True])
def test_minor_units_are_counted(minor: object) -> None:
    """What a driver returns for a numeric column must not slip in as money."""
    with pytest.raises(TypeError, match="counted"):
        Money(minor, "EUR")  # type: ignore[arg-type]  # what the types forbid is what is tested


@pytest.mark.parametrize(
    "whole, weights, shares",
    [
        ("1.00", [1, 1, 1], ["0.34", "0.33", "0.33"]),
        ("-1.00", [1, 1, 1], ["-0.34", "-0.33", "-0.33"]),
        ("0.05", [3, 7], ["0.02", "0.03"]),
        ("0.05", [7, 3], ["0.04", "0.01"]),
        ("-0.05", [7, 3], ["-0.04", "-0.01"]),
        ("1.00", [Fraction(1, 3), Fraction(2, 3)], ["0.33", "0.67"]),
        ("1.00", [Decimal("0.1"), 0, Decimal("0.3")], ["0.25", "0.00", "0.75"]),
        ("0.03", [0, 0], ["0.02", "0.01"]),
        ("0.00", [1, 2], ["0.00", "0.00"]),
        ("9.99", [5], ["9.99"]),
    ],
)
def test_shares_by_largest_remainder(whole: str, weights: list[int | Decimal | Fraction], shares: list[str]) -> None:
    """Left-over cents go where they are missed most, and to the first of equals."""
    assert eur(whole).allocate(weights) == [eur(share) for share in shares]


@settings(deadline=None)
@given(AMOUNTS, WEIGHTS)
def test_allocating_loses_nothing(whole: Money, weights: Sequence[int | Decimal | Fraction]) -> None:
    """The shares add up to the cent, and no share is a whole unit away from its exact part."""
    shares = whole.allocate(weights)
    assert sum_money(shares, whole.currency) == whole
    total = sum(Fraction(weight) for weight in weights)
    if total:
        for share, weight in zip(shares, weights, strict=True):
            exact = whole.minor * Fraction(weight) / total
            assert abs(share.minor - exact) < 1
            assert weight or not share.minor


@settings(deadline=None)
@given(AMOUNTS, WEIGHTS)
def test_a_reversal_cancels_share_by_share(whole: Money, weights: Sequence[int | Decimal | Fraction]) -> None:
    """A credit note for the whole invoice leaves nothing on any line."""
    assert [-share for share in whole.allocate(weights)] == (-whole).allocate(weights)


@settings(deadline=None)
@given(MINORS, st.lists(st.integers(0, 100), min_size=1, max_size=12), st.integers(1, 10**6))
def test_only_the_proportion_of_weights_counts(minor: int, weights: list[int], times: int) -> None:
    """Days or seconds, percent or per mille: the same shares."""
    whole = Money(minor, "EUR")
    assert whole.allocate(weights) == whole.allocate([Fraction(weight, times) for weight in weights])


@pytest.mark.parametrize("weights", [[], [1, -1], [Fraction(-1, 3)]])
def test_senseless_weights_are_refused(weights: list[int]) -> None:
    """There must be somebody to allocate to, and nobody gets less than nothing."""
    with pytest.raises(ValueError, match=r"nothing to allocate|negative"):
        eur("1.00").allocate(weights)


def test_exact_arithmetic_never_rounds() -> None:
    """What would need more digits than any price has is an error rather than nearly right."""
    with pytest.raises(decimal.Inexact):
        exact_product(Decimal("1." + "1" * 600), Decimal("1." + "1" * 600))
    with pytest.raises(decimal.Inexact):
        exact_sum([Decimal("1E+600"), Decimal("1E-600")])
    assert exact_product() == 1
    assert exact_sum([]) == 0
