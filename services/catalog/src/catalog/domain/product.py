"""Knows the product, how it is taxed, and the codes by which sellers name what they sell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType

from common.errors import InvalidArgument

ProductId = NewType("ProductId", str)
TaxCodeId = NewType("TaxCodeId", str)

_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    id: ProductId
    code: str
    display_name: str
    description: str
    unit_label: str
    tax_code: str
    revision: int
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxCode:
    """How a product is taxed, in the words of whoever computes taxes."""

    id: TaxCodeId
    code: str
    display_name: str
    description: str
    create_time: datetime


def check_code(code: str, *, field: str = "code") -> str:
    if not _CODE.fullmatch(code):
        raise InvalidArgument("must be 1 to 64 of a-z, 0-9, _ and -", field=field)
    return code
