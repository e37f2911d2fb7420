"""Knows what a coupon takes off, and when, how often and by whom it can be redeemed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from catalog.domain.bounds import check_percent, check_size
from catalog.domain.errors import (
    CouponExpired,
    CouponNotActive,
    CouponNotYetValid,
    CouponUsedUp,
    CouponUsedUpByCustomer,
    RedemptionCodeOfAnotherCustomer,
)
from catalog.domain.product import check_code
from common.errors import InvalidArgument
from common.money import Money

CouponId = NewType("CouponId", str)
RedemptionId = NewType("RedemptionId", str)

DURATION_PERIODS_MAX: Final = 1200
RESTRICTIONS_MAX: Final = 100
CODES_MAX: Final = 10_000


class Duration(Enum):
    ONCE = "ONCE"
    REPEATING = "REPEATING"
    FOREVER = "FOREVER"


class State(Enum):
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentOff:
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountOff:
    """One amount for each currency it is offered in."""

    amounts: tuple[Money, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeUnits:
    """Units of a product, by its code, that cost nothing in each period."""

    product: str
    quantity: Decimal


Benefit = PercentOff | AmountOff | FreeUnits


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a seller says about a coupon; it never changes. A maximum of 0 means as often as wanted.

    Products and plans are named by code; without any, the coupon applies to all.
    """

    code: str
    display_name: str
    benefit: Benefit
    duration: Duration
    duration_periods: int
    redemptions_max: int
    redemptions_per_customer_max: int
    valid_from_time: datetime | None
    valid_until_time: datetime | None
    products: tuple[str, ...]
    plans: tuple[str, ...]

    def named_products(self) -> tuple[str, ...]:
        """Every product that must exist for the terms to mean something."""
        free = (self.benefit.product,) if isinstance(self.benefit, FreeUnits) else ()
        return (*self.products, *free)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """`redemption_count` leaves out what was taken back; it is a tally, not a change that `revision` counts."""

    id: CouponId
    terms: Terms
    state: State
    redemption_count: int
    revision: int
    create_time: datetime

    def archive(self) -> Coupon:
        """End it for good; what was redeemed goes on."""
        self.must_be_active()
        return replace(self, state=State.ARCHIVED, revision=self.revision + 1)

    def redeem(self, *, count_of_customer: int, at: datetime) -> Coupon:
        """Count one redemption more, by a customer who has redeemed it `count_of_customer` times before."""
        self.must_be_active()
        terms = self.terms
        if terms.valid_from_time is not None and at < terms.valid_from_time:
            raise CouponNotYetValid(f"coupon {terms.code} is not valid yet", coupon=self.id)
        if terms.valid_until_time is not None and at >= terms.valid_until_time:
            raise CouponExpired(f"coupon {terms.code} is no longer valid", coupon=self.id)
        if _reached(self.redemption_count, terms.redemptions_max):
            raise CouponUsedUp(f"coupon {terms.code} is used up", coupon=self.id)
        if _reached(count_of_customer, terms.redemptions_per_customer_max):
            raise CouponUsedUpByCustomer(f"coupon {terms.code} is used up by this customer", coupon=self.id)
        return replace(self, redemption_count=self.redemption_count + 1)

    def release(self) -> Coupon:
        return replace(self, redemption_count=self.redemption_count - 1)

    def must_be_active(self) -> None:
        if self.state is not State.ACTIVE:
            raise CouponNotActive(f"coupon {self.terms.code} is {self.state.name}", coupon=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponCode:
    """What is typed in; unique per seller. Refusals never repeat it: who reads a code can redeem it."""

    code: str
    coupon_id: CouponId
    customer_id: str
    redemptions_max: int
    redemption_count: int
    create_time: datetime

    def redeem(self, *, customer_id: str) -> CouponCode:
        if self.customer_id not in ("", customer_id):
            raise RedemptionCodeOfAnotherCustomer("this code was made for another customer", coupon=self.coupon_id)
        if _reached(self.redemption_count, self.redemptions_max):
            raise CouponUsedUp("this code is used up", coupon=self.coupon_id)
        return replace(self, redemption_count=self.redemption_count + 1)

    def release(self) -> CouponCode:
        return replace(self, redemption_count=self.redemption_count - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """That a customer redeemed a coupon, with the coupon as it was then. Discounts stack by time, then by id."""

    id: RedemptionId
    coupon: Coupon
    coupon_code: str
    customer_id: str
    redeem_time: datetime
    release_time: datetime | None

    def release(self, *, at: datetime) -> Redemption:
        return replace(self, release_time=at)


def check_terms(terms: Terms, *, field: str) -> Terms:
    check_code(terms.code, field=f"{field}.code")
    _check_benefit(terms.benefit, field=field)
    _check_duration(terms, field=field)
    check_maximum(terms.redemptions_max, field=f"{field}.redemptions_max")
    check_maximum(terms.redemptions_per_customer_max, field=f"{field}.redemptions_per_customer_max")
    start, end = terms.valid_from_time, terms.valid_until_time
    if start is not None and end is not None and end <= start:
        raise InvalidArgument("must be after valid_from_time", field=f"{field}.valid_until_time")
    _check_restriction(terms.products, field=f"{field}.products")
    _check_restriction(terms.plans, field=f"{field}.plans")
    if isinstance(terms.benefit, FreeUnits) and terms.products and terms.benefit.product not in terms.products:
        message = "must be one of the products that the coupon is for"
        raise InvalidArgument(message, field=f"{field}.free_units.product")
    return terms


def check_maximum(maximum: int, *, field: str) -> int:
    if maximum < 0:
        raise InvalidArgument("must be 0, for as often as wanted, or more", field=field)
    return maximum


def typed_code(text: str, *, field: str) -> str:
    """A code as it is stored, from how somebody wrote it."""
    if not _TYPED_CODE.fullmatch(text):
        raise InvalidArgument("must be 3 to 64 of A-Z, 0-9 and -", field=field)
    return text.upper()


def typed_prefix(text: str, *, field: str) -> str:
    if not _TYPED_PREFIX.fullmatch(text):
        raise InvalidArgument("must be up to 16 of A-Z, 0-9 and -", field=field)
    return text.upper()


def check_count(count: int, *, field: str) -> int:
    if not 1 <= count <= CODES_MAX:
        raise InvalidArgument(f"must be 1 to {CODES_MAX}, or 0 beside a code", field=field)
    return count


def made_up_code(number: int, *, prefix: str) -> str:
    """The code that a number below `MADE_UP_CODES` stands for, in groups that can be read out."""
    symbols = "".join(_symbols(number))
    groups = [symbols[start : start + _GROUP_LENGTH] for start in range(0, _MADE_UP_LENGTH, _GROUP_LENGTH)]
    return prefix + "-".join(groups)


def _symbols(number: int) -> Iterator[str]:
    for _ in range(_MADE_UP_LENGTH):
        number, symbol = divmod(number, len(_ALPHABET))
        yield _ALPHABET[symbol]


def _reached(count: int, maximum: int) -> bool:
    return 0 < maximum <= count


def _check_benefit(benefit: Benefit, *, field: str) -> None:
    match benefit:
        case PercentOff(percent=percent):
            check_size(percent, field=f"{field}.percent_off.percent")
            check_percent(percent, field=f"{field}.percent_off.percent")
        case AmountOff(amounts=amounts):
            _check_amounts(amounts, field=f"{field}.amount_off.amounts")
        case FreeUnits(product=product, quantity=quantity):
            check_code(product, field=f"{field}.free_units.product")
            check_size(quantity, field=f"{field}.free_units.quantity")


def _check_amounts(amounts: Sequence[Money], *, field: str) -> None:
    if not amounts:
        raise InvalidArgument("must have at least one amount", field=field)
    seen: set[str] = set()
    for n, amount in enumerate(amounts):
        if amount.minor <= 0:
            raise InvalidArgument("must be more than 0", field=f"{field}[{n}]")
        if amount.currency in seen:
            message = "must be in a currency that no other amount is in"
            raise InvalidArgument(message, field=f"{field}[{n}].currency_code")
        seen.add(amount.currency)


def _check_duration(terms: Terms, *, field: str) -> None:
    if terms.duration is Duration.REPEATING:
        if not 1 <= terms.duration_periods <= DURATION_PERIODS_MAX:
            raise InvalidArgument(f"must be 1 to {DURATION_PERIODS_MAX}", field=f"{field}.duration_periods")
    elif terms.duration_periods:
        raise InvalidArgument("must be 0: only REPEATING has periods", field=f"{field}.duration_periods")


def _check_restriction(codes: Sequence[str], *, field: str) -> None:
    if len(codes) > RESTRICTIONS_MAX:
        raise InvalidArgument(f"must have at most {RESTRICTIONS_MAX} codes", field=field)
    seen: set[str] = set()
    for n, code in enumerate(codes):
        check_code(code, field=f"{field}[{n}]")
        if code in seen:
            raise InvalidArgument("must not be named twice", field=f"{field}[{n}]")
        seen.add(code)


# Lower case is understood as upper case only here, where every character has exactly one upper case.
_TYPED_CODE: Final = re.compile(r"[A-Za-z0-9-]{3,64}")
_TYPED_PREFIX: Final = re.compile(r"[A-Za-z0-9-]{0,16}")

# Without what is taken for another (0 and O, 1 and I and L, 2 and Z, 5 and S, 8 and B, U and V) and without the vowels
# that would make words. Fourteen of 22 are more than 62 bits: nobody guesses one.
_ALPHABET: Final = "34679CDFGHJKMNPQRTVWXY"
_MADE_UP_LENGTH: Final = 14
_GROUP_LENGTH: Final = 5
MADE_UP_CODES: Final = len(_ALPHABET) ** _MADE_UP_LENGTH
