"""Knows what can be decided about a subscription: actions that take effect together, when, and at whose expense."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final

from common.money import Money
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.terms import ChangeId, CouponId, Item, ItemId, PlanId, Terms

CHANGES_MAX: Final = 1_000
ACTIONS_MAX: Final = 100


class Timing(Enum):
    NOW = "NOW"
    PERIOD_END = "PERIOD_END"
    AT_TIME = "AT_TIME"


class Proration(Enum):
    """How the parts of a period are measured that a change in the middle of it makes."""

    BY_DAY = "BY_DAY"
    BY_SECOND = "BY_SECOND"
    NONE = "NONE"
    """The periods under way are billed as if nothing had changed."""


class Unused(Enum):
    """What becomes of what was billed in advance and is no longer wanted."""

    CREDIT = "CREDIT"
    KEEP = "KEEP"
    REFUND = "REFUND"


class EndReason(Enum):
    REQUESTED = "REQUESTED"
    EXPIRED = "EXPIRED"
    NOT_ACTIVATED = "NOT_ACTIVATED"
    NO_PAYMENT_METHOD = "NO_PAYMENT_METHOD"


class Renewal(Enum):
    RENEW = "RENEW"
    EXPIRE = "EXPIRE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """For how long it is agreed, counted from the beginning of billing."""

    months: int
    renewal: Renewal
    notice_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """The least that is to be spent in each period of so many months."""

    minimum: Money
    months: int


@dataclass(frozen=True, slots=True)
class AddItem:
    item: Item


@dataclass(frozen=True, slots=True)
class RemoveItem:
    item_id: ItemId


@dataclass(frozen=True, slots=True)
class SetQuantity:
    item_id: ItemId
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class SetPrice:
    """The item stays the same item, with another price; of a licensed one the quantity stays as well."""

    item_id: ItemId
    terms: Terms


@dataclass(frozen=True, slots=True)
class SetPlan:
    """The plan is another one. What that means for the items, other actions beside it say."""

    plan_id: PlanId


@dataclass(frozen=True, slots=True)
class SetAddOn:
    """An add-on plan is taken or, with `is_taken` False, left. What that means for the items, other actions say."""

    plan_id: PlanId
    is_taken: bool


@dataclass(frozen=True, slots=True)
class SetBillingDay:
    billing_day: int


@dataclass(frozen=True, slots=True)
class ApplyDiscount:
    coupon_id: CouponId
    periods: int
    """0 means for ever."""


@dataclass(frozen=True, slots=True)
class RemoveDiscount:
    coupon_id: CouponId


@dataclass(frozen=True, slots=True)
class SetCommitment:
    commitment: Commitment | None


@dataclass(frozen=True, slots=True)
class SetTerm:
    term: Term | None


@dataclass(frozen=True, slots=True)
class SetPayer:
    """None means the payer of the customer."""

    payer_id: CustomerId | None


@dataclass(frozen=True, slots=True)
class Pause:
    service: bool
    billing: bool


@dataclass(frozen=True, slots=True)
class Resume:
    service: bool
    billing: bool


@dataclass(frozen=True, slots=True)
class End:
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Reactivate:
    pass


@dataclass(frozen=True, slots=True)
class Activate:
    pass


@dataclass(frozen=True, slots=True)
class BeginBilling:
    """The trial is over and may be followed by bills: there is a payment method."""


@dataclass(frozen=True, slots=True)
class SetTrialEnd:
    trial_end_time: datetime


@dataclass(frozen=True, slots=True)
class Transfer:
    customer_id: CustomerId


Action = (
    AddItem
    | RemoveItem
    | SetQuantity
    | SetPrice
    | SetPlan
    | SetAddOn
    | SetBillingDay
    | ApplyDiscount
    | RemoveDiscount
    | SetCommitment
    | SetTerm
    | SetPayer
    | Pause
    | Resume
    | End
    | Reactivate
    | Activate
    | BeginBilling
    | SetTrialEnd
    | Transfer
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Actions that take effect together. `revoked_time` is when it was taken back, before it took effect, and
    `revoked_after` how long the log was by then.
    """

    id: ChangeId
    recorded_time: datetime
    effective_time: datetime
    actions: tuple[Action, ...]
    proration: Proration
    unused: Unused
    revoked_time: datetime | None = None
    revoked_after: int = 0
    decided_with: ChangeId | None = None
    """Another change that was decided in the same breath, so that nothing was ever billed by one without the other;
    NO_CHANGE for what was agreed together with the subscription.
    """
    after_months: int | None = None
    """For a step of a ramp: how many months after the beginning of billing it takes effect, wherever that moves."""

    @property
    def was_scheduled(self) -> bool:
        """Whether it was decided before it was to take effect."""
        return self.recorded_time < self.effective_time

    def has(self, kind: type[Action]) -> bool:
        return any(isinstance(action, kind) for action in self.actions)
