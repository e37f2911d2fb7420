"""Coupons: shares that lose nothing, one after the other, never more than there is."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, round_half_up
from invoicing.domain.discount import AmountOff, Discount, DiscountableLine, PercentOff, discounted


def lines(*minors: int, currency: str = "EUR") -> list[DiscountableLine]:
    return [DiscountableLine(amount=Money(minor, currency)) for minor in minors]


def percent(text: str) -> Discount:
    return Discount(benefit=PercentOff(percent=Decimal(text)))


def off(minor: int, *, used: int = 0, currency: str = "EUR") -> Discount:
    return Discount(benefit=AmountOff(amounts=(Money(minor, currency),), used=Money(used, currency)))


def shares(found: list[DiscountableLine], *discounts: Discount) -> list[list[int]]:
    return [[share.minor for share in taken.shares] for taken in discounted(found, discounts).taken]


def test_a_percentage_is_rounded_once_and_then_spread() -> None:
    """A third of two lines of 1.00 is 0.67; rounded line by line, a cent would be lost."""
    assert shares(lines(100, 100), percent("33.33")) == [[34, 33]]


def test_half_a_cent_is_rounded_up() -> None:
    """As all money of Saldo is."""
    assert shares(lines(1), percent("50")) == [[1]]
    assert shares(lines(1), percent("49.999999999999")) == [[0]]


@pytest.mark.parametrize(
    ("minors", "minor", "expected"),
    [
        ((1000, 1000), 1500, [750, 750]),
        ((300, 1200), 750, [150, 600]),
        ((1000, 1000), 2500, [1000, 1000]),
        ((100, 200), 100, [33, 67]),
        ((0, 200), 100, [0, 100]),
        ((0, 0), 100, [0, 0]),
    ],
)
def test_an_amount_is_spread_in_proportion_and_capped(minors: tuple[int, ...], minor: int, expected: list[int]) -> None:
    """What is left over goes to the largest remainder, and no line pays its customer."""
    assert shares(lines(*minors), off(minor)) == [expected]


def test_each_takes_from_what_the_ones_before_it_left() -> None:
    """15% and 20% of 1.00 are 0.15 and 0.17, not 0.35."""
    found = discounted(lines(100), [percent("15"), percent("20")])
    assert [taken.amount.minor for taken in found.taken] == [15, 17]
    assert found.remaining == (Money(68, "EUR"),)


def test_the_order_matters() -> None:
    """Who redeemed the fixed amount first gets less out of the percentage."""
    assert shares(lines(1000), off(200), percent("10")) == [[200], [80]]
    assert shares(lines(1000), percent("10"), off(200)) == [[100], [200]]


def test_what_was_used_of_an_amount_is_gone() -> None:
    """And of one that was used up, or by mistake more than that, nothing is left."""
    assert shares(lines(300), off(12, used=6)) == [[6]]
    assert shares(lines(300), off(12, used=12)) == [[0]]
    assert shares(lines(300), off(12, used=13)) == [[0]]


def test_an_amount_in_another_currency_takes_nothing_off() -> None:
    """No exchange rate is agreed upon; what was used in one currency says nothing about another."""
    assert shares(lines(300, currency="USD"), off(12)) == [[0]]
    both = AmountOff(amounts=(Money(12, "EUR"), Money(15, "USD")), used=Money(12, "EUR"))
    assert shares(lines(300, currency="USD"), Discount(benefit=both)) == [[15]]


def test_only_what_a_coupon_is_for_is_discounted() -> None:
    """The share is of the lines it applies to, not of the invoice; both restrictions have to fit."""
    found = [
        DiscountableLine(amount=Money(1000, "EUR"), product="seats", plan="pro"),
        DiscountableLine(amount=Money(1000, "EUR"), product="seats", plan="free"),
        DiscountableLine(amount=Money(1000, "EUR"), product="calls", plan="pro"),
        DiscountableLine(amount=Money(1000, "EUR")),
    ]
    half = PercentOff(percent=Decimal(50))
    assert shares(found, Discount(benefit=half, products=frozenset({"seats"}))) == [[500, 500, 0, 0]]
    assert shares(found, Discount(benefit=half, plans=frozenset({"pro"}))) == [[500, 0, 500, 0]]
    both = Discount(benefit=half, products=frozenset({"seats", "x"}), plans=frozenset({"pro"}))
    assert shares(found, both) == [[500, 0, 0, 0]]
    amount = AmountOff(amounts=(Money(5000, "EUR"),))
    assert shares(found, Discount(benefit=amount, products=frozenset({"calls"}))) == [[0, 0, 1000, 0]]


minors = st.lists(st.integers(0, 10**12), min_size=1, max_size=8)
discounts = st.lists(
    st.one_of(
        st.decimals("0.000000000001", 100, places=12).map(lambda each: percent(str(each))),
        st.integers(1, 10**12).map(off),
    ),
    max_size=6,
)


@given(minors, discounts)
def test_nothing_is_lost_and_nobody_is_paid(amounts: list[int], applied: list[Discount]) -> None:
    """The shares add up to the discount, what is left and what was taken to the lines, and none is below zero."""
    found = discounted(lines(*amounts), applied)
    for taken in found.taken:
        assert taken.amount.minor == sum(share.minor for share in taken.shares)
        assert min(share.minor for share in taken.shares) >= 0
    assert min(left.minor for left in found.remaining) >= 0
    for n, minor in enumerate(amounts):
        assert found.remaining[n].minor + sum(taken.shares[n].minor for taken in found.taken) == minor


@given(minors, st.decimals("0.000000000001", 100, places=12))
def test_a_share_is_at_most_a_cent_from_its_proportion(amounts: list[int], share: Decimal) -> None:
    """Spreading is fair: whoever checks a line with a calculator is off by less than one cent, besides the rounding."""
    [taken] = discounted(lines(*amounts), [percent(str(share))]).taken
    total = sum(amounts)
    assert taken.amount.minor == round_half_up(total * Fraction(share) / 100)
    for minor, part in zip(amounts, taken.shares, strict=True):
        assert abs(Fraction(part.minor) - Fraction(taken.amount.minor * minor, total or 1)) < 1
