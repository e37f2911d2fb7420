"""Knows who bills and who is billed: what is printed about them, and on what terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
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
    is_numbered_yearly: bool = False

    def series_of(self, invoice_date: date) -> str:
        """The series of numbers that an invoice of that date belongs to."""
        prefix = self.invoice_number_prefix
        return f"{prefix}-{invoice_date.year:04d}" if self.is_numbered_yearly else prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerName:
    """What usage may call a customer beside its id, in periods that begin in `[since, until)`; None is no bound."""

    key: str
    since: datetime | None = None
    until: datetime | None = None

    def counts_from(self, start: datetime) -> bool:
        return (self.since is None or self.since <= start) and (self.until is None or start < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxExemption:
    """That no tax is due from a customer somewhere, on days in `[start, end)`; None is no bound."""

    country: str
    region: str = ""
    """Empty: in the whole country."""
    reason_code: str
    start: date | None = None
    end: date | None = None

    def holds(self, *, country: str, region: str, on: date) -> bool:
        return (
            self.country == country
            and self.region in ("", region)
            and (self.start is None or self.start <= on)
            and (self.end is None or on < self.end)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    party: Party
    external_id: str
    currency: str
    time_zone: str
    net_terms_days: int
    collection_method: CollectionMethod
    names: tuple[CustomerName, ...] = ()
    """All that it is called beside its id: the external id is one of them."""
    payer_id: str = ""
    """Who gets its invoices; empty if it does so itself."""
    purchase_order: str = ""
    custom_fields: Mapping[str, str] = field(default_factory=dict)
    tax_exemptions: tuple[TaxExemption, ...] = ()
    """In the order in which they were added: the first that holds counts."""

    @property
    def called(self) -> str:
        """On an invoice that somebody else pays: of whoever was forgotten, no name is left."""
        return self.party.display_name or self.external_id or self.party.id

    def names_from(self, start: datetime) -> list[str]:
        """What usage in a period that begins then may call the customer beside its id."""
        return [name.key for name in self.names if name.counts_from(start)]
