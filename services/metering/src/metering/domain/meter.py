"""Knows what is measured, and how its usage events become one quantity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from metering.domain.dimension import check_dimension

MeterId = NewType("MeterId", str)

_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")


class Aggregation(Enum):
    """How the values of a period are made one quantity; `store.usages` computes it, where the usage events are."""

    SUM = "SUM"
    COUNT = "COUNT"
    MAX = "MAX"
    LATEST = "LATEST"
    UNIQUE_COUNT = "UNIQUE_COUNT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Never changes: a quantity that was billed must mean the same for ever."""

    id: MeterId
    code: str
    display_name: str
    aggregation: Aggregation
    unit_label: str
    unique_dimension: str
    """Whose different values UNIQUE_COUNT counts; empty for any other aggregation."""
    revision: int
    create_time: datetime


def check_code(code: str, *, field: str = "code") -> str:
    if not _CODE.fullmatch(code):
        raise InvalidArgument("must be 1 to 64 of a-z, 0-9, _ and -", field=field)
    return code


def check_unique_dimension(name: str, aggregation: Aggregation) -> str:
    """UNIQUE_COUNT means nothing without a dimension; for any other aggregation one would be ignored without a word."""
    if aggregation is Aggregation.UNIQUE_COUNT:
        check_dimension(name, field="unique_dimension")
    elif name:
        raise InvalidArgument("must be empty unless the aggregation is UNIQUE_COUNT", field="unique_dimension")
    return name
