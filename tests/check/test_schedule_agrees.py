"""Two that computed the same thing apart from each other: the checker's schedule, and the service's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import SaldoError
from common.period import EARLIEST, Interval, Unit
from services.subscriptions.tests.agreed import kept
from subscriptions.domain import change as does
from subscriptions.domain import verbs
from subscriptions.domain.billable_periods import schedule
from subscriptions.domain.change import Action, EndReason, Proration, Timing, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.moments import ActivationMissed, TrialInDoubt, announced, next_moment
from subscriptions.domain.ramp import step_time, with_ramp
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import (
    NO_CHANGE,
    BillingTiming,
    ChangeId,
    Item,
    ItemId,
    PlanId,
    PriceId,
    ProductId,
    SubscriptionId,
    Terms,
)
from subscriptions.domain.timeline import Activation, TrialEnd
from subscriptions.store.agreements import action_to_json, opening_to_json
from tools.check.agreement import Agreement, agreement_of
from tools.check.schedule import Billable, billables

ZONES: Final = ("UTC", "UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia")
START: Final = datetime(2011, 10, 1, tzinfo=UTC)
SEEDS: Final = st.integers(0, 1 << 64)
CASES: Final = 10
"""Of each example, drawn from its seed."""

Shown = tuple[object, ...]


class Life:
    """A subscription, and what is done to it as time goes on."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Random(seed)
        self.changes = 0
        self.now = START + timedelta(days=chance.randrange(400), hours=chance.choice([0, 0, 9, 23]))
        self.units = chance.choice([(Unit.MONTH,), (Unit.MONTH,), (Unit.MONTH, Unit.YEAR), tuple(Unit)])
        self.has_billing_days = not {Unit.DAY, Unit.WEEK} & {*self.units}
        start = self.now + timedelta(days=chance.choice([0, 0, 0, 0, -40, 20]))
        activation = chance.choice([Activation.ON_START] * 4 + [Activation.BY_HAND, Activation.ON_FIRST_PAYMENT])
        self.subscription = Subscription.agree(
            id=SubscriptionId("sub"),
            customer_id=CustomerId("cus_0"),
            plan_id=PlanId("plan"),
            items=tuple(Item(id=ItemId(f"subi_{n}"), terms=self.terms()) for n in range(chance.choice([1, 1, 2]))),
            currency="EUR",
            time_zone=chance.choice(ZONES),
            start_time=start,
            billing_day=chance.choice([0, 0, 0, 1, 15, 31]) if self.has_billing_days else 0,
            trial_days=chance.choice([0, 0, 0, 0, 1, 31]),
            at=self.now,
            proration=self.proration(),
            activation=activation,
            activation_deadline=None if activation is Activation.ON_START else self.now + timedelta(days=20),
            trial_end_policy=chance.choice([TrialEnd.CONTINUE, TrialEnd.CONTINUE, TrialEnd.PAUSE, TrialEnd.CANCEL]),
            bill_ahead_days=chance.choice([0, 0, 1, 7, 31]),
        )
        if chance.random() < 0.2:
            self.agree_a_ramp()

    def agree_a_ramp(self) -> None:
        """Known from the beginning, though it takes effect later."""
        item = self.subscription.opening.items[0]
        if item.terms.quantity is None:
            return
        months = self.chance.choice([None, 1, 2])
        days = timedelta(days=self.chance.choice([10, 31, 45]))
        change = does.Change(
            id=self.change_id(),
            recorded_time=self.now,
            effective_time=self.subscription.opening.start_time + days
            if months is None
            else step_time(self.subscription, months),
            actions=(does.SetQuantity(item.id, self.quantity()),),
            proration=self.proration(),
            unused=self.unused(),
            decided_with=NO_CHANGE,
            after_months=months,
        )
        self.subscription = kept(self.subscription.with_change(change, at=self.now))

    def live(self, days: int) -> None:
        for _ in range(self.chance.randrange(9)):
            self.wait()
            try:
                self.subscription = kept(self.chance.choice(ACTS)(self))
            except SaldoError:
                continue
        self.wait(timedelta(days=days))

    def wait(self, time: timedelta | None = None) -> None:
        hours = self.chance.choice([0, 0, 1, 12, 24, 24 * 7, 24 * self.chance.randrange(45)])
        upcoming = self.subscription.period_end(self.now)
        if time is None and upcoming is not None and self.chance.random() < 0.15:
            until = max(self.now, upcoming)
        else:
            until = self.now + (time or timedelta(hours=hours))
        while (moment := next_moment(self.subscription)) is not None and moment.time <= until:
            self.now = max(self.now, moment.time)
            self.subscription = announced(kept(self.subscription), moment)
            for happening in moment.happenings:
                if isinstance(happening, TrialInDoubt):
                    self.subscription = self.decide_trial()
                elif isinstance(happening, ActivationMissed):
                    self.subscription = verbs.expire_unactivated(
                        self.subscription, change_id=self.change_id(), at=self.now
                    )
        self.now = until

    def decide_trial(self) -> Subscription:
        if self.chance.random() < 0.5:
            return verbs.begin_billing(self.subscription, change_id=self.change_id(), at=self.now)
        if self.subscription.opening.trial_end is TrialEnd.PAUSE:
            return verbs.pause(self.subscription, change_id=self.change_id(), at=self.now)
        return verbs.cancel(
            self.subscription, change_id=self.change_id(), at=self.now, reason=EndReason.NO_PAYMENT_METHOD
        )

    # What can be done

    def change(self) -> Subscription:
        then = self.subscription.as_of(self.now)
        actions: list[Action] = []
        for _ in range(self.chance.choice([1, 1, 1, 2])):
            item_id = self.chance.choice(list(then.items) or [ItemId("none")])
            terms = then.items.get(item_id)
            choices: list[Action] = [
                does.SetQuantity(item_id, self.quantity()),
                does.SetQuantity(item_id, self.quantity()),
                does.SetPrice(item_id, self.terms(like=terms)),
                does.AddItem(Item(id=ItemId(f"subi_{self.chance.getrandbits(40)}"), terms=self.terms())),
                does.RemoveItem(item_id),
                does.SetBillingDay(self.chance.choice([0, 1, 10, 31])),
            ]
            drawn = self.chance.choice(choices)
            if isinstance(drawn, does.SetQuantity) and (terms is None or terms.quantity is None):
                continue
            if isinstance(drawn, does.SetBillingDay) and not self.has_billing_days:
                continue
            actions.append(drawn)
        return verbs.change(
            self.subscription, actions, change_id=self.change_id(), at=self.now, decision=self.decision()
        )

    def pause(self) -> Subscription:
        return verbs.pause(
            self.subscription,
            change_id=self.change_id(),
            at=self.now,
            service=self.chance.random() < 0.5,
            decision=self.decision(),
        )

    def pause_for_a_while(self) -> Subscription:
        paused = verbs.pause(self.subscription, change_id=self.change_id(), at=self.now, decision=self.decision())
        until = self.now + timedelta(days=self.chance.randrange(1, 60))
        return verbs.resume_at(paused, until, change_id=self.change_id(), at=self.now)

    def resume(self) -> Subscription:
        service, billing = self.chance.choice([(None, None), (None, None), (True, False), (False, True), (True, True)])
        return verbs.resume(
            self.subscription, change_id=self.change_id(), at=self.now, service=service, billing=billing
        )

    def cancel(self) -> Subscription:
        return verbs.cancel(self.subscription, change_id=self.change_id(), at=self.now, decision=self.decision())

    def revoke_cancellation(self) -> Subscription:
        return verbs.revoke_cancellation(self.subscription, new_id=self.change_id, at=self.now)

    def reactivate(self) -> Subscription:
        return verbs.reactivate(self.subscription, change_id=self.change_id(), at=self.now)

    def revoke(self) -> Subscription:
        waiting = [change.id for change in self.subscription.scheduled(self.now)]
        return verbs.revoke(self.subscription, self.chance.choice(waiting or [ChangeId("none")]), at=self.now)

    def transfer(self) -> Subscription:
        customer = CustomerId(f"cus_{self.chance.randrange(3)}")
        return verbs.transfer(
            self.subscription, customer, change_id=self.change_id(), at=self.now, unused=self.unused()
        )

    def move_trial_end(self) -> Subscription:
        to = self.now + timedelta(days=self.chance.choice([0, 0, 5, 40]))
        return self.with_ramp(verbs.move_trial_end(self.subscription, to, change_id=self.change_id(), at=self.now))

    def activate(self) -> Subscription:
        return self.with_ramp(verbs.activate(self.subscription, change_id=self.change_id(), at=self.now))

    def with_ramp(self, begun: Subscription) -> Subscription:
        return with_ramp(begun, decided_with=begun.changes[-1].id, new_id=self.change_id, at=self.now)

    # What is drawn

    def change_id(self) -> ChangeId:
        self.changes += 1
        return ChangeId(f"chg_{self.changes}")

    def terms(self, like: Terms | None = None) -> Terms:
        unit = self.chance.choice(self.units)
        interval = Interval(unit, self.chance.choice([1, 1, 2]) if unit is not Unit.DAY else 10)
        timing = self.chance.choice([BillingTiming.IN_ADVANCE, BillingTiming.IN_ADVANCE, BillingTiming.IN_ARREARS])
        metered = timing is BillingTiming.IN_ARREARS and self.chance.random() < 0.3
        quantity = None if metered else self.quantity()
        if like is not None and like.interval is not None and self.chance.random() < 0.5:
            interval, timing = like.interval, like.timing
        is_once = self.chance.random() < 0.1 if like is None else like.interval is None
        if is_once or (metered and timing is BillingTiming.IN_ADVANCE):
            timing, metered, quantity = BillingTiming.IN_ADVANCE, False, self.quantity()
        if quantity is not None and like is not None and like.quantity is not None:
            quantity = like.quantity
        return Terms(
            plan_id=PlanId("plan"),
            price_id=PriceId(f"price_{self.chance.getrandbits(40)}"),
            product_id=ProductId(""),
            interval=None if is_once else interval,
            timing=timing,
            meter="calls" if metered else "",
            quantity=quantity,
        )

    def quantity(self) -> Decimal:
        return Decimal(self.chance.randrange(1, 5))

    def proration(self) -> Proration:
        return self.chance.choice([Proration.BY_DAY, Proration.BY_DAY, Proration.BY_SECOND, Proration.NONE])

    def unused(self) -> Unused:
        return self.chance.choice(list(Unused))

    def decision(self) -> Decision:
        timing = self.chance.choice([Timing.NOW, Timing.NOW, Timing.PERIOD_END, Timing.AT_TIME])
        days = self.chance.choice([-30, -5, -1, 0, 1, 5, 20, 40])
        effective = self.now + timedelta(days=days, hours=self.chance.choice([0, 0, 3]))
        if days < 0:
            effective = max(effective, self.subscription.earliest_change(self.now))
        return Decision(
            timing=timing,
            effective_time=effective if timing is Timing.AT_TIME else None,
            proration=self.proration(),
            unused=self.unused(),
        )


ACTS: Final[tuple[Callable[[Life], Subscription], ...]] = (
    *[Life.change] * 8,
    Life.pause,
    Life.pause_for_a_while,
    *[Life.resume] * 2,
    *[Life.cancel] * 2,
    Life.revoke_cancellation,
    Life.reactivate,
    Life.revoke,
    Life.transfer,
    Life.move_trial_end,
    Life.activate,
)


def agreement(subscription: Subscription) -> Agreement:
    """As the tables have it."""
    row = {
        "id": subscription.id,
        "time_zone": subscription.opening.time_zone,
        "opening": json.dumps(opening_to_json(subscription.opening)),
    }
    changes = [
        {
            "id": change.id,
            "position": n,
            "recorded_time": change.recorded_time,
            "effective_time": change.effective_time,
            "revoked_time": change.revoked_time,
            "revoked_after": change.revoked_after,
            "decided_with": change.decided_with,
            "after_months": change.after_months,
            "proration": change.proration.name,
            "unused": change.unused.name,
            "actions": json.dumps([action_to_json(action) for action in change.actions]),
        }
        for n, change in enumerate(subscription.changes)
    ]
    return agreement_of(row, changes)


def ours(subscription: Subscription, through: datetime) -> list[Shown]:
    return sorted((_shown(each) for each in billables(agreement(subscription), through=through)), key=repr)


def _shown(each: Billable) -> Shown:
    return (
        str(each.bill_time),
        each.item_id,
        each.kind,
        str(each.period),
        str(each.part),
        str(each.full),
        each.terms.price.id,
        each.terms.price.quantity if each.terms.price.quantity is None else str(each.terms.price.quantity),
        each.terms.customer_id,
        each.change_id,
    )


def theirs(subscription: Subscription, through: datetime) -> list[Shown]:
    return sorted(
        (
            (
                str(each.bill_time),
                each.item_id,
                each.kind.name,
                f"{each.period.start.isoformat()}..{each.period.end.isoformat()}",
                str(each.proration),
                f"{each.full_period.start.isoformat()}..{each.full_period.end.isoformat()}",
                each.terms.price_id,
                None if each.terms.quantity is None else str(Fraction(each.terms.quantity)),
                each.customer_id,
                each.change_id,
            )
            for each in schedule([subscription], after=EARLIEST, through=through).periods
        ),
        key=repr,
    )


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 400))
def test_both_come_to_the_same_periods(seed: int, days: int) -> None:
    """Whatever was agreed, whatever was decided since, wherever it is, and however long it has been."""
    for case in range(CASES):
        life = Life(seed + case)
        life.live(days)
        assert ours(life.subscription, life.now) == theirs(life.subscription, life.now), seed + case


SEVERAL_AT_ONCE: Final = (
    706810837337,
    916635753984,
    916635754846,
    1019359900601,
    1019359901022,
    18405378239,
)
"""Lives in which one call takes back what another has just decided, or decides after that, while time stands still."""

TRIALS_MOVED: Final = (916635754892, 1019359901365, 53835409671)
"""Lives in which billing begins at another moment than when a decision about its periods was taken."""


def _with_known(test: Callable[[int], None]) -> Callable[[int], None]:
    for seed in (*SEVERAL_AT_ONCE, *TRIALS_MOVED):
        test = example(seed)(test)
    return test


@settings(max_examples=30, deadline=None)
@_with_known
@given(SEEDS)
def test_what_was_due_stays_due(seed: int) -> None:
    """Whatever is decided later: an invoice that was written is never wrong afterwards, and no name is given twice."""
    life = Life(seed)
    before: set[Shown] = set()
    for _ in range(4):
        life.live(0)
        due = ours(life.subscription, life.now)
        assert due == theirs(life.subscription, life.now)
        assert before <= {*due}
        before = {*due}
        assert len({each.key for each in billables(agreement(life.subscription), through=life.now)}) == len(due)
