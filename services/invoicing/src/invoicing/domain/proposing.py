"""Knows all that is proposed to be billed for one customer: what follows from agreements and usage, what is missing to
commitments, and what somebody wrote; with discounts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from invoicing.domain.commitments import CommittedPeriod, true_ups_due
from invoicing.domain.coupons import Coupon, Share, Used, shares_of, with_discounts
from invoicing.domain.line import Line, LineKey, Usage
from invoicing.domain.lines_due import BillablePeriod, Billed, Due, Source, UsageKey
from invoicing.domain.manual import PendingLine, pending_due
from invoicing.domain.party import Customer
from invoicing.domain.price import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is known of a customer beside periods, prices and usage."""

    customer: Customer
    commitments: Sequence[CommittedPeriod] = ()
    coupons: Mapping[str, Coupon] = field(default_factory=dict)
    sources: Mapping[LineKey, Source] = field(default_factory=dict)
    """The lines that credits are of."""
    spent: Sequence[Line] = ()
    """What was billed for the subscriptions that commitments are of."""
    shares: Sequence[Share] = ()
    """What coupons took off what was billed."""
    pending: Sequence[PendingLine] = ()

    @property
    def payer_id(self) -> str:
        return self.customer.payer_id or self.customer.party.id

    def after(self, lines: Sequence[Line]) -> Beside:
        """When these were billed as well."""
        customer_id = self.customer.party.id
        mine = [line for line in lines if (line.customer_id or self.payer_id) == customer_id]
        billed = {line.id for line in mine}
        return replace(
            self,
            spent=[*self.spent, *mine],
            shares=[*self.shares, *(share for line in mine for share in shares_of(line))],
            pending=[each for each in self.pending if each.line.id not in billed],
        )

    def completed(
        self,
        due: Sequence[Due],
        billed: Mapping[LineKey, Billed],
        *,
        periods: Sequence[BillablePeriod],
        as_of: datetime,
    ) -> list[Due]:
        """With all that is due beside it, and discounts."""
        payers = {each.subscription_id: (each.payer_id or each.customer_id, each.plan_id) for each in periods}
        true_ups = true_ups_due(
            [each for each in self.commitments if each.bill_time <= as_of],
            [*self.spent, *(each.line for each in due)],
            billed,
        )
        placed = [self._placed(each, *payers.get(each.line.subscription_id, (self.payer_id, ""))) for each in true_ups]
        waiting = [self._placed(each, self.payer_id, "") for each in pending_due(self.pending, as_of=as_of)]
        return _discounted([*due, *placed, *waiting], self.coupons, Used.of(self.shares))

    def _placed(self, due: Due, payer_id: str, plan_id: str) -> Due:
        """On the invoice of whoever pays for the customer."""
        customer_id = self.customer.party.id
        line = replace(due.line, customer_id=customer_id if payer_id != customer_id else "")
        return replace(due, line=line, customer_id=customer_id, payer_id=payer_id, plan_id=plan_id)


def recounted(
    periods: Sequence[BillablePeriod],
    prices: Mapping[str, Price],
    usage: Mapping[UsageKey, Usage],
    billed: Mapping[LineKey, Billed],
) -> list[LineKey]:
    """What of it was billed and is counted otherwise by now, so that something may come back of it."""
    found: list[LineKey] = []
    for each in periods:
        before = billed.get(each.key) if each.meter else None
        if before is None or before.usage is None:
            continue
        now = usage.get(UsageKey(each.meter, each.period, prices[each.price_id].needs))
        if now is not None and not now.is_counted_like(before.usage):
            found.append(each.key)
    return found


def _discounted(due: Sequence[Due], coupons: Mapping[str, Coupon], used: Used) -> list[Due]:
    """Of all that is billed now in a currency together, on however many invoices."""
    by_currency: dict[str, list[int]] = defaultdict(list)
    for n, each in enumerate(due):
        if not each.is_held:
            by_currency[each.line.amount.currency].append(n)
    found = list(due)
    for those in by_currency.values():
        lines = with_discounts([due[n].line for n in those], coupons=coupons, used=used)
        for n, line in zip(those, lines, strict=True):
            if line is not due[n].line:
                found[n] = replace(due[n], line=line)
    return found
