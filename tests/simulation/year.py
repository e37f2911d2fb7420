"""Knows how to make up a year of contracts from a seed: whatever can be decided about a subscription, at any time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc.aio
from google.type.decimal_pb2 import Decimal

from common import wire
from saldo.catalog.v1.plan_pb2 import Plan
from saldo.catalog.v1.price_pb2 import BillingInterval, Price
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import (
    BillablePeriod,
    ItemSpec,
    Subscription,
    SubscriptionAction,
    SubscriptionChange,
)
from tests.support.sandbox import Sandbox, flat, per_unit

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAYS: Final = 365
STEPS: Final = (28, 68)
"""In how many the year is lived: by few customers, or by many."""
FEW: Final = 50
ZONES: Final = (
    "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Apia",
)  # fmt: skip
PLANS: Final = 4
ACTS_PER_CUSTOMER: Final = 6
"""In a year, on average."""
SCHEDULE_CUSTOMERS_MAX: Final = 100
YEARLY: Final = BillingInterval(unit=BillingInterval.YEAR, count=1)
QUARTERLY: Final = BillingInterval(unit=BillingInterval.MONTH, count=3)
REFUSALS: Final = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
)


@dataclass(slots=True)
class Year:
    """One seed, one year. What is refused because of what came before is part of it."""

    seed: int
    sandbox: Sandbox
    size: int
    now: datetime = START
    customers: list[Customer] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    add_on: Plan = field(init=False)
    done: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    async def live(self) -> None:
        await self._offer()
        for number in range(self.size):
            await self._join(number)
        steps = STEPS[self.size >= FEW]
        pace = timedelta(days=DAYS) / (steps + 1)
        for _ in range(steps):
            self.now += pace
            await self.sandbox.travel(self.now)
            for _ in range(max(1, self.size * ACTS_PER_CUSTOMER // steps)):
                await self._act()
        await self.sandbox.travel(START + timedelta(days=DAYS))

    async def schedules(self) -> list[list[tuple[object, ...]]]:
        """What was due of every customer in the year, in names that every run of the seed has in common."""
        names = {each.id: f"subscription {n}" for n, each in enumerate(self.subscriptions)}
        codes = {price.id: f"{plan.code} {price.code}" for plan in [*self.plans, self.add_on] for price in plan.prices}
        found: list[list[tuple[object, ...]]] = []
        for first in range(0, len(self.customers), SCHEDULE_CUSTOMERS_MAX):
            ids = [customer.id for customer in self.customers[first : first + SCHEDULE_CUSTOMERS_MAX]]
            answer = await self.sandbox.client.subscriptions.BatchListBillablePeriods(
                pb.BatchListBillablePeriodsRequest(
                    customer_ids=ids, through_time=wire.timestamp(START + timedelta(days=DAYS))
                )
            )
            found += [[_told(period, names, codes) for period in each.periods] for each in answer.schedules]
        return found

    async def _offer(self) -> None:
        for number in range(PLANS):
            prices = [
                flat("fee", f"{self.chance.randrange(5, 90)}.{self.chance.randrange(100):02}"),
                per_unit("seats", f"{self.chance.randrange(1, 30)}.{self.chance.randrange(100):02}"),
                flat("support", "9.90", timing=Price.IN_ARREARS),
            ]
            if number == 1:
                prices.append(flat("licence", "240", interval=YEARLY))
            if number == 2:
                prices[0] = flat("fee", "99", interval=QUARTERLY)
            for price in prices:
                if self.plans and price.code in ("fee", "seats"):
                    price.product_id = next(old.product_id for old in self.plans[0].prices if old.code == price.code)
            self.plans.append(await self.sandbox.plan(f"plan-{number}", *prices))
        self.add_on = await self.sandbox.plan("extra", per_unit("extra", "3.33"), is_add_on=True)

    async def _join(self, number: int) -> None:
        customer = await self.sandbox.customer(
            f"customer-{number}", time_zone=self.chance.choice(ZONES), token=self.chance.choice(["sim:ok"] * 3 + [""])
        )
        self.customers.append(customer)
        await self._subscribe(customer)

    async def _act(self) -> None:
        acts: list[tuple[str, Callable[[], Awaitable[None]], int]] = [
            ("subscribe", self._take_more, 2),
            ("quantity", self._quantity, 8),
            ("plan", self._plan, 4),
            ("item", self._item, 2),
            ("add-on", self._take_add_on, 2),
            ("billing day", self._billing_day, 2),
            ("pause", self._pause, 3),
            ("resume", self._resume, 3),
            ("cancel", self._cancel, 3),
            ("revoke", self._revoke, 2),
            ("reactivate", self._reactivate, 2),
            ("extend trial", self._extend_trial, 1),
            ("end trial", self._end_trial, 1),
            ("transfer", self._transfer, 1),
            ("align", self._align, 1),
            ("merge", self._merge, 1),
        ]
        (chosen,) = self.chance.choices(acts, [weight for *_, weight in acts])
        name, act, _ = chosen
        try:
            await act()
            self.done[name] = self.done.get(name, 0) + 1
        except grpc.aio.AioRpcError as error:
            if error.code() not in REFUSALS:
                raise
            self.refused[name] = self.refused.get(name, 0) + 1

    async def _take_more(self) -> None:
        await self._subscribe(self.chance.choice(self.customers))

    async def _subscribe(self, customer: Customer) -> None:
        plan = self.chance.choice(self.plans)
        seats = next(price for price in plan.prices if price.code == "seats")
        others = [price for price in plan.prices if price.code != "seats"]
        start = self.now + timedelta(days=self.chance.choice([0, 0, 0, -40, 15]), hours=self.chance.randrange(24))
        trial = self.chance.choice([None, None, None, 5, 20])
        request = pb.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            items=[
                ItemSpec(price_id=seats.id, quantity=Decimal(value=str(self.chance.randrange(1, 9)))),
                *(ItemSpec(price_id=price.id) for price in self.chance.sample(others, self.chance.randint(0, 2))),
            ],
            start_time=wire.timestamp(start),
            billing_day=self.chance.choice([0, 0, 1, 15, 31]),
            proration=self.chance.choice([SubscriptionChange.BY_DAY, SubscriptionChange.BY_SECOND]),
        )
        if trial is not None:
            request.trial_days = trial
        self.subscriptions.append(await self.sandbox.client.subscriptions.CreateSubscription(request))

    async def _quantity(self) -> None:
        subscription = await self._one()
        item = self.chance.choice([each for each in subscription.items if each.HasField("quantity")] or [None])
        await self._change(
            subscription,
            SubscriptionAction(
                set_quantity=SubscriptionAction.SetQuantity(
                    item_id=item.id if item else "", quantity=Decimal(value=str(self.chance.randrange(0, 12)))
                )
            ),
        )

    async def _plan(self) -> None:
        plan = self.chance.choice(self.plans)
        await self._change(
            await self._one(), SubscriptionAction(change_plan=SubscriptionAction.ChangePlan(plan_id=plan.id))
        )

    async def _item(self) -> None:
        subscription = await self._one()
        if self.chance.random() < 0.5 and subscription.items:
            item = self.chance.choice(subscription.items)
            action = SubscriptionAction(remove_item=SubscriptionAction.RemoveItem(item_id=item.id))
        else:
            plan = next(each for each in self.plans if each.id == subscription.plan_id)
            price = self.chance.choice(plan.prices)
            action = SubscriptionAction(add_item=SubscriptionAction.AddItem(price_id=price.id))
        await self._change(subscription, action)

    async def _take_add_on(self) -> None:
        subscription = await self._one()
        if subscription.add_ons:
            action = SubscriptionAction(remove_add_on=SubscriptionAction.RemoveAddOn(plan_id=self.add_on.id))
        else:
            action = SubscriptionAction(add_add_on=SubscriptionAction.AddAddOn(plan_id=self.add_on.id))
        await self._change(subscription, action)

    async def _billing_day(self) -> None:
        day = self.chance.choice([0, 1, 10, 29, 30, 31])
        await self._change(
            await self._one(), SubscriptionAction(set_billing_day=SubscriptionAction.SetBillingDay(billing_day=day))
        )

    async def _change(self, subscription: Subscription, action: SubscriptionAction) -> None:
        request = pb.ChangeSubscriptionRequest(
            id=subscription.id,
            actions=[action],
            timing=self.chance.choice(
                [
                    SubscriptionChange.NOW,
                    SubscriptionChange.NOW,
                    SubscriptionChange.PERIOD_END,
                    SubscriptionChange.AT_TIME,
                ]
            ),
            proration=self.chance.choice(
                [SubscriptionChange.PRORATION_UNSPECIFIED] * 3 + [SubscriptionChange.NONE, SubscriptionChange.BY_SECOND]
            ),
            unused=self.chance.choice([SubscriptionChange.CREDIT, SubscriptionChange.CREDIT, SubscriptionChange.KEEP]),
        )
        if request.timing == SubscriptionChange.AT_TIME:
            when = self.now + timedelta(days=self.chance.choice([-3, -1, 4, 20]), hours=self.chance.randrange(24))
            request.effective_time.CopyFrom(wire.timestamp(when))
        await self.sandbox.client.subscriptions.ChangeSubscription(request)

    async def _pause(self) -> None:
        request = pb.PauseSubscriptionRequest(
            id=self._any().id,
            scope=self.chance.choice(
                [
                    pb.PauseSubscriptionRequest.BOTH,
                    pb.PauseSubscriptionRequest.SERVICE,
                    pb.PauseSubscriptionRequest.BILLING,
                ]
            ),
            unused=self.chance.choice([SubscriptionChange.CREDIT, SubscriptionChange.KEEP]),
        )
        if self.chance.random() < 0.5:
            request.resume_time.CopyFrom(wire.timestamp(self.now + timedelta(days=self.chance.randrange(1, 60))))
        await self.sandbox.client.subscriptions.PauseSubscription(request)

    async def _resume(self) -> None:
        await self.sandbox.client.subscriptions.ResumeSubscription(pb.ResumeSubscriptionRequest(id=self._any().id))

    async def _cancel(self) -> None:
        timing = pb.CancelSubscriptionRequest
        request = pb.CancelSubscriptionRequest(
            id=self._any().id,
            timing=self.chance.choice([timing.NOW, timing.PERIOD_END, timing.AT_TIME]),
            unused=self.chance.choice([SubscriptionChange.CREDIT, SubscriptionChange.KEEP, SubscriptionChange.REFUND]),
        )
        if request.timing == timing.AT_TIME:
            when = self.now + timedelta(days=self.chance.choice([-2, 3, 30]))
            request.cancel_time.CopyFrom(wire.timestamp(when))
        await self.sandbox.client.subscriptions.CancelSubscription(request)

    async def _revoke(self) -> None:
        subscription = self._any()
        if self.chance.random() < 0.5:
            await self.sandbox.client.subscriptions.RevokeCancellation(pb.RevokeCancellationRequest(id=subscription.id))
            return
        scheduled = await self.sandbox.client.subscriptions.ListSubscriptionChanges(
            pb.ListSubscriptionChangesRequest(subscription_id=subscription.id, state=SubscriptionChange.SCHEDULED)
        )
        for change in scheduled.changes[:1]:
            await self.sandbox.client.subscriptions.RevokeSubscriptionChange(
                pb.RevokeSubscriptionChangeRequest(subscription_id=subscription.id, change_id=change.id)
            )

    async def _reactivate(self) -> None:
        await self.sandbox.client.subscriptions.ReactivateSubscription(
            pb.ReactivateSubscriptionRequest(id=self._any().id)
        )

    async def _extend_trial(self) -> None:
        ends = self.now + timedelta(days=self.chance.randrange(1, 40))
        await self.sandbox.client.subscriptions.ExtendTrial(
            pb.ExtendTrialRequest(id=self._any().id, trial_end_time=wire.timestamp(ends))
        )

    async def _end_trial(self) -> None:
        await self.sandbox.client.subscriptions.EndTrial(pb.EndTrialRequest(id=self._any().id))

    async def _transfer(self) -> None:
        await self.sandbox.client.subscriptions.TransferSubscription(
            pb.TransferSubscriptionRequest(
                id=self._any().id,
                customer_id=self.chance.choice(self.customers).id,
                unused=self.chance.choice([SubscriptionChange.CREDIT, SubscriptionChange.KEEP]),
            )
        )

    async def _align(self) -> None:
        await self.sandbox.client.subscriptions.AlignSubscriptions(
            pb.AlignSubscriptionsRequest(
                customer_id=self.chance.choice(self.customers).id, billing_day=self.chance.choice([1, 15, 31])
            )
        )

    async def _merge(self) -> None:
        source, target = self.chance.sample(self.customers, 2)
        await self.sandbox.client.customers.MergeCustomers(
            customers_pb.MergeCustomersRequest(source_id=source.id, target_id=target.id)
        )

    def _any(self) -> Subscription:
        return self.chance.choice(self.subscriptions)

    async def _one(self) -> Subscription:
        """As it is now."""
        return await self.sandbox.client.subscriptions.GetSubscription(pb.GetSubscriptionRequest(id=self._any().id))


def _told(period: BillablePeriod, names: dict[str, str], codes: dict[str, str]) -> tuple[object, ...]:
    return (
        names[period.subscription_id],
        codes[period.price_id],
        period.quantity.value,
        BillablePeriod.Kind.Name(period.kind),
        period.period.start_time.ToDatetime(UTC),
        period.period.end_time.ToDatetime(UTC),
        period.full_period.start_time.ToDatetime(UTC),
        period.full_period.end_time.ToDatetime(UTC),
        f"{period.proration.numerator}/{period.proration.denominator}",
        period.bill_time.ToDatetime(UTC),
        bool(period.change_id),
    )
