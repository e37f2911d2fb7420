"""Knows what usage may call a customer, and in which of its periods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerName:
    """Counts for periods that begin in `[since, until)`; None is no bound."""

    name: str
    since: datetime | None = None
    until: datetime | None = None
