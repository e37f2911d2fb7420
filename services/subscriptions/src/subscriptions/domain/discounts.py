"""Knows which coupons apply to a period: those in force when it began, for as many periods as they were given."""

from __future__ import annotations

from datetime import datetime

from common.period import Interval, Period, boundary, index_at
from subscriptions.domain.terms import BillingTiming, CouponId, Terms
from subscriptions.domain.timeline import Discount, Timeline


def coupons_of(timeline: Timeline, terms: Terms, full: Period, *, anchor: datetime) -> tuple[CouponId, ...]:
    """In the order in which they were applied, each once: one that is applied again may have periods left of before."""
    found = (
        each.coupon_id
        for each in timeline.discounts
        if _applies(each, terms.interval, terms.timing, full, anchor=anchor, timeline=timeline)
    )
    return tuple(dict.fromkeys(found))


def ends(
    discount: Discount, interval: Interval, timing: BillingTiming, *, anchor: datetime, timeline: Timeline
) -> datetime | None:
    """When the last of its periods is over; None when it has no last one."""
    if discount.end is not None or not discount.periods:
        return discount.end
    first = _first(discount, interval, timing, anchor, timeline)
    return boundary(anchor, timeline.opening.time_zone, interval, first + discount.periods)


def left(
    discount: Discount, interval: Interval, timing: BillingTiming, at: datetime, *, anchor: datetime, timeline: Timeline
) -> int | None:
    """How many of its periods have not begun by a moment; None when it has no last one."""
    if not discount.periods:
        return None
    now = index_at(anchor, timeline.opening.time_zone, interval, at)
    begun = now - _first(discount, interval, timing, anchor, timeline) + 1
    return discount.periods - min(max(begun, 0), discount.periods)


def _applies(
    discount: Discount,
    interval: Interval | None,
    timing: BillingTiming,
    full: Period,
    *,
    anchor: datetime,
    timeline: Timeline,
) -> bool:
    if discount.end is not None and discount.end <= full.start:
        return False
    if interval is None:
        return discount.start <= full.start
    n = index_at(anchor, timeline.opening.time_zone, interval, full.start)
    n -= _first(discount, interval, timing, anchor, timeline)
    return n >= 0 and (not discount.periods or n < discount.periods)


def _first(discount: Discount, interval: Interval, timing: BillingTiming, anchor: datetime, timeline: Timeline) -> int:
    """The first period it applies to: the one under way if that is billed later, the next if it is billed already."""
    zone, billed_from = timeline.opening.time_zone, timeline.billed_from
    start = max(discount.start, billed_from)
    if timing is BillingTiming.IN_ARREARS:
        return index_at(anchor, zone, interval, start)
    if discount.recorded_time is not None and discount.recorded_time >= start:
        return index_at(anchor, zone, interval, discount.recorded_time) + 1
    n = index_at(anchor, zone, interval, start)
    return n if start == billed_from or boundary(anchor, zone, interval, n) == start else n + 1
