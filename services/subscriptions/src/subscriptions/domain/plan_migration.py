"""Knows the migration of many subscriptions from one plan to another: its states, its outcomes, and how one is undone.

    PREVIEWING ──▸ PREVIEWED ──start──▸ RUNNING ──▸ DONE ──revert──▸ REVERTING ──▸ REVERTED
         └──────────────┴───────cancel──────┴─▸ CANCELLED ──revert──▴
                                                    ▴────cancel─────┘

Three walks over subscriptions in order of their ids: one that previews, one that migrates, one that reverts. The cursor
is how far the walk under way has come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from subscriptions.domain import errors
from subscriptions.domain.amendment import SwitchPlan
from subscriptions.domain.billable_periods import billable_periods
from subscriptions.domain.change import Action, AddItem, Change, RemoveItem, SetPlan, SetPrice, Timing
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import ChangeId, Item, PlanId, PriceId, SubscriptionId, Terms
from subscriptions.domain.timeline import Timeline, timeline

PlanMigrationId = NewType("PlanMigrationId", str)

SUCCESSIONS_MAX: Final = 1_000
CUSTOMERS_MAX: Final = 1_000


class State(Enum):
    PREVIEWING = "PREVIEWING"
    PREVIEWED = "PREVIEWED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"
    CANCELLED = "CANCELLED"


class Result(Enum):
    """What became of one subscription."""

    WOULD_MIGRATE = "WOULD_MIGRATE"
    WOULD_SKIP = "WOULD_SKIP"
    MIGRATED = "MIGRATED"
    SKIPPED = "SKIPPED"
    REVERTED = "REVERTED"
    NOT_REVERTED = "NOT_REVERTED"


WALKING: Final = frozenset({State.PREVIEWING, State.RUNNING, State.REVERTING})
CANCELLABLE: Final = WALKING | {State.PREVIEWED}
_ENDS: Final[Mapping[State, State]] = {
    State.PREVIEWING: State.PREVIEWED,
    State.RUNNING: State.DONE,
    State.REVERTING: State.REVERTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a migration would do, or has done, with one subscription."""

    subscription_id: SubscriptionId
    result: Result
    update_time: datetime
    reason: str = ""
    message: str = ""
    change_id: ChangeId | None = None
    effective_time: datetime | None = None
    items_kept: int = 0
    items_added: int = 0
    items_removed: int = 0
    revert_change_id: ChangeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMigration:
    id: PlanMigrationId
    from_plan_id: PlanId
    to_plan_id: PlanId
    decision: Decision
    successions: Mapping[PriceId, PriceId]
    customer_ids: Sequence[CustomerId]
    """Nobody named means everybody."""
    state: State
    cursor: str
    """The last subscription that the walk under way has been at; empty before the first."""
    counts: Mapping[Result, int]
    preview_time: datetime | None = None
    start_time: datetime | None = None
    finish_time: datetime | None = None
    revert_time: datetime | None = None
    revision: int
    create_time: datetime
    update_time: datetime

    @classmethod
    def previewing(
        cls,
        *,
        id: PlanMigrationId,  # noqa: A002 - named like the field
        from_plan_id: PlanId,
        to_plan_id: PlanId,
        decision: Decision,
        successions: Mapping[PriceId, PriceId],
        customer_ids: Sequence[CustomerId],
        at: datetime,
    ) -> PlanMigration:
        return cls(
            id=id,
            from_plan_id=from_plan_id,
            to_plan_id=to_plan_id,
            decision=decision,
            successions=successions,
            customer_ids=customer_ids,
            state=State.PREVIEWING,
            cursor="",
            counts={},
            revision=1,
            create_time=at,
            update_time=at,
        )

    @property
    def wish(self) -> SwitchPlan:
        """What is wanted of every subscription."""
        return SwitchPlan(self.to_plan_id, (), self.successions)

    @property
    def walk_time(self) -> datetime:
        """When the walk under way began: who was made a subscription later is not in it."""
        return self.start_time or self.create_time

    def started(self, at: datetime) -> PlanMigration:
        if self.state is not State.PREVIEWED:
            raise errors.PlanMigrationNotPreviewed(
                f"plan migration {self.id} is {self.state.name}", plan_migration=self.id, state=self.state.name
            )
        return replace(self._become(State.RUNNING, at), start_time=at)

    def cancelled(self, at: datetime) -> PlanMigration:
        if self.state not in CANCELLABLE:
            raise errors.PlanMigrationNotCancellable(
                f"plan migration {self.id} is {self.state.name}", plan_migration=self.id, state=self.state.name
            )
        return replace(self._become(State.CANCELLED, at), finish_time=self.finish_time or at)

    def reverting(self, at: datetime) -> PlanMigration:
        if self.state not in (State.DONE, State.CANCELLED) or self.start_time is None:
            raise errors.PlanMigrationNotRevertible(
                f"plan migration {self.id} is {self.state.name}", plan_migration=self.id, state=self.state.name
            )
        return self._become(State.REVERTING, at)

    def walked(self, outcomes: Sequence[Outcome], *, through: str, is_end: bool, at: datetime) -> PlanMigration:
        """Some more subscriptions have their outcomes, and with the last of them the walk has come to its end."""
        counts = Counter(dict(self.counts))
        counts.update(outcome.result for outcome in outcomes)
        walked = replace(self, cursor=through, counts=dict(counts))
        if not is_end:
            return walked
        ended = walked._become(_ENDS[self.state], at)
        match ended.state:
            case State.PREVIEWED:
                return replace(ended, preview_time=at)
            case State.DONE:
                return replace(ended, finish_time=at)
            case _:
                return replace(ended, revert_time=at)

    def _become(self, state: State, at: datetime) -> PlanMigration:
        return replace(self, state=state, cursor="", revision=self.revision + 1, update_time=at)


def check_on_plan(subscription: Subscription, plan_id: PlanId, *, at: datetime) -> None:
    """Whether it is on the plan at a moment, as things stand."""
    then = subscription.as_of(at).plan_id
    if then != plan_id:
        raise errors.NotOnPlan(
            f"subscription {subscription.id} is on plan {then}", subscription=subscription.id, plan=then
        )


def moved(
    subscription_id: SubscriptionId, result: Result, actions: Sequence[Action], change: Change, *, at: datetime
) -> Outcome:
    """The outcome of one that is moved, or would be."""
    return Outcome(
        subscription_id=subscription_id,
        result=result,
        update_time=at,
        change_id=change.id if result is Result.MIGRATED else None,
        effective_time=change.effective_time,
        items_kept=_count(actions, SetPrice),
        items_added=_count(actions, AddItem),
        items_removed=_count(actions, RemoveItem),
    )


def is_billed(subscription: Subscription, change: Change, plan_id: PlanId, *, at: datetime) -> bool:
    """Whether the bill time of something has come that a change to a plan made due: what it credits, what begins with
    it, and everything that is billed by the terms of the plan since.
    """
    for track in subscription.tracks:
        for each in billable_periods(subscription, track.item_id, after=change.recorded_time):
            if each.bill_time > at:
                break
            if each.change_id == change.id:
                return True
            if each.terms.plan_id == plan_id and each.period.start >= change.effective_time:
                return True
    return False


def reversal_decision(subscription: Subscription, change: Change, *, at: datetime) -> Decision:
    """Together with the change that is undone, as if that had never been, or after what was changed since."""
    return Decision(
        timing=Timing.AT_TIME,
        effective_time=max(change.effective_time, subscription.earliest_change(at)),
        proration=change.proration,
        unused=change.unused,
    )


def reversal(subscription: Subscription, change: Change, plan_id: PlanId, *, at: datetime) -> list[Action]:
    """What makes plan and items again what they were before a change to a plan that has taken effect.

    Items that were there are the same items, and quantities that were changed since stay.
    """
    check_on_plan(subscription, plan_id, at=at)
    before, now = _before(subscription, change), subscription.as_of(at).items
    actions: list[Action] = [SetPlan(before.plan_id)]
    foreign = {item_id for item_id, terms in now.items() if terms.plan_id == plan_id}
    for action in change.actions:
        match action:
            case SetPrice(item_id, terms) if item_id in now:
                if now[item_id].price_id != terms.price_id:
                    raise _changed_since(subscription, item_id)
                foreign.discard(item_id)
                actions.append(SetPrice(item_id, _as_many(before.items[item_id], now[item_id])))
            case AddItem(item) if item.id in now:
                foreign.discard(item.id)
                actions.append(RemoveItem(item.id))
            case RemoveItem(item_id):
                actions.append(AddItem(Item(id=item_id, terms=before.items[item_id])))
    if foreign:
        raise _changed_since(subscription, min(foreign))
    return actions


def _before(subscription: Subscription, change: Change) -> Timeline:
    """What was agreed when a change took effect, without it."""
    in_order = sorted(subscription.standing, key=lambda each: each.effective_time)
    return timeline(subscription.opening, in_order[: in_order.index(change)])


def _as_many(terms: Terms, now: Terms) -> Terms:
    if terms.quantity is None or now.quantity is None:
        return terms
    return replace(terms, quantity=now.quantity)


def _changed_since(subscription: Subscription, item_id: str) -> errors.ChangedSince:
    message = f"item {item_id} was agreed after the migration"
    return errors.ChangedSince(message, subscription=subscription.id, item=item_id)


def _count(actions: Sequence[Action], kind: type[Action]) -> int:
    return sum(isinstance(action, kind) for action in actions)
