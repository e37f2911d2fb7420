"""Knows how a seller wants invoices to be issued: how long drafts wait for late usage, and for whose word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from invoicing.domain.line import Line

TO_BE_APPROVED: Final = "to be approved"
"""Why a draft is held that nobody held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingPolicy:
    grace: timedelta | None = None
    """How long a draft with metered lines waits for late usage; None is what the service does for everybody."""
    meter_graces: Mapping[str, timedelta] = field(default_factory=dict)
    """The same of lines that count these meters, by code."""
    requires_approval: bool = False
    """Whether every draft is held until somebody releases it."""
    revision: int = 0
    """Counts its changes; 0 of a seller who has declared none."""
    update_time: datetime | None = None

    def grace_of(self, lines: Iterable[Line], *, otherwise: timedelta) -> timedelta:
        """The longest that any of the lines asks for; only usage can come late."""
        own = otherwise if self.grace is None else self.grace
        meters = {line.usage.meter for line in lines if line.usage is not None}
        return max((self.meter_graces.get(meter, own) for meter in meters), default=timedelta())

    @property
    def hold_reason(self) -> str:
        """Why a new draft is held; empty if it is not."""
        return TO_BE_APPROVED if self.requires_approval else ""
