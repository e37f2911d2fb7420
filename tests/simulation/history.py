"""Knows how to make up a seller's history from a seed: who buys what, what they use, change and fail to pay."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc.aio

from saldo.catalog.v1.plan_pb2 import Plan
from saldo.catalog.v1.price_pb2 import BillingInterval, Price
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tests.support.sandbox import Sandbox, flat, graduated, per_unit, usage

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAYS: Final = (45, 100)
PACE_DAYS: Final = (1, 12)
METERS: Final = (("energy", Meter.SUM), ("calls", Meter.COUNT))
CURRENCIES: Final = ("EUR", "GBP", "JPY", "KWD")
ZONES: Final = (
    "UTC", "Europe/London", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe",
    "America/Santiago",
)  # fmt: skip
CARDS: Final = (
    "sim:ok", "sim:ok", "sim:decline,ok", "sim:decline,decline,ok", "sim:lost", "sim:lost,ok", "sim:timeout,ok",
    "sim:timeout,lost", "sim:delay=50+ok", "sim:decline", "sim:decline=stolen_card", "sim:decline,lost,decline,ok", "",
)  # fmt: skip
EVENTS: Final = (1, 30)
LATE_DAYS_MAX: Final = 40
ONCE: Final = BillingInterval(unit=BillingInterval.ONCE, count=1)


@dataclass(slots=True)
class History:
    """One seed, one history. What is refused because of what came before is part of it."""

    seed: int
    sandbox: Sandbox
    now: datetime = START
    customers: list[Customer] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    plans: dict[str, list[Plan]] = field(default_factory=dict)
    sent: list[UsageEvent] = field(default_factory=list)
    refusals: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    async def live(self) -> None:
        await self._offer()
        for number in range(self.chance.randint(2, 5)):
            await self._join(number)
        end = START + timedelta(days=self.chance.randint(*DAYS))
        while self.now < end:
            await self._act()
            self.now = min(
                end, self.now + timedelta(days=self.chance.randint(*PACE_DAYS), hours=self.chance.randrange(24))
            )
            await self.sandbox.travel(self.now)

    async def _offer(self) -> None:
        for code, aggregation in METERS:
            await self.sandbox.meter(code, aggregation)
        for currency in CURRENCIES:
            self.plans[currency] = [await self._plan(currency, number) for number in range(2)]
        actions = [DunningPolicy.NONE, DunningPolicy.PAUSE_SUBSCRIPTION, DunningPolicy.CANCEL_SUBSCRIPTION]
        waits = [self.chance.randint(0, 6) for _ in range(self.chance.randint(0, 4))]
        await self.sandbox.policy(
            *waits, final_action=self.chance.choice(actions), final_wait_days=self.chance.randint(1, 10)
        )

    async def _plan(self, currency: str, number: int) -> Plan:
        prices = [
            flat(
                "fee",
                self._amount(),
                currency=currency,
                timing=self.chance.choice([Price.IN_ADVANCE, Price.IN_ARREARS]),
            ),
            per_unit("seats", self._amount(), currency=currency),
            per_unit("energy", f"0.{self.chance.randrange(10**6):06}", currency=currency, meter="energy"),
            graduated("calls", ("3", "0"), ("10", self._amount()), ("", "0.0333"), meter="calls", currency=currency),
        ]
        chosen = self.chance.sample(prices, self.chance.randint(1, len(prices)))
        if self.chance.random() < 0.3:
            chosen.append(flat("setup", self._amount(), currency=currency, interval=ONCE))
        return await self.sandbox.plan(f"{currency.lower()}-{number}", *chosen)

    async def _join(self, number: int) -> None:
        customer = await self.sandbox.customer(
            f"customer-{number}",
            currency=self.chance.choice(CURRENCIES),
            time_zone=self.chance.choice(ZONES),
            token=self.chance.choice(CARDS),
            net_terms_days=self.chance.choice([0, 0, 7, 30]),
            by_hand=self.chance.random() < 0.2,
        )
        self.customers.append(customer)
        await self._subscribe(customer)

    async def _act(self) -> None:
        acts: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._use, 8),
            (self._repeat, 2),
            (self._take_more, 2),
            (self._cancel, 1),
            (self._pause, 1),
            (self._resume, 1),
            (self._renew_card, 2),
        ]
        for act in self.chance.choices(
            [act for act, _ in acts], [weight for _, weight in acts], k=self.chance.randint(1, 4)
        ):
            try:
                await act()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                self.refusals += 1

    async def _use(self) -> None:
        """Some of it happened a while ago, and some of it is sent twice in the same batch."""
        customer = self.chance.choice(self.customers)
        events = [self._event(customer) for _ in range(self.chance.randint(*EVENTS))]
        events += self.chance.sample(events, len(events) // 4)
        self.sent += events
        answer = await self.sandbox.use(*events)
        assert answer.rejected_count == 0, answer

    async def _repeat(self) -> None:
        if self.sent:
            again = self.chance.choices(self.sent, k=10)
            answer = await self.sandbox.use(*again)
            assert answer.accepted_count == 0, answer

    async def _take_more(self) -> None:
        await self._subscribe(self.chance.choice(self.customers))

    async def _cancel(self) -> None:
        await self.sandbox.cancel(self.chance.choice(self.subscriptions), at_period_end=self.chance.random() < 0.5)

    async def _pause(self) -> None:
        request = pb.PauseSubscriptionRequest(id=self.chance.choice(self.subscriptions).id)
        await self.sandbox.client.subscriptions.PauseSubscription(request)

    async def _resume(self) -> None:
        request = pb.ResumeSubscriptionRequest(id=self.chance.choice(self.subscriptions).id)
        await self.sandbox.client.subscriptions.ResumeSubscription(request)

    async def _renew_card(self) -> None:
        await self.sandbox.card(
            self.chance.choice(self.customers), self.chance.choice([card for card in CARDS if card])
        )

    async def _subscribe(self, customer: Customer) -> None:
        plan = self.chance.choice(self.plans[customer.billing_profile.currency])
        start = self.now + timedelta(days=self.chance.choice([0, 0, 0, -20, 15]), hours=self.chance.randrange(24))
        self.subscriptions.append(
            await self.sandbox.subscribe(
                customer,
                plan,
                start=start,
                billing_day=self.chance.choice([0, 0, 1, 15, 31]),
                trial_days=self.chance.choice([None, None, None, 5, 20]),
            )
        )

    def _event(self, customer: Customer) -> UsageEvent:
        late = timedelta(minutes=self.chance.randrange(LATE_DAYS_MAX * 1440) if self.chance.random() < 0.5 else 0)
        meter, _ = self.chance.choice(METERS)
        value = f"{self.chance.randrange(100)}.{self.chance.randrange(1000):03}"
        return usage(customer, meter, self.now - late, value, event_id=f"{self.chance.getrandbits(64):016x}")

    def _amount(self) -> str:
        return f"{self.chance.randrange(100)}.{self.chance.randrange(100):02}"
