"""Knows a line item: one billed thing, with everything its amount was derived from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import chain, zip_longest
from typing import Final, NamedTuple

from common.money import Money, exact_sum, round_half_up, sum_money
from common.period import Period
from invoicing.domain.discount import GivenDiscount
from invoicing.domain.price import Capacity, Dynamic, Matrix, Percentage, Price
from invoicing.domain.steps import RatingStep, StepKind, flat_step
from invoicing.domain.usage import MeterQuantity, UsageGroup, UsageToRate

TRACEPARENTS_MAX: Final = 4


class LineKind(Enum):
    """Which way the money goes."""

    OWED = "OWED"
    CREDIT = "CREDIT"
    """What was billed in advance and is no longer wanted, taken off."""
    REFUND = "REFUND"
    """As a credit, and to be paid back."""
    MANUAL = "MANUAL"
    """Owed because somebody said so: it was derived from no subscription."""
    TRUE_UP = "TRUE_UP"
    """What is missing to the least amount that is to be spent in a committed period."""


class LineKey(NamedTuple):
    """What is billed only once: one price of one subscription item for the period that starts then.

    A change in the middle of a period bills the rest of it anew, and credits what it was billed before.
    """

    item_id: str
    price_id: str
    period_start: datetime
    kind: LineKind = LineKind.OWED
    change_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What metering counted for a period, with the proof of what was counted."""

    meter: str
    quantity: Decimal
    event_count: int
    digest: str
    through_position: int
    traceparents: tuple[str, ...] = ()
    meter_versions: Mapping[str, int] = field(default_factory=dict)
    """Which version of each meter counted, by code. Empty on lines from before meters had versions."""
    # What only some models look at. It is asked for when there is something to rate, and not kept with a line.
    values: tuple[Decimal, ...] = field(default=(), compare=False)
    """The value of every event, in order of time."""
    groups: tuple[UsageGroup, ...] = field(default=(), compare=False)
    """The same quantity by dimensions."""
    other_meters: tuple[MeterQuantity, ...] = field(default=(), compare=False)

    def is_counted_like(self, other: Usage) -> bool:
        """Whether both are of the same events, by the same versions of the meters: then they are the same."""
        return self.digest == other.digest and self.is_defined_like(other)

    def is_defined_like(self, other: Usage) -> bool:
        """Whether both were counted by the same versions of the meters."""
        meters = self.meter_versions.keys() | other.meter_versions.keys()
        return all(self.meter_versions.get(each, 1) == other.meter_versions.get(each, 1) for each in meters)

    def beside(self, others: Sequence[Usage]) -> Usage:
        """With one proof for several meters, of a price that looks at all of them; the quantity stays its own."""
        if not others:
            return self
        proofs = sorted((self, *others), key=lambda each: each.meter)
        # No code of a meter contains a separator, so different usage cannot have one digest.
        text = "\n".join(f"{each.meter}\x1f{each.digest}" for each in proofs if each.digest)
        in_turn = chain.from_iterable(zip_longest(*(each.traceparents for each in (self, *others))))
        return replace(
            self,
            event_count=sum(each.event_count for each in proofs),
            digest=hashlib.sha256(text.encode()).hexdigest() if text else "",
            through_position=min(each.through_position for each in proofs),
            traceparents=tuple(dict.fromkeys(each for each in in_turn if each))[:TRACEPARENTS_MAX],
            meter_versions={meter: version for each in proofs for meter, version in each.meter_versions.items()},
            other_meters=tuple(MeterQuantity(meter=each.meter, quantity=each.quantity) for each in others),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDiscount:
    """What one discount takes off a line: its share, never more than the line has left."""

    discount_id: str
    """What was redeemed, or was given by hand."""
    description: str
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One billed thing. Its id is empty as long as it is only proposed."""

    id: str
    description: str
    subscription_id: str
    item_id: str
    price_id: str
    period: Period
    full_period: Period
    quantity: Decimal
    unit_label: str
    amount: Money
    steps: tuple[RatingStep, ...]
    exact_amount: Decimal
    """What the steps add up to, before it was rounded."""
    proration: Fraction
    usage: Usage | None
    """What was rated, of the whole period also in a correction; None for a licensed price."""
    correction: int
    """0 for the first billing of a period, n for its n-th correction, whose quantity and amount are differences, or for
    the n-th further part of a credit.
    """
    kind: LineKind = LineKind.OWED
    change_id: str = ""
    """The change of the subscription that made it due; empty in the ordinary course."""
    discounts: tuple[LineDiscount, ...] = ()
    """In the order in which they were taken off. The amount is that before them. Of a line below zero they are below
    zero, too: what is taken back of what was given.
    """
    customer_id: str = ""
    """Who used it; empty if that is whose invoice it is on."""
    tax_code: str = ""
    """That of its product, by which rules may tax it."""
    tax_rate_ids: tuple[str, ...] = ()
    """What it is taxed at; what that comes to, the invoice tells for all its lines together."""
    product_id: str = ""
    """The product of the price; empty where there is none, and on lines of before."""
    given_discounts: tuple[GivenDiscount, ...] = ()
    """What was given by hand off this line alone."""
    coupon_ids: tuple[str, ...] = ()
    """The coupons that apply to it, in the order in which they were applied."""
    time_zone: str = ""
    """Whose days are counted in what is missing to a commitment; empty on others, and on lines of before."""

    @property
    def discount(self) -> Money:
        return sum_money((each.amount for each in self.discounts), self.amount.currency)

    @property
    def net_amount(self) -> Money:
        """What is left when all discounts are taken off; before tax that is not included."""
        return self.amount - self.discount if self.discounts else self.amount

    @property
    def key(self) -> LineKey:
        return LineKey(self.item_id, self.price_id, self.period.start, self.kind, self.change_id)

    @property
    def period_end(self) -> datetime:
        return self.period.end

    @property
    def is_credit(self) -> bool:
        return self.kind in (LineKind.CREDIT, LineKind.REFUND)

    @property
    def is_of_item(self) -> bool:
        """Whether it was derived from an item of a subscription, with its price."""
        return self.kind not in (LineKind.MANUAL, LineKind.TRUE_UP)

    def credited(self, net_amount: Money) -> Line:
        """As much of a credit as an invoice has room for: the rest is taken off later ones, told in one step however
        often the room became less. What is taken back of discounts goes along in proportion.
        """
        exact = Fraction(self.discount.minor * net_amount.minor, self.net_amount.minor)
        taken_back = Money(round_half_up(exact), self.amount.currency)
        shares = taken_back.allocate([abs(each.amount.minor) for each in self.discounts]) if self.discounts else []
        amount = net_amount + taken_back
        more = (amount - self.amount).amount
        before = [step.amount for step in self.steps if step.kind is StepKind.CREDITED_LATER]
        steps = tuple(step for step in self.steps if step.kind is not StepKind.CREDITED_LATER)
        step = flat_step("To be taken off later invoices", exact_sum((*before, more)), kind=StepKind.CREDITED_LATER)
        return replace(
            self,
            amount=amount,
            steps=(*steps, step),
            exact_amount=exact_sum((self.exact_amount, more)),
            discounts=tuple(
                replace(each, amount=share) for each, share in zip(self.discounts, shares, strict=True) if share.minor
            ),
        )


def usage_to_rate(price: Price, usage: Usage) -> UsageToRate:
    """As much of what was counted as the price's model looks at."""
    match price.model:
        case Percentage() | Dynamic():
            return UsageToRate(quantity=usage.quantity, amounts=usage.values)
        case Matrix():
            return UsageToRate(quantity=usage.quantity, groups=usage.groups)
        case Capacity():
            own = MeterQuantity(meter=usage.meter, quantity=usage.quantity)
            return UsageToRate(quantity=usage.quantity, meter_quantities=(own, *usage.other_meters))
        case _:
            return UsageToRate.of(usage.quantity)
