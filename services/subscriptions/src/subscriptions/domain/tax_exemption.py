"""Knows where a customer owes no tax, why, and for how long."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, NewType

from common.errors import InvalidArgument

TaxExemptionId = NewType("TaxExemptionId", str)

TAX_EXEMPTIONS_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxExemption:
    """Holds on the civil days of `[start_date, end_date)`; None is no bound. No region means the whole country."""

    id: TaxExemptionId
    country: str
    region: str
    reason_code: str
    certificate_number: str
    start_date: date | None
    end_date: date | None

    @property
    def without_certificate(self) -> TaxExemption:
        """The fact alone: the number of a certificate may name a person."""
        return replace(self, certificate_number="")

    def __post_init__(self) -> None:
        if not _COUNTRY.fullmatch(self.country):
            raise InvalidArgument("must be a two-letter country code (ISO 3166)", field="tax_exemption.country")
        if self.region and not _REGION.fullmatch(self.region):
            raise InvalidArgument(
                "must be the part of an ISO 3166-2 code after the dash, such as CA", field="tax_exemption.region"
            )
        if not _REASON.fullmatch(self.reason_code):
            raise InvalidArgument(
                "must be 1 to 40 of A-Z, 0-9, -, _ and ., such as RESALE", field="tax_exemption.reason_code"
            )
        if self.start_date and self.end_date and self.end_date <= self.start_date:
            raise InvalidArgument("must be after start_date", field="tax_exemption.end_date")


_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_REGION: Final = re.compile(r"[A-Z0-9]{1,3}")
_REASON: Final = re.compile(r"[A-Z0-9][A-Z0-9_.\-]{0,39}")
