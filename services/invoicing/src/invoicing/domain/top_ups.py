"""Knows when more credit is bought for a customer: when little is left, or by the calendar; never twice at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple, NewType

from common.money import Money
from common.period import Interval, Period, Unit, period_at
from invoicing.domain.consolidation import Bill
from invoicing.domain.credit import Grant, GrantId, GrantKind, HoldingKey, Scope, Source
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, LineKind
from invoicing.domain.party import Customer
from invoicing.domain.steps import flat_step

RuleId = NewType("RuleId", str)

DAY: Final = timedelta(hours=24)
DESCRIPTION: Final = "Credit"
"""What the line of a top-up says."""


class Calendar(NamedTuple):
    """From a start on, every so many months."""

    start_time: datetime
    months: int


class Decision(NamedTuple):
    """Whether to buy now, and when to look again; None is when something has moved."""

    is_wanted: bool
    next_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpRule:
    """When credit is bought for a customer in one currency, and how much at once."""

    id: RuleId
    customer_id: str
    amount: Money
    trigger: Money | Calendar
    """What can be used falls below an amount, or it is time."""
    time_zone: str
    priority: int
    expires_after_days: int
    """0 is never."""
    per_day_max: int
    next_time: datetime | None
    delete_time: datetime | None
    revision: int
    create_time: datetime

    @property
    def key(self) -> HoldingKey:
        return HoldingKey(self.customer_id, self.amount.currency)

    @property
    def threshold(self) -> Money | None:
        return self.trigger if isinstance(self.trigger, Money) else None

    def decide(self, *, at: datetime, available: Money, has_open: bool, bought: Sequence[datetime]) -> Decision:
        """`has_open`: there is a top-up that nobody has paid yet. `bought` is when there were any within a day.

        What was missed is not made up for: one top-up is enough for all of it.
        """
        if isinstance(self.trigger, Calendar):
            return Decision(not has_open, self.after(at))
        if has_open or available >= self.trigger:
            return Decision(False, None)
        if len(bought) >= self.per_day_max:
            # Of the last so many the first has to be a day ago.
            return Decision(False, sorted(bought)[-self.per_day_max] + DAY)
        return Decision(True, None)

    def after(self, at: datetime) -> datetime:
        """The next time by the calendar."""
        assert isinstance(self.trigger, Calendar)
        start, months = self.trigger
        if at < start:
            return start
        return period_at(start, self.time_zone, Interval(Unit.MONTH, months), at).end

    def looked_at(self, next_time: datetime | None) -> TopUpRule:
        return replace(self, next_time=next_time, revision=self.revision + 1)

    def deleted(self, *, at: datetime) -> TopUpRule:
        return replace(self, next_time=None, delete_time=at, revision=self.revision + 1)

    def invoice(self, *, id: InvoiceId, line_id: str, customer: Customer, at: datetime) -> Invoice:  # noqa: A002
        """The draft of a top-up: due at once, without tax, since what is bought with it will have its own."""
        line = _line(line_id, self.amount, at=at)
        bill = Bill(currency=self.amount.currency, bill_time=at, lines=(line,))
        draft = Invoice.draft(id=id, customer=customer, bill=bill, at=at, grace=timedelta())
        return replace(draft, top_up_rule_id=self.id)

    def grant(self, *, id: GrantId, paid: Money, invoice_id: str, at: datetime) -> Grant:  # noqa: A002
        """What a top-up that was paid gives."""
        return Grant(
            id=id,
            customer_id=self.customer_id,
            amount=paid,
            kind=GrantKind.PAID,
            priority=self.priority,
            effective_time=at,
            expire_time=at + timedelta(days=self.expires_after_days) if self.expires_after_days else None,
            scope=Scope(),
            source=Source.TOP_UP,
            document_id=invoice_id,
            note="",
            remaining=paid,
            reserved=Money.zero(paid.currency),
            expired_time=None,
            expire_count=0,
            revoked_time=None,
            revision=1,
            create_time=at,
        )


def _line(line_id: str, amount: Money, *, at: datetime) -> Line:
    # Of the moment at which it is bought: nothing of it is earned over any time.
    moment = Period(at, at + timedelta.resolution)
    return Line(
        id=line_id,
        description=DESCRIPTION,
        subscription_id="",
        item_id="",
        price_id="",
        period=moment,
        full_period=moment,
        quantity=Decimal(1),
        unit_label="",
        amount=amount,
        steps=(flat_step("Fixed price", amount.amount),),
        exact_amount=amount.amount,
        proration=Fraction(1),
        usage=None,
        correction=0,
        kind=LineKind.MANUAL,
    )
