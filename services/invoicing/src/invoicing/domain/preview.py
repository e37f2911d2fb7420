"""Knows what will be billed, one bill time after the other, if nothing changes: for whoever gets the invoices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from invoicing.domain.consolidation import Bill, consolidate
from invoicing.domain.consolidation_policy import Arrangement
from invoicing.domain.errors import PreviewTooLong
from invoicing.domain.given_back import given_back_once
from invoicing.domain.issuing_policy import NOTHING_DECLARED, IssuingPolicy
from invoicing.domain.late_usage import LateUsage, Refused
from invoicing.domain.line import Line, LineKey, Usage
from invoicing.domain.line_discounts import together
from invoicing.domain.lines_due import BillablePeriod, Billed, Due, UsageKey, lines_due
from invoicing.domain.price import Price
from invoicing.domain.proposing import Beside

BILL_TIMES_MAX: Final = 36
LINES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What one customer is to be billed, or what somebody pays of that."""

    periods: Sequence[BillablePeriod]
    prices: Mapping[str, Price]
    usage: Mapping[UsageKey, Usage]
    """As it is now, also of periods to come."""
    next_bill_time: datetime | None
    """After all of them."""
    beside: Beside
    policy: IssuingPolicy = NOTHING_DECLARED
    refused: Mapping[LineKey, Refused] = field(default_factory=dict)
    early: Mapping[LineKey, str] = field(default_factory=dict)
    """Who was billed a part of a period before it ended."""

    def paid_by(self, payer_id: str) -> Outlook:
        own = [each for each in self.periods if (each.payer_id or each.customer_id) == payer_id]
        others = {each.subscription_id for each in self.periods} - {each.subscription_id for each in own}
        commitments = [each for each in self.beside.commitments if each.subscription_id not in others]
        pending = self.beside.pending if self.beside.payer_id == payer_id else ()
        return replace(self, periods=own, beside=replace(self.beside, commitments=commitments, pending=pending))

    def due(
        self,
        billed: Mapping[LineKey, Billed],
        *,
        as_of: datetime,
        of: Sequence[BillablePeriod] | None = None,
        next_bill_time: datetime | None,
        so_far: Sequence[Line] = (),
        through: datetime | None = None,
    ) -> list[Due]:
        """What they come to, or some `of` them, after what was billed `so_far`; commitments until then."""
        periods = self.periods if of is None else of
        beside = self.beside.after(so_far)
        due = lines_due(
            periods,
            self.prices,
            self.usage,
            billed,
            as_of=as_of,
            next_bill_time=next_bill_time,
            sources=beside.sources,
            policy=self.policy,
            refused=self.refused,
            early=self.early,
        )
        [due] = given_back_once([due], beside.sources, so_far=so_far)
        due = [each for each in due if each.late_usage is not LateUsage.REFUSE]
        return beside.completed(due, billed, periods=self.periods, as_of=through or as_of)


def bills_to_come(
    outlooks: Sequence[Outlook], billed: Mapping[LineKey, Billed], arrangement: Arrangement, *, now: datetime
) -> list[Bill]:
    """In order of time: of what is due now, then of every bill time after it. What an invoice has no room for, or that
    finds no company on one, waits for the next.
    """
    times = sorted({now, *(each.bill_time for one in outlooks for each in one.periods if each.bill_time > now)})
    if len(times) > BILL_TIMES_MAX + 1:
        raise PreviewTooLong(f"there are more than {BILL_TIMES_MAX} bill times", limit=BILL_TIMES_MAX)
    known = dict(billed)
    bills: list[Bill] = []
    so_far: list[Line] = []
    line_count = 0
    waiting: list[list[BillablePeriod]] = [[] for _ in outlooks]
    for time, periods in zip(times, _by_time(outlooks, times), strict=True):
        due = [
            one.due(known, as_of=time, of=[*late, *new], next_bill_time=_next(one, time), so_far=so_far)
            for one, late, new in zip(outlooks, waiting, periods, strict=True)
        ]
        found = consolidate([each for own in due for each in own], arrangement)
        line_count += sum(len(bill.lines) for bill in found)
        if line_count > LINES_MAX:
            raise PreviewTooLong(f"there are more than {LINES_MAX} lines", limit=LINES_MAX)
        lines = [line for bill in found for line in bill.lines]
        so_far += lines
        waiting = [_left([*late, *new], own, lines) for late, new, own in zip(waiting, periods, due, strict=True)]
        known |= {line.key: _with(known.get(line.key), line) for line in lines}
        bills += found
    return bills


def _by_time(outlooks: Sequence[Outlook], times: Sequence[datetime]) -> Iterator[list[list[BillablePeriod]]]:
    """What comes due at each of the times; at the first of them all that has come due before."""
    first, *_ = times
    for time in times:
        yield [[each for each in one.periods if max(each.bill_time, first) == time] for one in outlooks]


def _next(outlook: Outlook, time: datetime) -> datetime | None:
    return min((each.bill_time for each in outlook.periods if each.bill_time > time), default=outlook.next_bill_time)


def _left(periods: Iterable[BillablePeriod], due: Sequence[Due], lines: Iterable[Line]) -> list[BillablePeriod]:
    """Those of which something is yet to be billed."""
    taken = {line.key: line.amount for line in lines}
    left = {each.line.key for each in due if taken.get(each.line.key) != each.line.amount}
    return [each for each in periods if each.key in left]


def _with(before: Billed | None, line: Line) -> Billed:
    amount = line.amount if before is None else before.amount + line.amount
    discounts = together([() if before is None else before.discounts, line.discounts])
    return Billed(
        amount=amount,
        usage=line.usage,
        correction=line.correction,
        is_final=True,
        discounts=discounts,
        credited=None if before is None else before.credited,
        through=line.period.end,
    )
