"""Knows the seller: the legal entity that bills, in wall time or in a sandbox's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from common.errors import InvalidArgument
from common.ids import SellerId

NUMBER_PREFIX_DEFAULT = "INV"
_NUMBER_PREFIX = re.compile(r"[A-Z0-9-]{1,16}")


class Mode(Enum):
    LIVE = "LIVE"
    SANDBOX = "SANDBOX"


class InvoiceNumbering(Enum):
    """When the numbers of invoices begin again: never, or with every year."""

    CONTINUOUS = "CONTINUOUS"
    YEARLY = "YEARLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    """What is printed and configured about a seller. `address` is a serialized google.type.PostalAddress."""

    id: SellerId
    mode: Mode
    display_name: str
    address: bytes
    tax_id: str
    email: str
    payment_instructions: str
    invoice_number_prefix: str
    invoice_numbering: InvoiceNumbering
    revision: int
    create_time: datetime
    update_time: datetime


def check_number_prefix(prefix: str, *, field: str) -> str:
    """What invoice numbers begin with; `INV` when nothing is said."""
    if not prefix:
        return NUMBER_PREFIX_DEFAULT
    if not _NUMBER_PREFIX.fullmatch(prefix):
        raise InvalidArgument("must be 1 to 16 of A-Z, 0-9 and -", field=field)
    return prefix
