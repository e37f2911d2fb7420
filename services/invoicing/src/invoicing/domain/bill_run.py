"""Knows what becomes of the customers of a bill run that somebody asked for, and of those who cannot be billed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from common.money import Money
from invoicing.domain.errors import BillRunEnded, BillRunTooLarge

BillRunId = NewType("BillRunId", str)

CUSTOMERS_MAX: Final = 20_000
"""Of one bill run: they are marked in one transaction, and nobody else bills them meanwhile."""

NAMED_MAX: Final = 1_000
UNFORESEEN: Final = "INTERNAL"
"""The reason of what nobody foresaw: what it was says the dead letter."""


class Scope(Enum):
    """Who is billed."""

    CUSTOMERS = "CUSTOMERS"
    DUE = "DUE"
    PARKED = "PARKED"
    ALL = "ALL"


class Outcome(Enum):
    WAITING = "WAITING"
    BILLED = "BILLED"
    NOTHING_OWED = "NOTHING_OWED"
    PARKED = "PARKED"
    CANCELLED = "CANCELLED"


class State(Enum):
    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What the invoices of a bill run come to in one currency."""

    invoice_count: int
    line_count: int
    total: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRun:
    id: BillRunId
    scope: Scope
    customer_count: int
    create_time: datetime
    cancel_time: datetime | None = None
    end_time: datetime | None = None
    """When the last of its customers was looked at."""
    is_waiting: bool
    """Whether some customers have not been looked at."""
    counts: Mapping[Outcome, int] = field(default_factory=dict)
    totals: tuple[Total, ...] = ()

    @property
    def state(self) -> State:
        if self.cancel_time is not None:
            return State.CANCELLED
        return State.RUNNING if self.is_waiting else State.DONE

    def check_running(self) -> None:
        """Fails with BILL_RUN_ENDED."""
        if self.state is not State.RUNNING:
            raise BillRunEnded(f"bill run {self.id} is {self.state.name}", bill_run=self.id, state=self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one customer of a bill run."""

    customer_id: str
    outcome: Outcome
    invoice_ids: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a bill run has found of one customer, which somebody waits to hear."""

    customer_id: str
    invoice_ids: tuple[str, ...]
    is_end: bool
    """Whether that was all there is of it for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A customer who cannot be billed as things stand."""

    customer_id: str
    reason: str
    message: str
    park_time: datetime | None
    """None of what nobody foresaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingState:
    """How far the billing of a seller has come."""

    due_count: int
    oldest_due_time: datetime | None
    next_due_time: datetime | None
    parked_counts: Mapping[str, int]
    draft_count: int
    held_draft_count: int


def check_size(customer_count: int) -> None:
    if customer_count > CUSTOMERS_MAX:
        raise BillRunTooLarge(f"there are more than {CUSTOMERS_MAX} customers", limit=CUSTOMERS_MAX)
