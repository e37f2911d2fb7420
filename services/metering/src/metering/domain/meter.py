"""Knows what is measured, and how its usage events become one quantity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument

MeterId = NewType("MeterId", str)

_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")


class Aggregation(Enum):
    SUM = "SUM"
    COUNT = "COUNT"

    def quantity(self, *, event_count: int, value_sum: Decimal) -> Decimal:
        """What the usage events of a period come to. COUNT does not look at values, not even at negative ones."""
        return value_sum if self is Aggregation.SUM else Decimal(event_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Never changes: a quantity that was billed must mean the same for ever."""

    id: MeterId
    code: str
    display_name: str
    aggregation: Aggregation
    unit_label: str
    revision: int
    create_time: datetime


def check_code(code: str, *, field: str = "code") -> str:
    if not _CODE.fullmatch(code):
        raise InvalidArgument("must be 1 to 64 of a-z, 0-9, _ and -", field=field)
    return code
