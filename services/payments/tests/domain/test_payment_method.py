"""Card numbers stay out, however they are written; tokens come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.domain import decline
from payments.domain.errors import CardNumberRefused
from payments.domain.payment_method import check_no_card_number

VISA = "4242424242424242"


@pytest.mark.parametrize(
    "text",
    [
        VISA,
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "4242.4242.4242.4242",
        "4242 4242 – 4242 4242".replace(" – ", "–"),
        "378282246310005",
        "3782 822463 10005",
        "4222222222222",
        "6304000000000000000",
        "Visa 4242 4242 4242 4242 12/30",
        "12 4242424242424242",
        "42424242-4242-4242-8000-000000000000",
        f"tok_{VISA}",
        "card=4242 4242 4242 4242 cvc=123",
        "４２４２４２４２４２４２４２４２",
    ],
)
def test_a_card_number_is_refused(text: str) -> None:
    """It must reach no table, no log and no event; and the refusal does not repeat it."""
    with pytest.raises(CardNumberRefused) as refusal:
        check_no_card_number(text, field="token")
    assert refusal.value.field == "token"
    assert VISA not in refusal.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pm_1MqM05LkdIwHu7ixlDxxO6Mc",
        "sim:delay=60000+decline=insufficient_funds,ok",
        "Visa •••• 4242",
        "4242424242424241",
        "424242424242",
        "SEPA DE89 … 3000",
        "2026-01-31 12:00:00",
        "sim:ok#8f2e4c1a-95c0-4d7b-a716-446655440006",
        "sim:ok#0b424242424242428003beef0a55aabb",
    ],
)
def test_what_is_no_card_number_passes(text: str) -> None:
    """Tokens and what people see of a card."""
    check_no_card_number(text, field="token")


def _check_digit(number: str) -> str:
    total = 0
    for index, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if index % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


@given(st.text("0123456789", min_size=12, max_size=18), st.integers(0, 8))
def test_a_right_check_digit_is_refused_and_a_wrong_one_passes(stem: str, shift: int) -> None:
    """Always, for every length of card there is."""
    right = _check_digit(stem)
    with pytest.raises(CardNumberRefused):
        check_no_card_number(stem + right, field="token")
    wrong = (int(right) + 1 + shift) % 10
    check_no_card_number(f"{stem}{wrong}", field="token")


def test_a_code_is_soft_or_hard() -> None:
    """Never both; one that nobody knows is soft."""
    assert not decline.SOFT & decline.HARD
    assert decline.retryable("insufficient_funds")
    assert decline.retryable("a_code_of_next_year")
    assert not decline.retryable("stolen_card")
