"""Knows the numbers of a price on the wire; its domain says how large and how fine each may be."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from google.protobuf.message import Message
from google.type import decimal_pb2

from common import wire
from common.errors import InvalidArgument


def number_to_proto(number: Decimal | None) -> decimal_pb2.Decimal | None:
    return None if number is None else wire.decimal(number)


def optional_number(message: Message, name: str, *, field: str) -> Decimal | None:
    """The number in the field of that name, if there is one; `field` is that of the message."""
    if not message.HasField(name):
        return None
    return wire.parse_decimal(
        getattr(message, name),
        field=f"{field}.{name}",
        places_max=_ANY_NUMBER_OF_DIGITS,
        digits_max=_ANY_NUMBER_OF_DIGITS,
    )


def required_number(message: Message, name: str, *, field: str) -> Decimal:
    number = optional_number(message, name, field=field)
    if number is None:
        raise InvalidArgument("is required", field=f"{field}.{name}")
    return number


# More than a text that can be read stands for: the limits, and what is said about them, are the domain's.
_ANY_NUMBER_OF_DIGITS: Final = 2_000
