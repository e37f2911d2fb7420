"""Knows how to draw what somebody agrees to at first: how it begins, for how long, what is off, what is to change."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money

from common import wire
from saldo.catalog.v1.plan_pb2 import Plan
from saldo.catalog.v1.price_pb2 import Price
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import (
    Commitment,
    ItemSpec,
    Subscription,
    SubscriptionAction,
    SubscriptionChange,
    Term,
)

SEATS: Final = "seats"
ACTIVATIONS: Final = (*(Subscription.ON_START,) * 6, Subscription.ON_FIRST_PAYMENT, Subscription.BY_HAND)
RARELY: Final = 0.15
"""How likely each of the things is that most contracts do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one seller offers, and luck."""

    chance: random.Random
    plans: Sequence[Plan]
    add_on: Plan
    coupons: Sequence[str]

    def draw(self, customer: Customer, *, now: datetime, payers: Sequence[Customer]) -> pb.CreateSubscriptionRequest:
        chance = self.chance
        plan = chance.choice(self.plans)
        seats = next(price for price in plan.prices if price.code == SEATS)
        others = chance.sample([price for price in plan.prices if price.code != SEATS], chance.randint(0, 3))
        start = now + timedelta(days=chance.choice([0, 0, 0, -40, 15]), hours=chance.randrange(24))
        request = pb.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            items=[self._seats(seats), *(ItemSpec(price_id=price.id) for price in others)],
            start_time=wire.timestamp(start),
            billing_day=chance.choice([0, 0, 1, 15, 31]),
            proration=chance.choice([SubscriptionChange.BY_DAY, SubscriptionChange.BY_SECOND]),
            activation=chance.choice(
                [Subscription.ON_START] * 6 + [Subscription.ON_FIRST_PAYMENT, Subscription.BY_HAND]
            ),
            activation_hours=chance.choice([0, 24 * 10, 24 * 40]),
            trial_end=chance.choice([Subscription.CONTINUE, Subscription.PAUSE, Subscription.CANCEL]),
        )
        trial = chance.choice([None, None, None, 5, 20])
        if trial is not None:
            request.trial_days = trial
        if chance.random() < RARELY:
            request.term.CopyFrom(self.term())
        if chance.random() < RARELY:
            request.commitment.CopyFrom(self.commitment())
        if chance.random() < RARELY:
            request.discounts.append(self.discount())
        if chance.random() < RARELY:
            request.add_ons.append(SubscriptionAction.AddAddOn(plan_id=self.add_on.id))
        if chance.random() < RARELY:
            request.payer_id = chance.choice(payers).id
        if chance.random() < RARELY:
            request.ramp.extend(self._ramp(seats, others))
        return request

    def term(self) -> Term:
        return Term(
            months=self.chance.choice([1, 3, 6]),
            renewal=self.chance.choice([Term.RENEW, Term.EXPIRE]),
            notice_days=self.chance.choice([0, 7]),
        )

    def commitment(self) -> Commitment:
        minimum = Money(currency_code="EUR", units=self.chance.randrange(10, 500))
        return Commitment(minimum=minimum, months=self.chance.choice([1, 1, 3, 12]))

    def discount(self) -> SubscriptionAction.ApplyDiscount:
        return SubscriptionAction.ApplyDiscount(
            coupon_id=self.chance.choice(self.coupons), periods=self.chance.choice([0, 1, 2, 5])
        )

    def _ramp(self, seats: Price, others: Sequence[Price]) -> list[pb.RampStep]:
        """More and more seats; sometimes more is to be spent, or one of the other prices gives way to one not taken."""
        steps = [pb.RampStep(after_months=month, quantities=[self._seats(seats)]) for month in (1, 2, 4)]
        steps[1].commitment.CopyFrom(self.commitment())
        flat_ones = [price for price in others if not price.meter]
        if flat_ones:
            taken = self.chance.choice(flat_ones)
            plan = next(each for each in self.plans if taken.id in {price.id for price in each.prices})
            free = [price for price in plan.prices if not price.meter and price.code != SEATS and price not in others]
            if free:
                steps[2].prices.append(
                    pb.PriceReplacement(from_price_id=taken.id, to_price_id=self.chance.choice(free).id)
                )
        return steps

    def _seats(self, price: Price) -> ItemSpec:
        return ItemSpec(price_id=price.id, quantity=Decimal(value=str(self.chance.randrange(1, 9))))
