"""Knows who bills and who is billed: what is printed about them, and on what terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CollectionMethod(Enum):
    CHARGE_AUTOMATICALLY = "CHARGE_AUTOMATICALLY"
    SEND_INVOICE = "SEND_INVOICE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A postal address in the parts that google.type.PostalAddress has."""

    region_code: str = ""
    language_code: str = ""
    postal_code: str = ""
    sorting_code: str = ""
    administrative_area: str = ""
    locality: str = ""
    sublocality: str = ""
    address_lines: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    organization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One side of an invoice, as printed."""

    id: str
    display_name: str
    address: Address | None = None
    tax_id: str = ""
    email: str = ""
    payment_instructions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    party: Party
    invoice_number_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    party: Party
    external_id: str
    currency: str
    time_zone: str
    net_terms_days: int
    collection_method: CollectionMethod
