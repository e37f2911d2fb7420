"""Knows a payment as far as an invoice does: how much of it settled the invoice, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from common.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    amount: Money
    time: datetime
