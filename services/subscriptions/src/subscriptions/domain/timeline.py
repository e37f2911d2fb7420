"""Knows what follows from what was agreed and decided: the terms of every item over time, by one belief.

    item 1    [── 5 × A ──────)[── 10 × A ──────────)[ paused )[── 10 × A ─────────▸
    item 2                     [── B ───────────────)[ paused )[── B ──────────────▸

A timeline is the fold of the changes that somebody knew of at some moment, in the order in which they take effect. The
terms of an item cover all time from the beginning of its billing, without gap or overlap; where nothing is billed they
are None. A change that is not prorated moves what is billed to the end of the period under way, while the agreement
changes at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from common.errors import InvalidArgument
from common.period import Interval, Unit, boundary, index_at, period_at
from subscriptions.domain.billing_anchor import billing_anchor
from subscriptions.domain.change import (
    Activate,
    AddItem,
    ApplyDiscount,
    BeginBilling,
    Change,
    Commitment,
    End,
    EndReason,
    Pause,
    Proration,
    Reactivate,
    RemoveDiscount,
    RemoveItem,
    Resume,
    SetAddOn,
    SetBillingDay,
    SetCommitment,
    SetPayer,
    SetPlan,
    SetPrice,
    SetQuantity,
    SetTerm,
    SetTrialEnd,
    Term,
    Transfer,
    Unused,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import DiscountNotApplied, ItemNotFound, NoItemsLeft, TooManyItems
from subscriptions.domain.terms import (
    ITEMS_MAX,
    NO_CHANGE,
    BillingTiming,
    ChangeId,
    CouponId,
    Item,
    ItemId,
    PlanId,
    Terms,
)
from subscriptions.domain.track import (
    Break,
    Cause,
    Segment,
    Settlement,
    Track,
    WantedTrack,
    broken,
    joined,
    one_by_one,
    what_is_billed,
    what_is_said,
    without_anchor,
)
from subscriptions.domain.trial import trial_end


class Activation(Enum):
    """What makes a subscription begin."""

    ON_START = "ON_START"
    ON_FIRST_PAYMENT = "ON_FIRST_PAYMENT"
    BY_HAND = "BY_HAND"


class TrialEnd(Enum):
    """What happens when a trial ends and there is no payment method."""

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    CANCEL = "CANCEL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What was agreed at first. It never changes."""

    customer_id: CustomerId
    plan_id: PlanId
    items: tuple[Item, ...]
    currency: str
    time_zone: str
    start_time: datetime
    billing_day: int
    trial_days: int
    proration: Proration
    activation: Activation
    activation_deadline: datetime | None
    trial_end: TrialEnd
    payer_id: CustomerId | None = None
    bill_ahead_days: int = 0
    """How many civil days before a period begins it is billed, if it is billed in advance and goes on as it is."""
    recorded_time: datetime


@dataclass(frozen=True, slots=True)
class Discount:
    """A coupon that applies from a moment on, for some periods of each item or, with 0, until it is taken off."""

    coupon_id: CouponId
    start: datetime
    periods: int
    recorded_time: datetime | None
    """When it was decided; None if with the subscription, before anything was billed."""
    end: datetime | None = None


@dataclass(slots=True)
class Timeline:
    """A fold under way, and what has come of it."""

    opening: Opening
    start_time: datetime = field(init=False)
    trial_end_time: datetime | None = field(init=False)
    anchors: list[tuple[datetime, datetime]] = field(init=False)
    """Where periods are counted from, and since when."""
    customers: list[tuple[datetime, CustomerId]] = field(init=False)
    plan_id: PlanId = field(init=False)
    billing_day: int = field(init=False)
    payers: list[tuple[datetime, CustomerId | None]] = field(init=False)
    activated_time: datetime | None = field(init=False)
    begins_billing: bool = field(init=False)
    unbilled_until: datetime | None = field(init=False, default=None)
    """What followed a trial that ended in doubt is billed from here on only."""
    items: dict[ItemId, Terms] = field(init=False)
    """What is agreed, in the order in which it was."""
    add_ons: dict[PlanId, datetime] = field(init=False, default_factory=dict)
    discounts: list[Discount] = field(init=False, default_factory=list)
    commitments: list[tuple[datetime, Commitment | None, datetime]] = field(init=False, default_factory=list)
    """What is to be spent, from when on, and before when nothing of it is due, as it was not decided."""
    settlements: list[Settlement] = field(init=False, default_factory=list)
    term: Term | None = field(init=False, default=None)
    term_start: datetime = field(init=False)
    """Where terms are counted from."""
    service_breaks: list[Break] = field(init=False, default_factory=list)
    billing_breaks: list[Break] = field(init=False, default_factory=list)
    ends: list[tuple[Break, EndReason]] = field(init=False, default_factory=list)
    _tracks: dict[ItemId, WantedTrack] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        opening = self.opening
        self.customers = [(opening.start_time, opening.customer_id)]
        self.plan_id = opening.plan_id
        self.billing_day = opening.billing_day
        self.payers = [(opening.start_time, opening.payer_id)]
        by_itself = opening.activation is Activation.ON_START
        self.activated_time = opening.start_time if by_itself else None
        self.items = {item.id: item.terms for item in opening.items}
        cause = Cause(NO_CHANGE, opening.proration, Unused.CREDIT, opening.recorded_time)
        self._set_start(opening.start_time)
        for item in opening.items:
            self._track(item.id).segments.append(self._segment(self.billed_from, item.terms, cause))

    @property
    def billed_from(self) -> datetime:
        """When billing begins, if it does."""
        return self.trial_end_time or self.start_time

    @property
    def anchor(self) -> datetime:
        return self.anchors[-1][1]

    @property
    def customer_id(self) -> CustomerId:
        return self.customers[-1][1]

    @property
    def payer_id(self) -> CustomerId | None:
        return self.payers[-1][1]

    @property
    def last_end(self) -> tuple[Break, EndReason] | None:
        """The last end that was not followed by a new beginning."""
        return self.ends[-1] if self.ends and self.ends[-1][0].end is None else None

    @property
    def tracks(self) -> list[Track]:
        """The terms of every item that was ever agreed, with all breaks in it."""
        breaks = one_by_one([*self.billing_breaks, *(each for each, _ in self.ends)])
        return [self._finished(track, breaks) for track in self._tracks.values()]

    def wanted(self, at: datetime) -> list[Segment | None]:
        """By what each item would be billed if nothing were paused; by nothing as long as it waits for activation."""
        return [track.at(at) for track in self._tracks.values()] if self._is_activated else []

    def apply(self, change: Change) -> None:
        """What changes when this takes effect, after everything that took effect before it."""
        at = change.effective_time
        # What was agreed with the subscription was known before anything of it was due.
        known = at if change.decided_with == NO_CHANGE else change.recorded_time
        cause = Cause(change.id, change.proration, change.unused, known)
        for action in change.actions:
            match action:
                case AddItem(item):
                    self._add(item, at, cause)
                case RemoveItem(item_id):
                    self._agreed(item_id)
                    del self.items[item_id]
                    self._become(item_id, None, at, cause)
                case SetQuantity(item_id, quantity):
                    terms = replace(self._agreed(item_id), quantity=quantity)
                    self.items[item_id] = terms
                    self._become(item_id, terms, at, cause)
                case SetPrice(item_id, terms):
                    self._agreed(item_id)
                    self.items[item_id] = terms
                    self._become(item_id, terms, at, cause)
                case SetPlan(plan_id):
                    self.plan_id = plan_id
                case SetAddOn(plan_id, is_taken):
                    if is_taken:
                        self.add_ons[plan_id] = at
                    else:
                        del self.add_ons[plan_id]
                case SetBillingDay(billing_day):
                    self.billing_day = billing_day
                    self._set_anchor(self._anchor(max(at, self.billed_from)), at, cause, (Unit.MONTH, Unit.YEAR))
                case ApplyDiscount(coupon_id, periods):
                    self._take_off(coupon_id, at)
                    recorded = None if change.decided_with == NO_CHANGE else change.recorded_time
                    self.discounts.append(Discount(coupon_id, at, periods, recorded))
                case RemoveDiscount(coupon_id):
                    if not self._take_off(coupon_id, at):
                        raise DiscountNotApplied(f"coupon {coupon_id} is not applied", coupon=coupon_id)
                case SetCommitment(commitment):
                    if commitment is not None and commitment.minimum.currency != self.opening.currency:
                        message = f"must be in {self.opening.currency}, as the subscription"
                        raise InvalidArgument(message, field="commitment.minimum")
                    self.commitments.append((at, commitment, max(at, known)))
                case SetTerm(term):
                    self.term = term
                case SetPayer(payer_id):
                    self.payers.append((at, payer_id))
                case Pause(service, billing):
                    self._pause(service=service, billing=billing, at=at, cause=cause)
                case Resume(service, billing):
                    self._resume(service=service, billing=billing, at=at, cause=cause, of=change.decided_with)
                case End(reason):
                    self.ends.append((Break(at, None, cause, None), reason))
                    self.settlements.append(Settlement(at, max(at, cause.recorded_time)))
                    for track in self._tracks.values():
                        track.settle(at, cause)
                case Reactivate():
                    ended, reason = self.ends[-1]
                    self._begin_term(ended.start, at)
                    self.ends[-1] = (replace(ended, end=at, opened_by=cause), reason)
                    self._set_anchor(self._anchor(max(at, self.billed_from)), at, cause, tuple(Unit))
                    if at >= self.billed_from:
                        self._begin_billing(at)
                case Activate():
                    self.activated_time = at
                    if self.opening.activation is Activation.BY_HAND:
                        self._set_start(at)
                        self._shift()
                case BeginBilling():
                    self.begins_billing = True
                case SetTrialEnd(trial_end_time):
                    # A trial that ends with the start has not been.
                    self.trial_end_time = trial_end_time if trial_end_time > self.start_time else None
                    self._set_billed_from()
                    self._shift()
                case Transfer(customer_id):
                    self.customers.append((at, customer_id))
                    for track in self._tracks.values():
                        # What was taken away before, that took away.
                        track.alter(
                            at,
                            lambda each: replace(
                                each, customer_id=customer_id, cause=each.cause if each.terms is None else cause
                            ),
                        )
        if not self.items and self.last_end is None:
            raise NoItemsLeft("a subscription has at least one item")
        if len(self.items) > ITEMS_MAX:
            raise TooManyItems(f"a subscription has at most {ITEMS_MAX} items", limit=ITEMS_MAX)

    @property
    def _is_activated(self) -> bool:
        return self.opening.activation is not Activation.BY_HAND or self.activated_time is not None

    def _set_start(self, start: datetime) -> None:
        opening = self.opening
        self.start_time = start
        self.trial_end_time = trial_end(start, opening.time_zone, days=opening.trial_days)
        self.begins_billing = self.trial_end_time is None or opening.trial_end is TrialEnd.CONTINUE
        self._set_billed_from()

    def _set_billed_from(self) -> None:
        self.anchors = [(self.billed_from, self._anchor(self.billed_from))]
        self.term_start = self.billed_from

    def _begin_term(self, ended: datetime, at: datetime) -> None:
        """Taken up again within the term it goes on in it; a term that was over by then is followed by a new one."""
        if self.term is None or ended <= self.term_start:
            return
        term = period_at(self.term_start, self.opening.time_zone, Interval(Unit.MONTH, self.term.months), ended)
        if term.start == ended or term.end <= at:
            self.term_start = at

    def _anchor(self, at: datetime) -> datetime:
        """Where periods begin that are counted anew from a moment on. Days and weeks know no day of the month."""
        return billing_anchor(at, self.opening.time_zone, billing_day=self.billing_day, intervals=())

    def _set_anchor(self, anchor: datetime, at: datetime, cause: Cause, units: Collection[Unit]) -> None:
        """Periods of these units are counted from here on from another moment."""
        at = max(at, self.billed_from)
        before = next((each for since, each in reversed(self.anchors) if since < at), None)
        if anchor == before:
            self.settlements = without_anchor(self.settlements, at)
        elif anchor != self.anchor:
            self.settlements.append(Settlement(at, max(at, cause.recorded_time), is_of_anchor=True))
        self.anchors.append((at, anchor))

        def moved(segment: Segment) -> Segment:
            interval = segment.terms.interval if segment.terms is not None else None
            if interval is not None and interval.unit not in units:
                return segment
            return replace(segment, anchor=anchor)

        for track in self._tracks.values():
            track.count_from(at, cause, moved)

    def _shift(self) -> None:
        """Billing begins at another moment than was thought, before any of it has begun."""
        start = self.billed_from
        self.settlements = []
        for track in self._tracks.values():
            track.settlements = []
            later = [each for each in track.segments if each.end is None or each.end > start]
            track.segments = [
                replace(each, start=max(each.start, start) if n else start, anchor=self.anchor)
                for n, each in enumerate(later)
            ]

    def _track(self, item_id: ItemId) -> WantedTrack:
        return self._tracks.setdefault(item_id, WantedTrack(item_id))

    def _agreed(self, item_id: ItemId) -> Terms:
        terms = self.items.get(item_id)
        if terms is None:
            raise ItemNotFound(f"the subscription has no item {item_id}", item=item_id)
        return terms

    def _segment(
        self, start: datetime, terms: Terms | None, cause: Cause, *, anchor: datetime | None = None
    ) -> Segment:
        return Segment(
            start=start,
            end=None,
            terms=terms,
            customer_id=self.customer_id,
            anchor=anchor or self.anchor,
            cause=cause,
        )

    def _add(self, item: Item, at: datetime, cause: Cause) -> None:
        self.items[item.id] = item.terms
        track = self._track(item.id)
        # One that was there before is taken up again where its periods are.
        anchor = track.segments[-1].anchor if track.segments else self.anchor
        start = self._billed_since(at, item.terms.interval, anchor, cause)
        track.become(start, self._segment(start, item.terms, cause, anchor=anchor))

    def _become(self, item_id: ItemId, terms: Terms | None, at: datetime, cause: Cause) -> None:
        """The item is billed by other terms, from now on or, without proration, from the next period on."""
        track = self._track(item_id)
        at = max(at, self.billed_from)
        now, first = track.at(at), track.segments[0]
        # What is billed may not be what is agreed: without proration that is so until the period ends.
        under_way = (now or first).terms
        interval = under_way.interval if under_way is not None else None
        anchor = (now or first).anchor
        start = self._billed_since(at, interval, anchor, cause)
        before = next((each for each in reversed(track.segments) if each.start < start), None)
        if before is not None and now is not None and now.start == start and _has_other_periods(before, now.terms):
            # What was wanted for no time at all has begun no period.
            anchor = self.anchor if self.anchors[-1][0] == start else before.anchor
            if anchor == before.anchor and not _has_other_periods(before, terms):
                track.settlements = [each for each in track.settlements if each.time != start]
        has_other_periods = _has_other_periods(before, terms)
        if has_other_periods and not self.billing_day:
            # Before billing begins the new price is anchored like all the others.
            anchor = self.anchor if start == self.billed_from else start
        track.become(start, self._segment(start, terms, cause, anchor=anchor))
        if has_other_periods:
            track.settle(start, cause)

    def _billed_since(self, at: datetime, interval: Interval | None, anchor: datetime, cause: Cause) -> datetime:
        at = max(at, self.billed_from)
        if cause.proration is not Proration.NONE or interval is None:
            return at
        zone = self.opening.time_zone
        n = index_at(anchor, zone, interval, at)
        start = boundary(anchor, zone, interval, n)
        return at if start == at or at == self.billed_from else boundary(anchor, zone, interval, n + 1)

    def _take_off(self, coupon_id: CouponId, at: datetime) -> bool:
        """Whether there was such a discount. What was never in force has not been."""
        applied = [each for each in self.discounts if each.coupon_id == coupon_id and each.end is None]
        for each in applied:
            self.discounts.remove(each)
            if each.start < at:
                self.discounts.append(replace(each, end=at))
        return bool(applied)

    def _pause(self, *, service: bool, billing: bool, at: datetime, cause: Cause) -> None:
        for wanted, breaks in ((service, self.service_breaks), (billing, self.billing_breaks)):
            if wanted and not (breaks and breaks[-1].end is None):
                breaks.append(Break(at, None, cause, None))

    def _resume(self, *, service: bool, billing: bool, at: datetime, cause: Cause, of: ChangeId | None) -> None:
        """What was decided with a pause ends that one only, whatever was resumed and paused again since."""
        for wanted, breaks in ((service, self.service_breaks), (billing, self.billing_breaks)):
            if wanted and breaks and breaks[-1].end is None and of in (None, breaks[-1].closed_by.change_id):
                breaks[-1] = replace(breaks[-1], end=at, opened_by=cause)
        if billing:
            self._begin_billing(at)

    def _begin_billing(self, at: datetime) -> None:
        """What a trial that ended in doubt was followed by until now was neither agreed nor paid for."""
        if not self.begins_billing:
            self.begins_billing = True
            self.unbilled_until = at

    def _finished(self, track: WantedTrack, breaks: Iterable[Break]) -> Track:
        is_open = self.begins_billing and self._is_activated
        segments: list[Segment] = track.segments if is_open else [replace(each, terms=None) for each in track.segments]
        if self.unbilled_until is not None:
            silent = Break(self.billed_from, self.unbilled_until, segments[0].cause, None)
            segments = [piece for segment in segments for piece in broken(segment, silent)]
        for each in breaks:
            segments = [piece for segment in segments for piece in broken(segment, each)]
        if self.opening.activation is Activation.ON_FIRST_PAYMENT:
            segments = [piece for segment in segments for piece in self._served(segment)]
        return Track(
            track.item_id,
            joined(segments, what_is_billed),
            joined(segments, what_is_said),
            tuple(track.settlements),
        )

    def _served(self, segment: Segment) -> list[Segment]:
        """What is billed in arrears is billed for service, which the first payment begins."""
        if segment.terms is None or segment.terms.timing is BillingTiming.IN_ADVANCE:
            return [segment]
        return broken(segment, Break(self.opening.start_time, self.activated_time, segment.cause, segment.cause))


def timeline(opening: Opening, changes: Iterable[Change], *, until: datetime | None = None) -> Timeline:
    """What follows from these changes, by the moments at which they take effect; only those up to `until`."""
    folded = Timeline(opening)
    for change in sorted(changes, key=lambda each: each.effective_time):  # stable: decided first, taken first
        if until is None or change.effective_time <= until:
            folded.apply(change)
    return folded


def _has_other_periods(before: Segment | None, terms: Terms | None) -> bool:
    if before is None or before.terms is None or terms is None:
        return False
    return before.terms.interval != terms.interval
