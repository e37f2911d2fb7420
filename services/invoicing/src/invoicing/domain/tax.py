"""Knows what taxes come to on an invoice: a line for each category and rate, as EN 16931 breaks them down (BG-23)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from common.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxLine:
    """What one rate of one category comes to on an invoice."""

    name: str
    """As printed, such as `VAT`."""
    category: str
    """Its code in UNTDID 5305: `S` standard, `Z` zero, `E` exempt, `AE` reverse charge, `K`, `G`, `O`, …"""
    percent: Decimal
    taxable: Money
    """What it is a share of, without the tax itself."""
    amount: Money
    is_included: bool
    """Whether the amounts of the lines include it, so that it is not added to them."""
    rate_id: str = ""
    """The rate that was declared; empty if somebody else computed it."""
    exemption_reason: str = ""
    """Why nothing is to be paid, where a law wants that to be said."""
