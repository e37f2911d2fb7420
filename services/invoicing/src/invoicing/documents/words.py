"""Knows how parties, dates and amounts are written on paper, the same on every document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from common.money import Money, minor_units
from common.period import Period, civil_date, civil_days
from invoicing.domain.party import Address, Party
from invoicing.domain.steps import plain
from invoicing.domain.tax import TaxLine

CITY_FIRST: Final = frozenset({"AU", "CA", "GB", "IE", "IN", "NZ", "US"})
"""Where the postal code stands behind or below the city."""

MINUS: Final = "−"

Json = dict[str, object]


def party(who: Party, *, other: Party) -> Json:
    home = other.address.region_code if other.address is not None else ""
    return {
        "name": who.display_name,
        "address": _address(who.address, home=home) if who.address is not None else [],
        "tax_id": who.tax_id,
        "email": who.email,
    }


def _address(address: Address, *, home: str) -> list[str]:
    """The lines of an envelope. The country is only printed when the other side is in another one."""
    if address.region_code in CITY_FIRST:
        city = [", ".join(filter(None, (address.locality, address.administrative_area))), address.postal_code]
        city = [" ".join(filter(None, city))] if address.region_code not in ("GB", "IE") else city
    else:
        city = [" ".join(filter(None, (address.postal_code, address.locality))), address.administrative_area]
    country = address.region_code if address.region_code != home else ""
    parts = [*address.recipients, address.organization, *address.address_lines, address.sublocality, *city, country]
    return [part for part in parts if part]


def period(of: Period, zone: str) -> str:
    """Both days included, as people say it: the first to the 31st, not the first to the first.

    One day from a time to the same time is the day on which it begins.
    """
    first = civil_date(of.start, zone)
    if civil_days(of, zone) <= 1:
        return day(first)
    last = civil_date(of.end - timedelta(microseconds=1), zone)
    if first.year != last.year:
        return f"{day(first)} – {day(last)}"
    return f"{first.day} {_MONTHS[first.month - 1]} – {day(last)}"


def day(value: date) -> str:
    """`1 Apr 2026`: read alike everywhere, unlike any date in figures."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def money(value: Money) -> str:
    return f"{amount(value)} {value.currency}"


def amount(value: Money) -> str:
    return grouped(value.amount, places_min=minor_units(value.currency)).replace("-", MINUS)


def grouped(value: Decimal, *, places_min: int = 0) -> str:
    """`1,234,567.50`: thousands in groups, as many decimals as there are but at least so many."""
    whole, _, decimals = plain(value).partition(".")
    decimals = decimals.ljust(places_min, "0")
    return f"{whole}.{decimals}" if decimals else whole


def tax_share(tax: TaxLine) -> str:
    """EN 16931 wants the rate, and what it is a share of, of every category (BG-23)."""
    return f"{tax.name} {grouped(tax.percent)}% of {amount(tax.taxable)}"


def questions(seller: Party, number: str, *, of: str) -> str:
    """Whom to ask, and what to tell them."""
    whom = seller.email or f"{seller.display_name} at the address above"
    return f"Questions about this {of}? Write to {whom} and name {number}."


def exemptions(taxes: Iterable[TaxLine]) -> list[str]:
    """Why no tax is due, where a law wants that to be said; each reason once."""
    return list(dict.fromkeys(tax.exemption_reason for tax in taxes if tax.exemption_reason))


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
