"""Knows the payment method: a token that only its gateway understands, and never a card number."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NewType

from payments.domain.errors import CardNumberRefused

PaymentMethodId = NewType("PaymentMethodId", str)

CARD_DIGITS_MIN: Final = 13
CARD_DIGITS_MAX: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    id: PaymentMethodId
    customer_id: str
    gateway: str
    token: str
    display_name: str
    default: bool
    revision: int
    create_time: datetime

    def give_way(self) -> PaymentMethod:
        """Another one is the default from now on."""
        return replace(self, default=False, revision=self.revision + 1)


def check_no_card_number(text: str, *, field: str) -> None:
    """Refuse what could be a card number, also one written in groups and with other digits around it.

    The message does not repeat it: what must not be stored must not be logged either.
    """
    for row in _GROUPED_DIGITS.findall(_UUID.sub("", text)):
        groups = _DIGITS.findall(row)
        for first in range(len(groups)):
            number = ""
            for group in groups[first:]:
                number += group
                if CARD_DIGITS_MIN <= len(number) <= CARD_DIGITS_MAX and _passes_luhn(number):
                    raise CardNumberRefused("must not be a card number; attach the gateway's token of it", field=field)


def _passes_luhn(number: str) -> bool:
    """The check digit that every card number carries."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[0::2]) + sum(doubled)) % 10 == 0


_DIGITS: Final = re.compile(r"\d+")
# In a UUID, written with or without its hyphens, digits come together by chance. One of digits alone is suspect.
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9-]{0,35}[a-f])[0-9a-f]{8}-?[0-9a-f]{4}-?[1-8][0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}(?![0-9A-Za-z])"
)
# One or two of these between digits still read as one number.
_GROUPED_DIGITS: Final = re.compile(r"\d+(?:[\s./_\u2010-\u2015-]{1,2}\d+)*")
