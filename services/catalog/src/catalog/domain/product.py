"""Knows the product, and the codes by which sellers name what they sell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType

from common.errors import InvalidArgument

ProductId = NewType("ProductId", str)

_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    id: ProductId
    code: str
    display_name: str
    description: str
    unit_label: str
    revision: int
    create_time: datetime


def check_code(code: str, *, field: str = "code") -> str:
    if not _CODE.fullmatch(code):
        raise InvalidArgument("must be 1 to 64 of a-z, 0-9, _ and -", field=field)
    return code
