"""Knows what somebody wants to subscribe to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from subscriptions.domain.amendment import TakeAddOn
from subscriptions.domain.change import ApplyDiscount, Commitment, Proration, Term
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.plan import ItemSpec
from subscriptions.domain.terms import PriceId
from subscriptions.domain.timeline import Activation, TrialEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """Something that changes so many months after the beginning of billing; items are named by their prices."""

    after_months: int
    quantities: Sequence[ItemSpec]
    prices: Sequence[tuple[PriceId, PriceId]]
    commitment: Commitment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants to subscribe to.

    No `start_time` means now, no items everything the plan offers, no `trial_days` as many as the plan says, for who
    has not had them. No currency means the customer's.
    """

    customer_id: CustomerId
    items: Sequence[ItemSpec]
    start_time: datetime | None
    billing_day: int
    trial_days: int | None
    currency: str = ""
    align_to_customer: bool = False
    proration: Proration = Proration.BY_DAY
    activation: Activation = Activation.ON_START
    activation_within: timedelta = timedelta(hours=24)
    trial_end: TrialEnd = TrialEnd.CONTINUE
    payer_id: CustomerId | None = None
    bill_ahead_days: int = 0
    term: Term | None = None
    commitment: Commitment | None = None
    discounts: Sequence[ApplyDiscount] = ()
    add_ons: Sequence[TakeAddOn] = ()
    ramp: Sequence[RampStep] = ()
