"""Knows where in a document stands what a message was made of, so that what is wrong with a field is shown there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from google.protobuf.message import Message
from google.type import decimal_pb2

from common.document import Fault, Malformed, Value
from common.errors import InvalidArgument, Violation
from saldo.catalog.v1 import price_pb2

UNITS: Final = ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
NUMBER: Final = "a decimal number"
INT32_MAX: Final = 2**31 - 1
UTC: Final = "UTC"
"""A date in a catalog is its midnight there."""


class Places:
    """By the path of a field within its message. What has no place of its own stands where its message stands."""

    def __init__(self, value: Value) -> None:
        self._values = {"": value}

    def note(self, path: str, value: Value) -> Value:
        self._values[path.lstrip(".")] = value
        return value

    def number(self, message: Message, name: str, value: Value, *, path: str) -> None:
        """Take a number as it is written: what is sound, the rules of the message say."""
        self.note(path, value)
        getattr(message, name).CopyFrom(decimal_pb2.Decimal(value=value.scalar(NUMBER)))

    def malformed(self, error: InvalidArgument) -> Malformed:
        """What is wrong with the message, as what is wrong with the document."""
        return Malformed([self._fault(violation) for violation in error.violations])

    def _fault(self, violation: Violation) -> Fault:
        field = path = violation.field.lstrip(".")
        while path not in self._values:
            path = _PART.sub("", path)
        value = self._values[path]
        reason = violation.description
        if path == field and value.written and reason.startswith(_ABOUT_THE_VALUE):
            reason += f", not {value.written[:40]!a}"
        (fault,) = value.fault(reason).faults
        return fault


def interval(value: Value) -> price_pb2.BillingInterval:
    """`MONTH`, or `{unit: MONTH, count: 6}`."""
    count = 1
    if value.is_mapping:
        fields = value.fields(required=["unit"], optional=["count"])
        count = fields["count"].whole(0, INT32_MAX) if "count" in fields else 1
        value = fields["unit"]
    return price_pb2.BillingInterval(unit=price_pb2.BillingInterval.Unit.Value(value.choice(UNITS)), count=count)


def only_one(value: Value, found: Collection[str], known: Sequence[str]) -> str:
    """Of several keys that exclude one another, the one that is there."""
    names = [name for name in known if name in found]
    if len(names) != 1:
        raise value.fault(f"must have exactly one of {', '.join(known[:-1])} and {known[-1]}")
    return names[0]


_PART: Final = re.compile(r"(?:\[\d+\]|(?:^|\.)[^.\[\]]+)$")
# Other reasons say what is there, or that nothing may be.
_ABOUT_THE_VALUE: Final = ("must be a decimal", "must be an ISO", "must be 1 to 64", "must have at most")
