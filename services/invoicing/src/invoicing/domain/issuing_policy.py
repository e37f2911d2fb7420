"""Knows how a seller wants invoices to be issued: how long drafts wait for late usage, and for whose word; and what
becomes of usage that comes later still, and of invoices of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from invoicing.domain.late_usage import LateUsage
from invoicing.domain.line import Line

TO_BE_APPROVED: Final = "to be approved"
"""Why a draft is held that nobody held."""


class ZeroInvoices(Enum):
    """What is made of an invoice of nothing."""

    ISSUE = "ISSUE"
    WITHOUT_NUMBER = "WITHOUT_NUMBER"
    """It is finalized and paid, but no document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingPolicy:
    grace: timedelta | None = None
    """How long a draft with metered lines waits for late usage; None is what the service does for everybody."""
    meter_graces: Mapping[str, timedelta] = field(default_factory=dict)
    """The same of lines that count these meters, by code."""
    requires_approval: bool = False
    """Whether every draft is held until somebody releases it."""
    late_usage: LateUsage | None = None
    """What becomes of usage that changes after it was billed; None is NEXT_INVOICE."""
    meter_late_usage: Mapping[str, LateUsage] = field(default_factory=dict)
    """The same of prices that count these meters, by code."""
    zero_invoices: ZeroInvoices | None = None
    """What is made of invoices of nothing; None is ISSUE."""
    revision: int = 0
    """Counts its changes; 0 of a seller who has declared none."""
    update_time: datetime | None = None

    def grace_of(self, lines: Iterable[Line], *, otherwise: timedelta) -> timedelta:
        """The longest that any of the lines asks for; only usage can come late."""
        own = otherwise if self.grace is None else self.grace
        meters = {line.usage.meter for line in lines if line.usage is not None}
        return max((self.meter_graces.get(meter, own) for meter in meters), default=timedelta())

    @property
    def numbers_zero_invoices(self) -> bool:
        return self.zero_invoices is not ZeroInvoices.WITHOUT_NUMBER

    def late_usage_of(self, meter: str) -> LateUsage:
        return self.meter_late_usage.get(meter, self.late_usage or LateUsage.NEXT_INVOICE)

    def late_usage_for(self, correction: Line) -> LateUsage:
        """What becomes of one difference. Only what the customer would owe is ever refused, never what comes back."""
        assert correction.usage is not None, "only usage comes late"
        wanted = self.late_usage_of(correction.usage.meter)
        is_owed_back = correction.amount.minor < 0
        return LateUsage.NEXT_INVOICE if wanted is LateUsage.REFUSE and is_owed_back else wanted

    @property
    def hold_reason(self) -> str:
        """Why a new draft is held; empty if it is not."""
        return TO_BE_APPROVED if self.requires_approval else ""


NOTHING_DECLARED: Final = IssuingPolicy()
