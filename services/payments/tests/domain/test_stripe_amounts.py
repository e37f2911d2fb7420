"""Stripe does not count all money as ISO 4217 does."""

from __future__ import annotations

import pytest

from common.money import Money
from payments.gateways.stripe import AmountNotChargeable, stripe_amount


@pytest.mark.parametrize(
    ("money", "expected"),
    [
        (Money(6416, "GBP"), 6416),
        (Money(500, "JPY"), 500),
        (Money(500, "ISK"), 50_000),
        (Money(500, "UGX"), 50_000),
        (Money(500, "MGA"), 5),
        (Money(5120, "KWD"), 5120),
        (Money(1, "EUR"), 1),
    ],
)
def test_an_amount_is_told_as_stripe_counts_it(money: Money, expected: int) -> None:
    """A wrong power of ten is a hundredfold bill."""
    assert stripe_amount(money) == expected


@pytest.mark.parametrize("money", [Money(5124, "KWD"), Money(250, "MGA"), Money(100, "CLF")])
def test_what_stripe_cannot_say_is_refused_not_rounded(money: Money) -> None:
    """What is owed is what is collected, or nothing is."""
    with pytest.raises(AmountNotChargeable):
        stripe_amount(money)
