"""Knows which stretches of time are to be billed, and when: a pure function of what was agreed and decided.

    full periods       [────────────)[────────────)[────────────)
    terms                   [──────────────)  pause  [──────)  cancelled
    in advance              [───────)[────────────)[────────────)       billed when each begins
    in arrears              [───────)[─────)         [──────)           billed when the full period ends, or the item
    once                    [─)                                         billed when the item begins, as one civil day
    ahead                *  *[──────)*[───────────)[────────────)       what goes on as it is, days before it begins

What is billed in advance is billed by what is known when it begins. It covers its time: as long as what is known later
says the same of that time, nothing more is billed for it. Where it says otherwise, the rest is credited or kept, as the
change says that made the difference, and what is not covered any more is billed by the new terms:

    known then              [── 5 × A ─────────────────)                billed
    known since *           [── 5 × A ──)*[── 10 × A ──)
                                          [── 5 × A ───)                credited
                                          [── 10 × A ──)                billed

Whatever has become due stays as it is, whatever happens later. So an answer about the past may be billed, and the same
question later has the same answer and more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from fractions import Fraction
from typing import Final

from common.period import Interval, Period, TimeOutOfRange, Unit, boundary, day_fraction, index_at, period_at
from subscriptions.domain.change import Proration, Unused
from subscriptions.domain.cover import Cover, agree, parted, rejoined, resolved, uncovered
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.discounts import coupons_of
from subscriptions.domain.errors import TooManyPeriods
from subscriptions.domain.subscription import Belief, Subscription
from subscriptions.domain.terms import (
    NO_CHANGE,
    ONE_OFF,
    BillingTiming,
    ChangeId,
    CouponId,
    ItemId,
    PriceId,
    SubscriptionId,
    Terms,
)
from subscriptions.domain.timeline import Timeline
from subscriptions.domain.track import Cause, Segment, Settlement, Track

PERIODS_MAX: Final = 10_000
INSTANT: Final = timedelta(microseconds=1)
"""The smallest step of time there is."""

WHOLE: Final = Fraction(1)
DAY: Final = Interval(Unit.DAY, 1)


class Kind(Enum):
    """Which way the money goes."""

    OWED = "OWED"
    CREDIT = "CREDIT"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class BillablePeriod:
    """One stretch of time of one item that is to be billed once.

    `(item, price, period.start, kind, change)` is unique for ever.
    """

    subscription_id: SubscriptionId
    customer_id: CustomerId
    currency: str
    item_id: ItemId
    terms: Terms
    period: Period
    full_period: Period
    proration: Fraction
    bill_time: datetime
    kind: Kind = Kind.OWED
    change_id: ChangeId = NO_CHANGE
    payer_id: CustomerId | None = None
    coupon_ids: tuple[CouponId, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to be billed in some time, and the first bill time after it; None when nothing more is to come."""

    periods: tuple[BillablePeriod, ...]
    next_bill_time: datetime | None


def schedule(
    subscriptions: Sequence[Subscription],
    *,
    after: datetime,
    through: datetime,
    customer_id: CustomerId | None = None,
) -> Schedule:
    """Everything of these subscriptions with a bill time in `[after, through]`, in order of bill time, then as given.

    Only what one customer owes, if one is named: a subscription may have belonged to several. Fails with
    TOO_MANY_PERIODS rather than answer half of it.
    """
    found: list[BillablePeriod] = []
    to_come: list[datetime] = []
    for subscription in subscriptions:
        for track in subscription.tracks:
            for billable in billable_periods(subscription, track.item_id, after=after):
                if customer_id is not None and billable.customer_id != customer_id:
                    if billable.bill_time > through and _is_over_for(track, customer_id, billable):
                        break
                    continue
                if billable.bill_time > through:
                    to_come.append(billable.bill_time)
                    break
                found.append(billable)
                if len(found) > PERIODS_MAX:
                    raise TooManyPeriods(f"there are more than {PERIODS_MAX} periods", limit=PERIODS_MAX)
    # The sort is stable: within one bill time the order is that of the subscriptions and their items.
    found.sort(key=lambda billable: billable.bill_time)
    return Schedule(tuple(found), min(to_come, default=None))


def in_arrears(subscription: Subscription, track: Track, *, after: datetime) -> Iterator[BillablePeriod]:
    """What of an item is billed when it has ended, not before `after`, in order of time; it may never end."""
    return _Item(subscription, track.item_id).in_arrears(track, after)


def billable_periods(subscription: Subscription, item_id: ItemId, *, after: datetime) -> Iterator[BillablePeriod]:
    """What is to be billed for an item, not before `after`, in order of bill time; it may never end."""
    track = next((each for each in subscription.tracks if each.item_id == item_id), None)
    beliefs = subscription.beliefs
    if len(beliefs) == 1 and track is not None and len(track.segments) == 1:
        (segment,) = track.segments
        if segment.terms is None:
            return iter(())
        if segment.terms.interval is None:
            return _Item(subscription, item_id).once(after)
        if segment.terms.timing is BillingTiming.IN_ARREARS:
            return _Item(subscription, item_id).in_arrears(track, after)
        return _Item(subscription, item_id).in_advance(after)
    item = _Item(subscription, item_id)
    arrears = item.in_arrears(track, after) if track is not None else iter(())
    return heapq.merge(item.once(after), item.in_advance(after), arrears, key=lambda billable: billable.bill_time)


@dataclass(frozen=True, slots=True)
class _Lost:
    """What is taken back of time that was billed in advance, by what."""

    piece: Cover
    terms: Terms
    cause: Cause
    bill_time: datetime


class _Item:
    """One item of a subscription, and the ways it is billed."""

    def __init__(self, subscription: Subscription, item_id: ItemId) -> None:
        self._subscription = subscription
        self._item_id = item_id
        self._zone = subscription.opening.time_zone

    def once(self, after: datetime) -> Iterator[BillablePeriod]:
        """When the item begins to be billed, if it ever does; whole, whatever happens later, and never again."""
        for belief in self._subscription.beliefs:
            track = self._track(belief)
            first = next((each for each in track.segments if each.terms is not None), None) if track else None
            if track is None or first is None or first.terms is None or first.terms.interval is not None:
                continue
            bill_time = _not_before(first.start, belief.since)
            if _is_later(bill_time, belief.until):
                continue
            if bill_time >= after:
                day = period_at(first.start, self._zone, ONE_OFF, first.start)
                yield self._billable(first.terms, day, day, bill_time, track, first, belief)
            return

    def in_advance(self, after: datetime) -> Iterator[BillablePeriod]:
        """Belief by belief: first what it takes back, then what begins to be billed under it."""
        covers: list[Cover] = []
        names: set[tuple[PriceId, datetime, Kind, ChangeId]] = set()
        for belief in self._subscription.beliefs:
            track = self._track(belief)
            if track is None:
                continue
            credits_due, covers, freed = self._reconciled(covers, track, belief)
            charges = self._begun(track, covers, freed, belief, after)
            if belief.until is not None:
                charges = iter(list(charges))
            for each in heapq.merge(credits_due, charges, key=_bill_time):
                named = self._named(each, belief, names)
                if named.bill_time >= after:
                    yield named

    def _named(
        self, billable: BillablePeriod, belief: Belief, names: set[tuple[PriceId, datetime, Kind, ChangeId]]
    ) -> BillablePeriod:
        """By a change that it shares with nothing else: what was taken back and is wanted again is another period.

        All of that is within one moment: what begins later is named by what makes it begin.
        """
        name = (billable.terms.price_id, billable.period.start, billable.kind, billable.change_id)
        if belief.since is None or (billable.period.start > belief.since and name not in names):
            return self._remembered(billable, names) if belief.until is not None else billable
        is_new = name not in names and (billable.kind is Kind.OWED or bool(billable.change_id))
        return self._remembered(billable if is_new else replace(billable, change_id=belief.change_id), names)

    def _remembered(
        self, billable: BillablePeriod, names: set[tuple[PriceId, datetime, Kind, ChangeId]]
    ) -> BillablePeriod:
        names.add((billable.terms.price_id, billable.period.start, billable.kind, billable.change_id))
        return billable

    def in_arrears(self, track: Track, after: datetime) -> Iterator[BillablePeriod]:
        """The time with terms in a full period, in as many parts as changes and pauses have made of it.

        No change concerns a period that is over, so what is known now was as true then.
        """
        for segment in track.segments:
            terms = segment.terms
            if terms is None or terms.interval is None or terms.timing is not BillingTiming.IN_ARREARS:
                continue
            # What was agreed for the past is due when it is agreed, like everything that a change makes due.
            known = segment.cause.recorded_time if segment.cause.change_id else segment.start
            since = segment.start if after <= known else max(segment.start, after - INSTANT)
            if segment.end is not None:
                since = min(since, segment.end - INSTANT)
            for full in full_periods(segment.anchor, self._zone, terms.interval, since=since):
                if segment.end is not None and segment.end <= full.start:
                    break
                start = max(full.start, segment.start)
                end = full.end if segment.end is None else min(full.end, segment.end)
                for part in divided(full, start, end, track.settlements):
                    bill_time = max(settled(track.settlements, start=part.start, end=part.end, full=full), known)
                    if bill_time >= after:
                        by_then = self._known_at(bill_time)
                        yield self._billable(terms, part, full, bill_time, track, segment, by_then)

    def _known_at(self, time: datetime) -> Belief:
        """What was known when something was billed, of which nothing changes later."""
        return next(each for each in self._subscription.beliefs if not _is_later(time, each.until))

    def _track(self, belief: Belief) -> Track | None:
        return next((each for each in belief.tracks if each.item_id == self._item_id), None)

    def _begun(
        self, track: Track, covers: list[Cover], freed: Sequence[datetime], belief: Belief, after: datetime
    ) -> Iterator[BillablePeriod]:
        """What begins to be billed under a belief and is not covered, from then on; what is `freed` later, then."""
        # A change at a boundary leaves the period before it the last of what was: that must be known to be billed.
        # So must all the time that was decided upon afterwards: it is due when it was decided.
        own = belief.concerns_since if belief.since is not None and belief.since >= after else None
        look_back = (
            min(each for each in (after, belief.until, belief.reaches_back_to, own) if each is not None) - INSTANT
        )
        carried = list(covers)
        for segment in track.segments:
            terms = segment.terms
            if terms is None or terms.interval is None or not _is_in_advance(terms):
                continue
            if _is_later(segment.start, belief.until):
                return
            since = max(segment.start, look_back)
            if segment.end is not None:
                since = min(since, segment.end - INSTANT)
            for full in full_periods(segment.anchor, self._zone, terms.interval, since=since):
                if segment.end is not None and segment.end <= full.start:
                    break
                start = max(full.start, segment.start)
                if _is_later(self._billed_from(start, full, segment, carried, freed), belief.until):
                    return
                end = full.end if segment.end is None else min(full.end, segment.end)
                for free in parted(uncovered(_part(full, start, end), carried), freed):
                    billed_from = self._billed_from(free.start, full, segment, carried, freed)
                    bill_time = _not_before(billed_from, belief.since)
                    if _is_later(bill_time, belief.until):
                        return
                    billable = self._billable(terms, free, full, bill_time, track, segment, belief)
                    if belief.until is not None:
                        cover = Cover(
                            bill=free.start,
                            start=free.start,
                            end=free.end,
                            full=full,
                            paid=terms,
                            counts_as=terms,
                            customer_id=segment.customer_id,
                            used_by=segment.customer_id,
                            measured=None if free == full else self._measure(track.cause_at(free.start)),
                            coupon_ids=billable.coupon_ids,
                        )
                        covers.append(cover)
                    # A part of no day at all that a change has left is nothing to speak of.
                    if billable.proration or not billable.change_id:
                        yield billable

    def _reconciled(
        self, covers: Sequence[Cover], track: Track, belief: Belief
    ) -> tuple[list[BillablePeriod], list[Cover], list[datetime]]:
        """What is covered and not wanted by a belief: what of it is credited when, what stays covered, and when what is
        covered until then is free again.
        """
        lost: list[_Lost] = []
        kept: list[Cover] = []
        freed: list[datetime] = []
        for cover in covers:
            for segment in track.stretches:
                start = max(cover.start, segment.start)
                end = cover.end if segment.end is None else min(cover.end, segment.end)
                if start >= end:
                    continue
                piece = replace(cover, start=start, end=end)
                bill_time, has_begun = _not_before(start, belief.since), True
                if belief.since is not None and belief.since < start == cover.bill:
                    # What was billed ahead is taken back as soon as it is known that it will not begin.
                    bill_time, has_begun = belief.since, False
                if agree(cover, segment) or _is_later(bill_time, belief.until):
                    kept.append(piece)
                    continue
                taken_back, stays = resolved(piece, segment, has_begun=has_begun)
                if taken_back is not None:
                    lost.append(_Lost(piece, taken_back, segment.cause, bill_time))
                if stays is not None:
                    kept.append(stays)
                elif bill_time == start != belief.since:
                    freed.append(start)
        credits_due = [self._credit(each, belief.timeline) for each in _as_one(lost)]
        return sorted((each for each in credits_due if each.proration), key=_bill_time), rejoined(kept), freed

    def _credit(self, lost: _Lost, known: Timeline) -> BillablePeriod:
        piece, cause, bill_time = lost.piece, lost.cause, lost.bill_time
        period = Period(piece.start, piece.end)
        return BillablePeriod(
            subscription_id=self._subscription.id,
            customer_id=piece.customer_id,
            currency=self._subscription.opening.currency,
            item_id=self._item_id,
            terms=lost.terms,
            period=period,
            full_period=piece.full,
            proration=_share(period, piece.full, self._zone, piece.measured or self._measure(cause)),
            bill_time=bill_time,
            kind=Kind.REFUND if cause.unused is Unused.REFUND else Kind.CREDIT,
            change_id=cause.change_id,
            payer_id=_payer(known, bill_time),
            coupon_ids=piece.coupon_ids,
        )

    def _billable(
        self,
        terms: Terms,
        period: Period,
        full: Period,
        bill_time: datetime,
        track: Track,
        segment: Segment,
        belief: Belief,
    ) -> BillablePeriod:
        known, cause = belief.timeline, track.cause_at(period.start)
        # Inside of it a change has said nothing new; what it made due when it was decided is due by it all the same.
        decided = (
            terms.timing is BillingTiming.IN_ADVANCE
            and belief.since is not None
            and period.start <= belief.since
            and track.is_caused(period.start)
        )
        return BillablePeriod(
            subscription_id=self._subscription.id,
            customer_id=segment.customer_id,
            currency=self._subscription.opening.currency,
            item_id=self._item_id,
            terms=terms,
            period=period,
            full_period=full,
            proration=_share(period, full, self._zone, self._measure(cause)),
            bill_time=bill_time,
            change_id=cause.change_id if decided or period.start == segment.start else NO_CHANGE,
            payer_id=_payer(known, bill_time),
            coupon_ids=coupons_of(known, terms, full, anchor=segment.anchor) if known.discounts else (),
        )

    def _billed_from(
        self, start: datetime, full: Period, segment: Segment, covers: Sequence[Cover], freed: Sequence[datetime]
    ) -> datetime:
        """When a period that begins then is billed in the ordinary course of time: when it begins or, if it is whole
        and goes on as the one before, some days ahead, but not before the last part of that one.
        """
        days, terms = self._subscription.opening.bill_ahead_days, segment.terms
        if not days or terms is None or terms.interval is None or start != full.start or start <= segment.start:
            return start
        before = period_at(segment.anchor, self._zone, terms.interval, start - INSTANT)
        begun = max(before.start, segment.start)
        parts = (each.start for each in parted(uncovered(Period(begun, start), covers), freed))
        return max(boundary(start, self._zone, DAY, -days), begun, *parts)

    def _measure(self, cause: Cause) -> Proration:
        """How a part is measured. One that a change without proration makes all the same is by the rule."""
        said = cause.proration
        return self._subscription.opening.proration if said is Proration.NONE else said


def _as_one(lost: Sequence[_Lost]) -> list[_Lost]:
    """What one change takes back of one bill at once is one credit, whatever else divides it."""
    found: list[_Lost] = []
    for each in lost:
        last = found[-1] if found else None
        if last is not None and last.piece.end == each.piece.start:
            whole = replace(last, piece=replace(last.piece, start=each.piece.start, end=each.piece.end))
            if whole == each:
                found[-1] = replace(last, piece=replace(last.piece, end=each.piece.end))
                continue
        found.append(each)
    return found


def full_periods(anchor: datetime, zone: str, interval: Interval, *, since: datetime) -> Iterator[Period]:
    """The whole periods in order, from the one that contains the instant to the end of the calendar."""
    n = index_at(anchor, zone, interval, since)
    start = boundary(anchor, zone, interval, n)
    while True:
        n += 1
        try:
            end = boundary(anchor, zone, interval, n)
        except TimeOutOfRange:
            return
        if start < end:  # a civil day that a zone skipped has no period
            yield Period(start, end)
        start = end


def _part(full: Period, start: datetime, end: datetime) -> Period:
    """A part of a full period, or all of it."""
    return full if (start, end) == (full.start, full.end) else Period(start, end)


def _payer(known: Timeline, bill_time: datetime) -> CustomerId | None:
    for since, payer_id in reversed(known.payers):
        if since <= bill_time:
            return payer_id
    return known.payers[0][1]


def divided(full: Period, start: datetime, end: datetime, settlements: Sequence[Settlement]) -> Iterator[Period]:
    """A part of a full period up to where it was settled, and on from there though the same is billed before and after:
    what ended and went on at one moment."""
    for at in sorted({each.time for each in settlements if start < each.time < end}):
        yield Period(start, at)
        start = at
    yield _part(full, start, end)


def settled(settlements: Sequence[Settlement], *, start: datetime, end: datetime, full: Period) -> datetime:
    """When a part is billed: when its full period ends, or when the item was settled after the part and before that."""
    found = [each for each in settlements if end <= each.time < full.end and start < each.time]
    # Where periods are counted from was decided as well, it may be later than they ended.
    counted = [each.due_time for each in settlements if each.time <= start]
    return max([min(found[0].due_time, full.end) if found else full.end, *counted])


def _share(part: Period, whole: Period, zone: str, proration: Proration) -> Fraction:
    if part == whole:
        return WHOLE
    if proration is Proration.BY_SECOND:
        return Fraction((part.end - part.start) // INSTANT, (whole.end - whole.start) // INSTANT)
    return day_fraction(part, whole, zone)


def _is_in_advance(terms: Terms | None) -> bool:
    return terms is not None and terms.interval is not None and terms.timing is BillingTiming.IN_ADVANCE


def _is_over_for(track: Track, customer_id: CustomerId, billable: BillablePeriod) -> bool:
    """Whether nothing of an item comes to a customer after this."""
    return not any(
        segment.customer_id == customer_id and (segment.end is None or segment.end > billable.period.start)
        for segment in track.segments
    )


def _not_before(time: datetime, since: datetime | None) -> datetime:
    return time if since is None else max(time, since)


def _is_later(time: datetime, until: datetime | None) -> bool:
    return until is not None and time > until


def _bill_time(billable: BillablePeriod) -> datetime:
    return billable.bill_time
