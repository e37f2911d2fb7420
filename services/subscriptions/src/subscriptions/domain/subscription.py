"""Knows the life of a subscription: what was agreed, the states it goes through, and when it is served.

    PENDING ──begin──▸ TRIALING
       │                  │ end_trial
       │                  ▾
       │           ┌──────────────┐  mark_past_due    ┌──────────┐
       └──begin──▸ │ACTIVE        │ ────────────────▸ │ PAST_DUE │
                   └──────────────┘ ◂──────────────── └──────────┘
                    ▴ │ pause            recover        │ pause
             resume │ ▾                                 │
                   ┌──────────────┐                     │
                   │PAUSED        │ ◂───────────────────┘
                   └──────────────┘        cancel, from everywhere ──▸ CANCELLED

A trial is service that is not billed: from the start until `trial_end_time`, when billing begins. It cannot be paused,
and who cancels in it is never billed. Without a trial billing begins with service.

Service that is billed is given in stretches: from the beginning of billing or a resumption to a pause or the end. When
and what is billed follows from the stretches alone, not from the state, so a job that is late changes nothing about
money.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from common.period import EARLIEST, LATEST, Interval, TimeOutOfRange, Unit, period_at
from subscriptions.domain.billing_anchor import billing_anchor
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import (
    SubscriptionCancelled,
    SubscriptionNotActive,
    SubscriptionNotPastDue,
    SubscriptionNotPaused,
    SubscriptionNotPending,
    SubscriptionNotTrialing,
    TooManyPauses,
)
from subscriptions.domain.trial import trial_end

SubscriptionId = NewType("SubscriptionId", str)
ItemId = NewType("ItemId", str)
PlanId = NewType("PlanId", str)
PriceId = NewType("PriceId", str)

PAUSES_MAX: Final = 1_000
ONE_OFF: Final = Interval(Unit.DAY, 1)
"""How long the period of an item is that is billed once: the civil day that begins with billing."""


class State(Enum):
    PENDING = "PENDING"
    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAST_DUE = "PAST_DUE"
    PAUSED = "PAUSED"
    CANCELLED = "CANCELLED"


class BillingTiming(Enum):
    IN_ADVANCE = "IN_ADVANCE"
    IN_ARREARS = "IN_ARREARS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One price of a subscription, with all that was agreed about it: prices never change once they are published.

    A licensed item has a quantity and no meter, a metered one a meter and no quantity. One without an interval is
    licensed and billed once, in advance, when billing begins.
    """

    id: ItemId
    price_id: PriceId
    interval: Interval | None
    timing: BillingTiming
    meter: str
    quantity: Decimal | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Time without service, half-open; `end` is None while it lasts."""

    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Notice:
    """The decision to cancel later: when it was taken, and when it takes effect."""

    given: datetime
    cancel_time: datetime


@dataclass(frozen=True, slots=True)
class Stretch:
    """Service without interruption that is billed, half-open; `end` is None when no end is in sight.

    It is empty when it began and stopped at one instant. `foreseen` says that the end was known before it came.
    """

    start: datetime
    end: datetime | None
    foreseen: bool

    def reaches(self, instant: datetime) -> bool:
        """Whether service had not ended before the instant came.

        An end that nobody foresaw comes after whatever else happened at its instant: a period that begins then has
        begun, and is billed.
        """
        return self.end is None or instant < self.end or (instant == self.end and not self.foreseen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    id: SubscriptionId
    customer_id: CustomerId
    plan_id: PlanId
    state: State
    items: tuple[Item, ...]
    currency: str
    time_zone: str
    start_time: datetime
    trial_end_time: datetime | None
    billing_anchor: datetime
    notice: Notice | None
    end_time: datetime | None
    pauses: tuple[Pause, ...]
    periods_ended_through: datetime
    """Every period that ended up to here has been announced."""
    revision: int
    create_time: datetime
    update_time: datetime

    @classmethod
    def agree(
        cls,
        *,
        id: SubscriptionId,  # noqa: A002 - named like the field
        customer_id: CustomerId,
        plan_id: PlanId,
        items: tuple[Item, ...],
        currency: str,
        time_zone: str,
        start_time: datetime,
        billing_day: int,
        trial_days: int,
        at: datetime,
    ) -> Subscription:
        """A new subscription: PENDING until a start that lies ahead, then TRIALING in a trial, ACTIVE otherwise."""
        trial_end_time = trial_end(start_time, time_zone, days=trial_days)
        billed_from = trial_end_time or start_time
        intervals = [item.interval for item in items if item.interval is not None]
        anchor = billing_anchor(billed_from, time_zone, billing_day=billing_day, intervals=intervals)
        for interval in intervals:
            _check_in_calendar(anchor, time_zone, interval, billed_from)
        if len(intervals) < len(items):
            _check_in_calendar(billed_from, time_zone, ONE_OFF, billed_from)
        return cls(
            id=id,
            customer_id=customer_id,
            plan_id=plan_id,
            state=State.PENDING if start_time > at else State.TRIALING if billed_from > at else State.ACTIVE,
            items=items,
            currency=currency,
            time_zone=time_zone,
            start_time=start_time,
            trial_end_time=trial_end_time,
            billing_anchor=anchor,
            notice=None,
            end_time=None,
            pauses=(),
            periods_ended_through=start_time,
            revision=1,
            create_time=at,
            update_time=at,
        )

    @property
    def cancel_time(self) -> datetime | None:
        """When it ends or ended because that was decided before; None if it was cancelled sooner than that."""
        if self.notice is None or self.end_time not in (None, self.notice.cancel_time):
            return None
        return self.notice.cancel_time

    @property
    def end(self) -> datetime | None:
        """When it ended or will end, as things stand."""
        return self.end_time or self.cancel_time

    @property
    def pause_time(self) -> datetime | None:
        return self.pauses[-1].start if self.state is State.PAUSED else None

    @property
    def billed_from(self) -> datetime:
        """When billing begins."""
        return self.trial_end_time or self.start_time

    @property
    def ends_unbilled(self) -> bool:
        """Whether it ended or will end, as things stand, before billing begins or at that instant."""
        return self.end is not None and self.end <= self.billed_from

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """All service that is billed: what was given and, as things stand, will be given, in order."""
        starts = [self.billed_from, *(pause.end for pause in self.pauses if pause.end is not None)]
        stops = [*(pause.start for pause in self.pauses), self.end]
        foreseen = self.cancel_time is not None
        stretches = [
            # Nobody foresees a pause, and a stretch that a pause ends has a stop before the last.
            Stretch(start, stop, foreseen and n == len(self.pauses))
            for n, (start, stop) in enumerate(zip(starts, stops, strict=False))
        ]
        return tuple(each for each in stretches if each.end is None or each.start <= each.end)

    @property
    def served(self) -> tuple[Stretch, ...]:
        """The stretches that took time; between two of them lies a pause."""
        return tuple(stretch for stretch in self.stretches if stretch.start != stretch.end)

    def begin(self, *, at: datetime) -> Subscription:
        """Serve, the start having come: in a trial first, even one that is over by now, so that all of it is told."""
        if self.state is not State.PENDING:
            raise SubscriptionNotPending(f"subscription {self.id} is {self.state.name}", subscription=self.id)
        return self._moved(State.ACTIVE if self.trial_end_time is None else State.TRIALING, at=at)

    def end_trial(self, *, at: datetime) -> Subscription:
        """Bill from now on, the end of the trial having come."""
        if self.state is not State.TRIALING or self.ends_unbilled:
            raise SubscriptionNotTrialing(f"subscription {self.id} is {self.state.name}", subscription=self.id)
        return self._moved(State.ACTIVE, at=at)

    def mark_past_due(self, *, at: datetime) -> Subscription:
        """An invoice is overdue and being followed up. Service and billing go on."""
        if self.state is not State.ACTIVE:
            raise SubscriptionNotActive(f"subscription {self.id} is {self.state.name}", subscription=self.id)
        return self._moved(State.PAST_DUE, at=at)

    def recover(self, *, at: datetime) -> Subscription:
        """No invoice is being followed up any more."""
        if self.state is not State.PAST_DUE:
            raise SubscriptionNotPastDue(f"subscription {self.id} is {self.state.name}", subscription=self.id)
        return self._moved(State.ACTIVE, at=at)

    def pause(self, *, at: datetime) -> Subscription:
        """Stop service and billing until resumed."""
        if self.state not in (State.ACTIVE, State.PAST_DUE) or self._is_over(at):
            raise SubscriptionNotActive(f"subscription {self.id} is {self.state.name}", subscription=self.id)
        if len(self.pauses) >= PAUSES_MAX:
            raise TooManyPauses(f"subscription {self.id} was paused {PAUSES_MAX} times", subscription=self.id)
        # Two calls at once take their time before they take their turn: who comes second may have been there first.
        resumed = self.pauses[-1].end if self.pauses else None
        start = max(at, resumed or self.billed_from)
        return replace(self._moved(State.PAUSED, at=at), pauses=(*self.pauses, Pause(start, None)))

    def resume(self, *, at: datetime, past_due: bool) -> Subscription:
        """Take service and billing up again. A pause that took no time has not been."""
        if self.state is not State.PAUSED or self._is_over(at):
            raise SubscriptionNotPaused(f"subscription {self.id} is {self.state.name}", subscription=self.id)
        *before, last = self.pauses
        pauses = (*before, Pause(last.start, at)) if last.start < at else tuple(before)
        return replace(self._moved(State.PAST_DUE if past_due else State.ACTIVE, at=at), pauses=pauses)

    def cancel(self, *, at: datetime) -> Subscription:
        """End now, or at the time that was decided before if that has come already."""
        if self.state is State.CANCELLED:
            raise SubscriptionCancelled(f"subscription {self.id} has ended", subscription=self.id)
        return replace(self._moved(State.CANCELLED, at=at), end_time=self.end if self._is_over(at) else at)

    def cancel_at_period_end(self, *, at: datetime) -> Subscription:
        """Decide that it ends with its trial, or else with the period under way of its first item that has periods.

        Before the start there is nothing to wait for, nor is there when nothing is billed more than once: it ends at
        once. Deciding it again changes nothing.
        """
        ends = None if self.state is State.CANCELLED or at < self.start_time else self._period_end(at)
        if ends is None:
            return self.cancel(at=at)
        if self.notice is not None:
            return self
        return replace(self._moved(self.state, at=at), notice=Notice(at, ends))

    def _period_end(self, at: datetime) -> datetime | None:
        """When what is under way ends: the trial, or a period of the first item that has periods."""
        if at < self.billed_from:
            return self.billed_from
        interval = next((item.interval for item in self.items if item.interval is not None), None)
        return None if interval is None else period_at(self.billing_anchor, self.time_zone, interval, at).end

    def _moved(self, state: State, *, at: datetime) -> Subscription:
        return replace(self, state=state, revision=self.revision + 1, update_time=at)

    def _is_over(self, at: datetime) -> bool:
        """Whether the end has come, even if the job that carries it out is late."""
        return self.end is not None and self.end <= at


def _check_in_calendar(anchor: datetime, zone: str, interval: Interval, start: datetime) -> None:
    try:
        period_at(anchor, zone, interval, start)
    except TimeOutOfRange:
        message = f"must leave room for a period of {interval} in the years {EARLIEST.year} to {LATEST.year - 1}"
        raise InvalidArgument(message, field="start_time") from None
