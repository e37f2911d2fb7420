"""Knows how much usage may stay unbilled until its period ends, and what is billed when there is more.

    whole so far      usage of a period under way, rated as if the period ended now
    - billed early    what was billed of it before
    = unbilled        of all periods under way of a subscription in one currency together

When that reaches the threshold nearest to the subscription, each period is billed what it has more. The rest of each is
billed when it ends: also of the whole, less what was billed early. So tiers are gone through once, however often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NewType

from common import ids
from common.ids import SellerId
from common.money import Money, sum_money
from common.period import Period
from invoicing.domain.consolidation_policy import Scope
from invoicing.domain.early_bill import BILLED_EARLY, EarlyBill
from invoicing.domain.errors import SpendThresholdNotPositive
from invoicing.domain.line import Line, LineKey, LineKind, Usage
from invoicing.domain.lines_due import BillablePeriod, Billed, Due, UsageKey, first_line, further
from invoicing.domain.price import Price

ThresholdId = NewType("ThresholdId", str)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendThreshold:
    """An amount that may not stay unbilled, of one seller, customer or subscription. It never changes."""

    id: ThresholdId
    scope: Scope
    scope_id: str
    """Empty for the seller."""
    amount: Money
    create_time: datetime
    end_time: datetime | None = None
    """When it was taken back, or another took its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Those that count, by what they are declared for."""

    declared: Mapping[tuple[Scope, str, str], SpendThreshold] = field(default_factory=dict)
    """By level, by what it is there, and by currency."""

    def nearest(self, *, subscription_id: str, customer_id: str, currency: str) -> SpendThreshold | None:
        for scope, scope_id in (
            (Scope.SUBSCRIPTION, subscription_id),
            (Scope.CUSTOMER, customer_id),
            (Scope.SELLER, ""),
        ):
            found = self.declared.get((scope, scope_id, currency))
            if found is not None:
                return found
        return None

    def of(self, period: BillablePeriod, prices: Mapping[str, Price]) -> SpendThreshold | None:
        return self.nearest(
            subscription_id=period.subscription_id,
            customer_id=period.customer_id,
            currency=prices[period.price_id].currency,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyLine:
    """That a part of a period was billed before it ended."""

    key: LineKey
    line_id: str
    invoice_id: str
    customer_id: str
    """Who used it."""
    subscription_id: str
    period: Period
    """From the beginning up to when it was counted."""
    correction: int
    bill_time: datetime
    """When the whole period was to be billed, as things stood."""
    spend: Money
    threshold_id: str
    create_time: datetime

    def is_last_of(self, billed: Billed | None) -> bool:
        """Whether nothing more was billed of the period since."""
        return billed is not None and (billed.correction, billed.through) == (self.correction, self.period.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """How a subscription stands in one currency."""

    subscription_id: str
    unbilled: Money
    billed_early: Money
    threshold: SpendThreshold | None
    parts: tuple[tuple[BillablePeriod, Line], ...]
    """What each of its periods has more than was billed of it."""
    is_waiting: bool
    """Whether what was billed early is still a draft, or something was counted before that was."""

    @property
    def is_reached(self) -> bool:
        return self.threshold is not None and not self.is_waiting and self.unbilled >= self.threshold.amount


def checked_amount(amount: Money) -> Money:
    """Fails with SPEND_THRESHOLD_NOT_POSITIVE."""
    if amount.minor <= 0:
        raise SpendThresholdNotPositive(f"must be more than {Money.zero(amount.currency)}", field="amount")
    return amount


def spends(
    under_way: Sequence[BillablePeriod],
    prices: Mapping[str, Price],
    usage: Mapping[UsageKey, Usage],
    already_billed: Mapping[LineKey, Billed],
    thresholds: Thresholds,
    *,
    as_of: datetime,
    proven: bool,
) -> list[Spend]:
    """Of each subscription in each currency, in the order of the periods. Where some usage is not known, it waits."""
    places: dict[tuple[str, str], list[BillablePeriod]] = defaultdict(list)
    for each in under_way:
        places[each.subscription_id, prices[each.price_id].currency].append(each)
    found: list[Spend] = []
    for (subscription_id, currency), periods in places.items():
        parts: list[tuple[BillablePeriod, Line]] = []
        is_waiting = False
        for each in periods:
            price, billed = prices[each.price_id], already_billed.get(each.key)
            used = usage.get(UsageKey(each.meter, each.period, price.needs))
            if used is None:
                is_waiting = True
                continue
            is_waiting = is_waiting or not _can_follow(used, billed, proven=proven)
            line = _so_far(each, price, used, billed, as_of=as_of)
            if line is not None:
                parts.append((each, line))
        before = [billed.amount for each in periods if (billed := already_billed.get(each.key)) is not None]
        found.append(
            Spend(
                subscription_id=subscription_id,
                unbilled=sum_money((line.amount for _, line in parts), currency),
                billed_early=sum_money(before, currency),
                threshold=thresholds.of(periods[0], prices),
                parts=tuple(parts),
                is_waiting=is_waiting,
            )
        )
    return found


def early_due(spend: Sequence[Spend], *, as_of: datetime) -> list[Due]:
    """What is billed at once of those that have reached their thresholds. What has become less waits for its end."""
    due: list[Due] = []
    for one in spend:
        if not one.is_reached or one.threshold is None:
            continue
        for period, line in one.parts:
            if line.amount.minor > 0:
                why = EarlyBill(threshold_id=one.threshold.id, spend=one.unbilled, bill_time=period.bill_time)
                due.append(replace(period.due(line, bill_time=as_of, can_wait=False), early=why))
    return due


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLooks:
    """How often it is looked whether thresholds are reached. A sandbox stops at every look while time is travelled."""

    live: timedelta = timedelta(hours=1)
    sandbox: timedelta = timedelta(days=1)

    @classmethod
    def every(cls, *, seconds: int, sandbox_seconds: int) -> SpendLooks:
        return cls(live=timedelta(seconds=seconds), sandbox=timedelta(seconds=sandbox_seconds))

    def after(self, as_of: datetime, *, seller_id: SellerId) -> datetime:
        """On the hour, if it is every hour: all customers are looked at in the same moments."""
        every = self.sandbox if ids.is_sandbox(seller_id) else self.live
        return as_of + every - (as_of - _EPOCH) % every


HOURLY: Final = SpendLooks()


def open_periods(known: Iterable[EarlyLine], already_billed: Mapping[LineKey, Billed]) -> dict[LineKey, EarlyLine]:
    """The last of what was billed early of each period, where nothing was billed of it since."""
    return {each.key: each for each in known if each.is_last_of(already_billed.get(each.key))}


def is_under_way(period: BillablePeriod, at: datetime) -> bool:
    """Whether it counts towards a threshold: it has begun, and its own time to be billed is yet to come."""
    return bool(period.meter) and period.kind is LineKind.OWED and period.period.start <= at < period.bill_time


def _can_follow(used: Usage, billed: Billed | None, *, proven: bool) -> bool:
    """Whether it was counted after what was billed before, and that is final."""
    if billed is None:
        return True
    assert billed.usage is not None, "it was counted"
    return billed.is_final and (not proven or used.through_position >= billed.usage.through_position)


def _so_far(each: BillablePeriod, price: Price, used: Usage, billed: Billed | None, *, as_of: datetime) -> Line | None:
    """What a period has come to more than was billed of it; None where it begins now, or was billed up to now."""
    if as_of <= each.period.start:
        return None
    cut = replace(each, period=Period(each.period.start, min(each.period.end, as_of)))
    whole = first_line(cut, price, used)
    if billed is None:
        return replace(whole, description=f"{whole.description}{BILLED_EARLY}")
    if billed.through is not None and cut.period.end <= billed.through:
        return None
    return further(whole, billed, described=BILLED_EARLY)
