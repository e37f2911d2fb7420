"""Knows a subscription: the log of what was agreed and decided about it, and the verbs that add to the log.

    PENDING ──start──▸ TRIALING ──end of trial──▸ ACTIVE ◂──▸ PAST_DUE       while an invoice is followed up
       │                                          │    ▴
       └──start, first payment or by hand──▸      ▾    │
                                                PAUSED                        service, by a pause and a resumption

    CANCELLED   from everywhere, by an end; back by a reactivation

Nothing moves a subscription from state to state: its state at any moment follows from the log, and so does everything
that is to be billed. A job that is late announces late; it changes nothing about money.

A change is decided at one moment and takes effect at the same or another one. What was billed before it was decided
was billed by what was known then, and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final, NamedTuple

from common.errors import InvalidArgument, SaldoError
from common.period import EARLIEST, LATEST, Interval, Period, TimeOutOfRange, Unit, boundary, index_at, period_at
from subscriptions.domain import errors
from subscriptions.domain.billing_anchor import billing_anchor
from subscriptions.domain.change import (
    CHANGES_MAX,
    Action,
    Change,
    Commitment,
    End,
    Proration,
    Reactivate,
    Timing,
    Transfer,
    Unused,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.discounts import ends, left
from subscriptions.domain.states import LEGAL, REFUSALS, State, Verb
from subscriptions.domain.terms import NO_CHANGE, ONE_OFF, BillingTiming, ChangeId, Item, PlanId, SubscriptionId
from subscriptions.domain.timeline import (
    Activation,
    Discount,
    Opening,
    Timeline,
    TrialEnd,
    timeline,
)
from subscriptions.domain.track import Segment, Track
from subscriptions.domain.trial import trial_end


@dataclass(frozen=True, slots=True)
class Belief:
    """What was known from one decision to the next, and the items' terms by that."""

    since: datetime | None
    """When it was decided; None for what was agreed at first."""
    change_id: ChangeId
    """What was decided, or taken back."""
    until: datetime | None
    """Up to when it held, and what came to be due in that very moment is due by it; None for what is known now."""
    reaches_back_to: datetime | None
    """The earliest moment that anything decided later concerns."""
    concerns_since: datetime | None
    """The earliest moment that what was decided concerns; None for what was agreed at first."""
    timeline: Timeline
    tracks: Sequence[Track]


class _Fact(NamedTuple):
    """In order: what is taken back makes room for what is decided in the same breath."""

    time: datetime
    log_length: int
    """Before it became known: where time stands still, one decision comes after the other all the same."""
    is_decided: bool
    changes: tuple[int, ...]
    """What is taken back at once is taken back together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """When a change takes effect and at whose expense: the part of it that is not what is done."""

    timing: Timing = Timing.NOW
    effective_time: datetime | None = None
    proration: Proration | None = None
    """None means as the subscription says."""
    unused: Unused = Unused.CREDIT


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Without slots, so that what follows from the log is worked out once."""

    id: SubscriptionId
    opening: Opening
    changes: tuple[Change, ...]
    is_followed_up: bool
    """Whether an invoice of it is overdue and being followed up."""
    announced_through: datetime
    """Everything that happened to it by itself up to here has been announced."""
    revision: int
    create_time: datetime
    update_time: datetime
    kept: int = 0
    """How many of the changes were there before what is being decided."""

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
        proration: Proration = Proration.BY_DAY,
        activation: Activation = Activation.ON_START,
        activation_deadline: datetime | None = None,
        trial_end_policy: TrialEnd = TrialEnd.CONTINUE,
        payer_id: CustomerId | None = None,
        bill_ahead_days: int = 0,
    ) -> Subscription:
        """A new subscription. It begins at its start, or when it is activated."""
        billed_from = trial_end(start_time, time_zone, days=trial_days) or start_time
        intervals = [item.terms.interval for item in items if item.terms.interval is not None]
        anchor = billing_anchor(billed_from, time_zone, billing_day=billing_day, intervals=intervals)
        for interval in intervals:
            _check_in_calendar(anchor, time_zone, interval, billed_from)
        if len(intervals) < len(items):
            _check_in_calendar(billed_from, time_zone, ONE_OFF, billed_from)
        return cls(
            id=id,
            opening=Opening(
                customer_id=customer_id,
                plan_id=plan_id,
                items=items,
                currency=currency,
                time_zone=time_zone,
                start_time=start_time,
                billing_day=billing_day,
                trial_days=trial_days,
                proration=proration,
                activation=activation,
                activation_deadline=activation_deadline,
                trial_end=trial_end_policy,
                payer_id=payer_id,
                bill_ahead_days=bill_ahead_days,
                recorded_time=at,
            ),
            changes=(),
            is_followed_up=False,
            announced_through=min(at, start_time),
            revision=1,
            create_time=at,
            update_time=at,
        )

    def told(self, through: datetime) -> Subscription:
        """The same, of which everything up to there has been announced; what follows from its log stays worked out."""
        told = replace(self, announced_through=through)
        vars(told).update({name: worked_out for name, worked_out in vars(self).items() if name in _OF_THE_LOG})
        return told

    @cached_property
    def standing(self) -> tuple[Change, ...]:
        """The changes that were not taken back."""
        return tuple(change for change in self.changes if change.revoked_time is None)

    @cached_property
    def timeline(self) -> Timeline:
        """All that follows, as things stand."""
        return timeline(self.opening, self.standing)

    @cached_property
    def tracks(self) -> Sequence[Track]:
        return self.timeline.tracks

    @cached_property
    def beliefs(self) -> Sequence[Belief]:
        """What was believed, from the agreement to now, in order."""
        facts = self._facts()
        known = {n for n, change in enumerate(self.changes) if change.decided_with == NO_CHANGE}
        found: list[Belief] = []
        for n in range(len(facts) + 1):
            if n:
                known = self._known_after(facts[n - 1], known)
            is_last = n == len(facts)
            by_then = [self.changes[each] for each in sorted(known)]
            folded = self.timeline if is_last else timeline(self.opening, by_then)
            found.append(
                Belief(
                    since=facts[n - 1].time if n else None,
                    change_id=self.changes[facts[n - 1].changes[-1]].id if n else NO_CHANGE,
                    until=None if is_last else facts[n].time,
                    reaches_back_to=min(
                        (self.changes[each].effective_time for fact in facts[n:] for each in fact.changes), default=None
                    ),
                    concerns_since=min(self.changes[each].effective_time for each in facts[n - 1].changes)
                    if n
                    else None,
                    timeline=folded,
                    tracks=self.tracks if is_last else folded.tracks,
                )
            )
        return found

    def _facts(self) -> list[_Fact]:
        """Every decision and every revocation, in the order in which they became known."""
        decided = [
            _Fact(change.recorded_time, n, True, (n,))
            for n, change in enumerate(self.changes)
            if change.decided_with is None
        ]
        revoked: dict[tuple[datetime, int], list[int]] = {}
        for n, change in enumerate(self.changes):
            if change.revoked_time is not None:
                revoked.setdefault((change.revoked_time, change.revoked_after), []).append(n)
        return sorted([*decided, *(_Fact(*when, False, tuple(together)) for when, together in revoked.items())])

    def _known_after(self, fact: _Fact, known: set[int]) -> set[int]:
        if not fact.is_decided:
            return known - {*fact.changes}
        decided = self.changes[fact.changes[-1]].id
        together = {n for n, change in enumerate(self.changes) if decided in (change.id, change.decided_with)}
        # What was taken back in the breath in which it was decided never was.
        log = self.changes
        return known | {n for n in together if log[n].revoked_time != fact.time or log[n].revoked_after > n}

    @cached_property
    def customer_ids(self) -> Sequence[CustomerId]:
        """Whose it is and was, or will be."""
        transfers = [action for change in self.standing for action in change.actions if isinstance(action, Transfer)]
        return list(dict.fromkeys([self.opening.customer_id, *(each.customer_id for each in transfers)]))

    def former_customer_ids(self, at: datetime) -> list[CustomerId]:
        """Who had it before it was transferred."""
        then = [change for change in self.standing if change.effective_time <= at]
        transfers = [action for change in then for action in change.actions if isinstance(action, Transfer)]
        had = dict.fromkeys([self.opening.customer_id, *(each.customer_id for each in transfers)])
        return [each for each in had if each != self.as_of(at).customer_id]

    def as_of(self, at: datetime) -> Timeline:
        """What is agreed at a moment: the last of the changes in it is the last that has taken effect."""
        if all(change.effective_time <= at for change in self.standing):
            return self.timeline
        return timeline(self.opening, self.standing, until=at)

    def as_known(self, at: datetime) -> Subscription | None:
        """The subscription as it was known at a moment; None before it was."""
        if at < self.create_time:
            return None
        known = tuple(
            replace(change, revoked_time=None)
            if change.revoked_time is not None and change.revoked_time > at
            else change
            for change in self.changes
            if change.recorded_time <= at
        )
        return replace(self, changes=known)

    def state_at(self, at: datetime) -> State:
        then = self.as_of(at)
        if then.last_end is not None:
            return State.CANCELLED
        if then.activated_time is None or at < then.start_time:
            return State.PENDING
        if then.service_breaks and then.service_breaks[-1].end is None:
            return State.PAUSED
        if at < then.billed_from:
            return State.TRIALING
        return State.PAST_DUE if self.is_followed_up else State.ACTIVE

    @property
    def end(self) -> datetime | None:
        """When it ended or will end, as things stand."""
        last = self.timeline.last_end
        return None if last is None else last[0].start

    @property
    def scheduled_end(self) -> Change | None:
        """The decision to end that was taken before it took effect, whether it has by now or not."""
        ends = [change for change in self.standing if change.has(End) and change.was_scheduled]
        end = self.end
        return next((change for change in ends if change.effective_time == end), None)

    @property
    def activation_deadline(self) -> datetime | None:
        """By when it must be activated: what was taken up again without ever having been has as long again."""
        deadline, known = self.opening.activation_deadline, self.opening.recorded_time
        again = [gap.end for gap, _ in self.timeline.ends if gap.end is not None]
        return deadline if deadline is None or not again else max(deadline, again[-1] + (deadline - known))

    def scheduled(self, at: datetime) -> list[Change]:
        """The changes that are to take effect after a moment, in the order in which they will."""
        return sorted(
            (change for change in self.standing if change.effective_time > at), key=lambda each: each.effective_time
        )

    def period_end(self, at: datetime) -> datetime | None:
        """When what is under way ends: the trial, or a period of the first item that has periods, paused or not."""
        if at < self.timeline.billed_from:
            return self.timeline.billed_from
        in_a_pause = self._periods(self.timeline.wanted(at), at)
        period = next(iter([*self._periods_billed(at), *in_a_pause, *self.period_committed(at)]), None)
        return None if period is None else period.end

    def earliest_change(self, at: datetime) -> datetime:
        """The earliest moment from which on a change that is decided now can take effect."""
        in_effect = [change.effective_time for change in self.standing if change.effective_time <= at]
        openings = [period.start for period in self.periods_under_way(at)]
        return max([self.opening.start_time, *in_effect, *openings])

    def decide(
        self,
        actions: Sequence[Action],
        *,
        change_id: ChangeId,
        at: datetime,
        verb: Verb,
        decision: Decision,
    ) -> Subscription:
        """The same subscription, with one more change in its log."""
        self.check(verb, at)
        if len(self.changes) >= CHANGES_MAX and verb is not Verb.CANCEL:
            raise errors.TooManyChanges(f"subscription {self.id} was changed {CHANGES_MAX} times", subscription=self.id)
        change = Change(
            id=change_id,
            recorded_time=self.recorded_time(at),
            effective_time=self.effective_time(decision, at),
            actions=tuple(actions),
            proration=decision.proration or self.opening.proration,
            unused=decision.unused,
        )
        return self.with_change(change, at=at)

    def check(self, verb: Verb, at: datetime) -> None:
        """Whether the verb is legal now, as far as the state says."""
        state = self.state_at(self.recorded_time(at))
        if state not in LEGAL[verb]:
            raise REFUSALS[verb](f"subscription {self.id} is {state.name}", subscription=self.id, state=state.name)

    def term_period(self, at: datetime) -> Period | None:
        """The term under way; the first one before billing begins."""
        term = self.timeline.term
        if term is None:
            return None
        start = self.as_of(at).term_start
        return period_at(start, self.opening.time_zone, Interval(Unit.MONTH, term.months), max(at, start))

    def term_ends(self, at: datetime) -> datetime | None:
        period = self.term_period(at)
        return None if period is None else period.end

    def discount_end(self, discount: Discount) -> datetime | None:
        """When it ends with the periods of the first recurring item; None when it has no end."""
        found = self._recurring()
        if found is None:
            return discount.end
        interval, timing, anchor = found
        return ends(discount, interval, timing, anchor=anchor, timeline=self.timeline)

    def discount_left(self, discount: Discount, at: datetime) -> int | None:
        """How many periods of the first recurring item it is still to come for; None when it has no end by periods."""
        found = self._recurring()
        if found is None:
            return None
        interval, timing, anchor = found
        return left(discount, interval, timing, at, anchor=anchor, timeline=self.timeline)

    def _recurring(self) -> tuple[Interval, BillingTiming, datetime] | None:
        """The periods of the first item that has any, as they are counted at last."""
        for track in self.tracks:
            for segment in reversed(track.segments):
                terms = segment.terms
                if terms is not None and terms.interval is not None:
                    return terms.interval, terms.timing, segment.anchor
        return None

    def commitments_at(self, at: datetime) -> tuple[datetime, Commitment] | None:
        """The commitment in force, and since when."""
        in_force = [each for each in self.timeline.commitments if each[0] <= at]
        if not in_force or in_force[-1][1] is None:
            return None
        since, commitment, _ = in_force[-1]
        assert commitment is not None
        return since, commitment

    def followed_up(self, is_followed_up: bool, *, at: datetime) -> Subscription:
        """An invoice of it is being followed up, or none is any more."""
        if is_followed_up == self.is_followed_up:
            return self
        moved = replace(self, is_followed_up=is_followed_up)
        return moved if moved.state_at(at) is self.state_at(at) else self.moved(moved, at)

    def periods_under_way(self, at: datetime) -> list[Period]:
        """One for every item that has periods and is billed, in the order of the items, and the commitment's."""
        return [*self._periods_billed(at), *self.period_committed(at)]

    def _periods_billed(self, at: datetime) -> list[Period]:
        return self._periods([segment_at(track, at) for track in self.tracks], at)

    def _periods(self, segments: Sequence[Segment | None], at: datetime) -> list[Period]:
        found: list[Period] = []
        for now in segments:
            if now is None or now.terms is None or now.terms.interval is None:
                continue
            zone, interval = self.opening.time_zone, now.terms.interval
            n = index_at(now.anchor, zone, interval, at)
            found.append(Period(boundary(now.anchor, zone, interval, n), boundary(now.anchor, zone, interval, n + 1)))
        return found

    def period_committed(self, at: datetime) -> list[Period]:
        """The period of the commitment that is under way, if there is one."""
        commitment = self.commitments_at(at)
        if commitment is None or at < self.timeline.billed_from:
            return []
        months = Interval(Unit.MONTH, commitment[1].months)
        anchor = next(anchor for since, anchor in reversed(self.timeline.anchors) if since <= at)
        return [period_at(anchor, self.opening.time_zone, months, at)]

    def effective_time(self, decision: Decision, at: datetime) -> datetime:
        earliest = self.earliest_change(at)
        if decision.timing is Timing.NOW:
            # Two calls at once take their time before they take their turn: who comes second may have been there first.
            return self.recorded_time(at)
        if decision.timing is Timing.PERIOD_END:
            return self.period_end(at) or at
        if decision.effective_time is None:
            raise InvalidArgument("must be given with AT_TIME", field="effective_time")
        if not EARLIEST <= decision.effective_time < LATEST:
            raise InvalidArgument("must lie in the calendar", field="effective_time")
        if decision.effective_time < min(earliest, at):
            raise errors.ChangeTooEarly(
                f"must not be before {earliest.isoformat()}", subscription=self.id, earliest_time=earliest.isoformat()
            )
        return decision.effective_time

    def recorded_time(self, at: datetime) -> datetime:
        """In order, also when two calls at once took their time before they took their turn."""
        return max([at, *(change.revoked_time or change.recorded_time for change in self.changes)])

    def without(self, change_ids: set[ChangeId], *, at: datetime) -> Subscription:
        if not change_ids:
            return self
        time = self.recorded_time(at)
        changes = (
            replace(change, revoked_time=time, revoked_after=self.kept) if change.id in change_ids else change
            for change in self.changes
        )
        return replace(self, changes=tuple(changes))

    def with_change(self, change: Change, *, at: datetime) -> Subscription:
        end = self.end
        if end is not None and change.effective_time >= end and not (change.has(End) or change.has(Reactivate)):
            raise errors.ChangeAfterEnd(f"subscription {self.id} will have ended", subscription=self.id)
        return self.validated(self.moved(replace(self, changes=(*self.changes, change)), at), new=change.id)

    def validated(self, changed: Subscription, *, new: ChangeId | None) -> Subscription:
        """With a log in which every change can take effect."""
        folded = Timeline(changed.opening)
        for change in sorted(changed.standing, key=lambda each: each.effective_time):
            try:
                folded.apply(change)
            except SaldoError as error:
                if change.id == new:
                    raise
                message = f"change {change.id} could no longer take effect: {error}"
                raise errors.ChangeConflicts(message, subscription=self.id, change=change.id) from error
        return changed

    def moved(self, changed: Subscription, at: datetime) -> Subscription:
        return replace(changed, revision=self.revision + 1, update_time=max(at, self.update_time))


_OF_THE_LOG: Final = frozenset({"standing", "timeline", "tracks", "beliefs", "customer_ids"})
"""What is worked out once, from the opening and the changes alone."""


def segment_at(track: Track, at: datetime) -> Segment | None:
    return next((each for each in reversed(track.segments) if each.start <= at), None)


def _check_in_calendar(anchor: datetime, zone: str, interval: Interval, start: datetime) -> None:
    try:
        period_at(anchor, zone, interval, start)
    except TimeOutOfRange:
        message = f"must leave room for a period of {interval} in the years {EARLIEST.year} to {LATEST.year - 1}"
        raise InvalidArgument(message, field="start_time") from None
