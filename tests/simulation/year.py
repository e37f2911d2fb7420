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
from saldo.catalog.v1 import coupon_service_pb2 as coupons_pb
from saldo.catalog.v1.coupon_pb2 import Coupon, PercentOff
from saldo.catalog.v1.plan_pb2 import Plan
from saldo.catalog.v1.price_pb2 import BillingInterval, Price
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import plan_migration_service_pb2 as migrations_pb
from saldo.subscriptions.v1 import seat_service_pb2 as seats_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.seat_pb2 import Seat
from saldo.subscriptions.v1.subscription_pb2 import (
    BillablePeriod,
    CommittedPeriod,
    Subscription,
    SubscriptionAction,
    SubscriptionChange,
)
from tests.simulation.orders import SEATS, Orders
from tests.support.sandbox import Sandbox, flat, per_unit, text, usage

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAYS: Final = 365
STEPS: Final = (28, 68)
"""In how many the year is lived: by few customers, or by many."""
FEW: Final = 50
ZONES: Final = (
    "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Apia",
)  # fmt: skip
PLANS: Final = 4
COUPONS: Final = 2
CALLS: Final = "calls"
USES_PER_STEP: Final = 3
CANDIDATES: Final = 3
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
    coupons: list[str] = field(default_factory=list)
    seats: list[seats_pb.InviteSeatResponse] = field(default_factory=list)
    used: int = 0
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
            await self._use()
        await self.sandbox.travel(START + timedelta(days=DAYS))

    async def schedules(self) -> list[list[tuple[object, ...]]]:
        """What was due of every customer in the year, in names that every run of the seed has in common."""
        names = {
            "": "",
            **{each.id: f"subscription {n}" for n, each in enumerate(self.subscriptions)},
            **{each.id: each.external_id for each in self.customers},
            **{coupon_id: f"coupon {n}" for n, coupon_id in enumerate(self.coupons)},
        }
        codes = {price.id: f"{plan.code} {price.code}" for plan in [*self.plans, self.add_on] for price in plan.prices}
        found: list[list[tuple[object, ...]]] = []
        for first in range(0, len(self.customers), SCHEDULE_CUSTOMERS_MAX):
            ids = [customer.id for customer in self.customers[first : first + SCHEDULE_CUSTOMERS_MAX]]
            answer = await self.sandbox.client.subscriptions.BatchListBillablePeriods(
                pb.BatchListBillablePeriodsRequest(
                    customer_ids=ids, through_time=wire.timestamp(START + timedelta(days=DAYS))
                )
            )
            found += [
                [
                    *(_told(period, names, codes) for period in each.periods),
                    *(_committed(period, names) for period in each.commitments),
                ]
                for each in answer.schedules
            ]
        return found

    @property
    def orders(self) -> Orders:
        return Orders(chance=self.chance, plans=self.plans, add_on=self.add_on, coupons=self.coupons)

    async def _offer(self) -> None:
        await self.sandbox.meter(CALLS)
        for number in range(PLANS):
            prices = [
                flat("fee", f"{self.chance.randrange(5, 90)}.{self.chance.randrange(100):02}"),
                per_unit(SEATS, f"{self.chance.randrange(1, 30)}.{self.chance.randrange(100):02}"),
                flat("support", "9.90", timing=Price.IN_ARREARS),
                per_unit(CALLS, "0.25", meter=CALLS),
            ]
            if number == 1:
                prices.append(flat("licence", "240", interval=YEARLY))
            if number == 2:
                prices[0] = flat("fee", "99", interval=QUARTERLY)
            for price in prices:
                if self.plans and price.code in ("fee", SEATS, CALLS):
                    price.product_id = next(old.product_id for old in self.plans[0].prices if old.code == price.code)
            self.plans.append(await self.sandbox.plan(f"plan-{number}", *prices))
        self.add_on = await self.sandbox.plan("extra", per_unit("extra", "3.33"), is_add_on=True)
        for number in range(COUPONS):
            coupon = Coupon(
                code=f"coupon-{number}",
                display_name="A little off",
                percent_off=PercentOff(percent=Decimal(value="10")),
                duration=Coupon.FOREVER,
            )
            made = await self.sandbox.client.coupons.CreateCoupon(coupons_pb.CreateCouponRequest(coupon=coupon))
            self.coupons.append(made.id)

    async def _join(self, number: int) -> None:
        customer = await self.sandbox.customer(
            f"customer-{number}", time_zone=self.chance.choice(ZONES), token=self.chance.choice(["sim:ok"] * 3 + [""])
        )
        self.customers.append(customer)
        await self._subscribe(customer)

    async def _use(self) -> None:
        """Somebody calls, mostly today, sometimes a little while ago."""
        for _ in range(USES_PER_STEP):
            customer = self.chance.choice(self.customers)
            time = self.now - timedelta(hours=self.chance.choice([0, 1, 20, 100]))
            self.used += 1
            await self.sandbox.use(
                usage(customer, CALLS, time, str(self.chance.randrange(1, 40)), event_id=f"use-{self.used}")
            )

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
            ("activate", self._activate, 1),
            ("discount", self._discount, 1),
            ("commitment", self._commitment, 1),
            ("term", self._term, 1),
            ("payer", self._payer, 1),
            ("invite", self._invite, 2),
            ("claim", self._claim, 1),
            ("free", self._free, 1),
            ("migrate", self._migrate, 1),
        ]
        (chosen,) = self.chance.choices(acts, [weight for *_, weight in acts])
        name, act, _ = chosen
        await self._try(name, act)

    async def _try(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
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
        request = self.orders.draw(customer, now=self.now, payers=self.customers)
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

    async def _activate(self) -> None:
        """One that waits for it, if there is any: they are few."""
        waiting = {each.id for each in await self.sandbox.subscriptions() if each.state == Subscription.PENDING}
        chosen = next((each for each in self.subscriptions if each.id in waiting), self._any())
        await self.sandbox.client.subscriptions.ActivateSubscription(pb.ActivateSubscriptionRequest(id=chosen.id))

    async def _discount(self) -> None:
        subscription = await self._one()
        if subscription.discounts and self.chance.random() < 0.5:
            coupon_id = self.chance.choice(subscription.discounts).coupon_id
            action = SubscriptionAction(remove_discount=SubscriptionAction.RemoveDiscount(coupon_id=coupon_id))
        else:
            action = SubscriptionAction(apply_discount=self.orders.discount())
        await self._change(subscription, action)

    async def _commitment(self) -> None:
        commitment = self.orders.commitment() if self.chance.random() < 0.7 else None
        action = SubscriptionAction(set_commitment=SubscriptionAction.SetCommitment(commitment=commitment))
        await self._change(await self._one(), action)

    async def _term(self) -> None:
        term = self.orders.term() if self.chance.random() < 0.7 else None
        action = SubscriptionAction(set_term=SubscriptionAction.SetTerm(term=term))
        await self._change(await self._one(), action)

    async def _payer(self) -> None:
        payer_id = self.chance.choice(["", self.chance.choice(self.customers).id])
        action = SubscriptionAction(set_payer=SubscriptionAction.SetPayer(payer_id=payer_id))
        await self._change(await self._one(), action)

    async def _invite(self) -> None:
        subscription = await self._one()
        item = self.chance.choice([each for each in subscription.items if each.HasField("quantity")] or [None])
        invited = await self.sandbox.client.seats.InviteSeat(
            seats_pb.InviteSeatRequest(
                subscription_id=subscription.id,
                item_id=item.id if item else "",
                holder=f"holder-{self.chance.randrange(20)}",
                expire_days=self.chance.choice([3, 30]),
            )
        )
        self.seats.append(invited)

    async def _claim(self) -> None:
        seat = self.chance.choice(self.seats[-3:] or [seats_pb.InviteSeatResponse(token="of nobody")])
        await self.sandbox.client.seats.ClaimSeat(seats_pb.ClaimSeatRequest(token=seat.token))

    async def _free(self) -> None:
        invited = self.chance.choice(self.seats or [seats_pb.InviteSeatResponse(seat=Seat())])
        await self.sandbox.client.seats.RevokeSeat(seats_pb.RevokeSeatRequest(id=invited.seat.id))

    async def _migrate(self) -> None:
        """All of a plan, or those of a few customers; sometimes it is thought better of at once."""
        source, target = self.chance.sample(self.plans, 2)
        some = self.chance.sample(self.customers, 2) if self.chance.random() < 0.5 else []
        migrations = self.sandbox.client.plan_migrations
        migration = await migrations.CreatePlanMigration(
            migrations_pb.CreatePlanMigrationRequest(
                from_plan_id=source.id,
                to_plan_id=target.id,
                customer_ids=[customer.id for customer in some],
                timing=self.chance.choice([SubscriptionChange.NOW, SubscriptionChange.PERIOD_END]),
                unused=self.chance.choice([SubscriptionChange.CREDIT, SubscriptionChange.KEEP]),
            )
        )
        await self.sandbox.quiet()
        await migrations.StartPlanMigration(migrations_pb.StartPlanMigrationRequest(id=migration.id))
        await self.sandbox.quiet()
        if self.chance.random() < 0.3:
            await migrations.RevertPlanMigration(migrations_pb.RevertPlanMigrationRequest(id=migration.id))
            await self.sandbox.quiet()

    def _any(self) -> Subscription:
        return self.chance.choice(self.subscriptions)

    async def _one(self) -> Subscription:
        """As it is now. More and more have ended: usually one of the others."""
        candidates = [self._any().id for _ in range(CANDIDATES)]
        found = [
            await self.sandbox.client.subscriptions.GetSubscription(pb.GetSubscriptionRequest(id=each))
            for each in candidates
        ]
        return next((each for each in found if each.state != Subscription.CANCELLED), found[0])


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
        names[period.payer_id],
        tuple(names[coupon_id] for coupon_id in period.coupon_ids),
    )


def _committed(period: CommittedPeriod, names: dict[str, str]) -> tuple[object, ...]:
    return (
        names[period.subscription_id],
        text(period.minimum),
        period.period.start_time.ToDatetime(UTC),
        period.period.end_time.ToDatetime(UTC),
        period.full_period.start_time.ToDatetime(UTC),
        period.full_period.end_time.ToDatetime(UTC),
        f"{period.proration.numerator}/{period.proration.denominator}",
        period.bill_time.ToDatetime(UTC),
    )
