"""Knows why something is billed before its period ends, and what such lines are called."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.money import Money

BILLED_EARLY: Final = " – billed early, so far"
REST: Final = " – rest of the period"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyBill:
    """That a subscription had reached its threshold."""

    threshold_id: str
    spend: Money
    """What it had come to that was not billed."""
    bill_time: datetime
    """When the whole period is to be billed, as things stand."""
