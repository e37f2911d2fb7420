"""Knows what a customer may use of a feature: grants, the periods of quotas, and what is left in them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

from common.errors import InvalidArgument, SaldoError
from common.money import exact_sum
from common.period import Interval, Period, Unit, period_at
from metering.domain.errors import (
    CustomerNotFound,
    FeatureNotFound,
    FeatureNotQuota,
    LimitExceeded,
    NotEntitled,
    QuotaExceeded,
)

_ANCHORS_MAX: Final = 1_024


class FeatureKind(Enum):
    """How a feature is granted."""

    SWITCH = "SWITCH"
    LIMIT = "LIMIT"
    QUOTA = "QUOTA"


@dataclass(frozen=True, slots=True)
class Enabled:
    """Of a SWITCH: whether it is on."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """Of a LIMIT: the most there may be."""

    limit: Decimal


@dataclass(frozen=True, slots=True)
class Quota:
    """Of a QUOTA: the most use in each interval."""

    quota: Decimal
    reset_interval: Interval


@dataclass(frozen=True, slots=True)
class Unlimited:
    """Of a LIMIT or QUOTA: as much as wanted."""


Grant = Enabled | Limit | Quota | Unlimited


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Never changes."""

    code: str
    kind: FeatureKind
    meter: str
    """That a QUOTA counts on; empty for any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a customer has of a feature, as far as was heard."""

    customer_id: str
    feature_code: str
    grants: tuple[Grant, ...]
    feature: Feature | None
    names: tuple[str, ...]
    """All that the customer is called, its id included."""
    time_zone: str
    customer_is_known: bool

    @property
    def kind(self) -> FeatureKind | None:
        """None when neither the grants nor the feature tell."""
        match self.grants:
            case (Enabled(), *_):
                return FeatureKind.SWITCH
            case (Limit(), *_):
                return FeatureKind.LIMIT
            case (Quota(), *_):
                return FeatureKind.QUOTA
        return self.feature.kind if self.feature else None

    @property
    def quotas(self) -> tuple[Quota, ...]:
        return tuple(grant for grant in self.grants if isinstance(grant, Quota))

    @property
    def is_unlimited(self) -> bool:
        return Unlimited() in self.grants

    @property
    def meter(self) -> str:
        """Empty when there is nothing to be counted, or it was not heard of on which."""
        return self.feature.meter if self.feature else ""

    def refusal(self) -> SaldoError | None:
        """Why the customer has nothing of it, whatever is left; None if it has something."""
        about = {"customer": self.customer_id, "feature": self.feature_code}
        if not any(_is_something(grant) for grant in self.grants):
            if not self.customer_is_known:
                return CustomerNotFound(f"nothing was heard of customer {self.customer_id}", **about)
            return NotEntitled(f"customer {self.customer_id} has nothing of feature {self.feature_code}", **about)
        if self.feature is None and self.quotas:
            return self._unheard()
        return None

    def check_quota(self) -> None:
        """Fails unless there is something to be reserved."""
        if (refusal := self.refusal()) is not None:
            raise refusal
        if self.kind is None:
            raise self._unheard()
        if self.kind is not FeatureKind.QUOTA:
            raise FeatureNotQuota(f"feature {self.feature_code} is no quota", feature=self.feature_code)

    def _unheard(self) -> FeatureNotFound:
        return FeatureNotFound(f"nothing was heard of feature {self.feature_code}", feature=self.feature_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaPeriod:
    """A quota in the period under way."""

    period: Period
    granted: Decimal
    used: Decimal
    reserved: Decimal
    meter_version: int
    """By which was counted what is used."""

    @property
    def left(self) -> Decimal:
        """Negative when more is used and reserved than granted."""
        return exact_sum([self.granted, self.used.copy_negate(), self.reserved.copy_negate()])

    @property
    def remaining(self) -> Decimal:
        return max(Decimal(0), self.left)

    def has_room(self, quantity: Decimal | None) -> bool:
        """For all of it; for anything at all, if it is not said how much."""
        return self.left > 0 if quantity is None else self.left >= quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What was found out about a customer and a feature."""

    kind: FeatureKind | None
    is_unlimited: bool = False
    limit: Decimal | None = None
    reserved: Decimal | None = None
    periods: tuple[QuotaPeriod, ...] = ()
    refusal: SaldoError | None = None

    @property
    def best(self) -> QuotaPeriod | None:
        """The quota that leaves most."""
        return max(self.periods, key=lambda each: each.left, default=None)  # of several alike the first

    def after(self, quantity: Decimal) -> Access:
        """When so much more is reserved."""
        return replace(
            self,
            reserved=exact_sum([self.reserved or Decimal(0), quantity]),
            periods=tuple(replace(each, reserved=exact_sum([each.reserved, quantity])) for each in self.periods),
        )


def access_of(entitlement: Entitlement, quantity: Decimal | None) -> Access:
    """To what is not counted: all but quotas."""
    kind = entitlement.kind
    if quantity is not None and kind is FeatureKind.SWITCH:
        raise InvalidArgument("must be absent: a SWITCH is on or off", field="quantity")
    refusal = entitlement.refusal()
    limits = [grant.limit for grant in entitlement.grants if isinstance(grant, Limit)]
    if refusal is None and limits and quantity is not None and quantity > limits[0]:
        refusal = LimitExceeded(f"at most {limits[0]:f}", feature=entitlement.feature_code, limit=limits[0])
    return Access(
        kind=kind,
        is_unlimited=entitlement.is_unlimited,
        limit=limits[0] if limits else None,
        refusal=refusal,
    )


def quota_access(
    entitlement: Entitlement, quantity: Decimal | None, *, periods: tuple[QuotaPeriod, ...], reserved: Decimal
) -> Access:
    """To a quota, of which it was counted how much is used."""
    access = Access(kind=FeatureKind.QUOTA, is_unlimited=entitlement.is_unlimited, reserved=reserved, periods=periods)
    best = access.best
    if access.is_unlimited or best is None or best.has_room(quantity):
        return access
    refusal = QuotaExceeded(
        f"{best.remaining:f} of feature {entitlement.feature_code} are left",
        feature=entitlement.feature_code,
        remaining=f"{best.remaining:f}",
        reset_time=best.period.end.isoformat(),
    )
    return Access(kind=access.kind, reserved=reserved, periods=periods, refusal=refusal)


def quota_period(interval: Interval, zone: str, at: datetime) -> Period:
    """That of a quota which is under way."""
    return period_at(_anchor(zone, in_days=interval.unit in (Unit.DAY, Unit.WEEK)), zone, interval, at)


@functools.lru_cache(maxsize=_ANCHORS_MAX)
def _anchor(zone: str, *, in_days: bool) -> datetime:
    """A Monday, so that weeks begin with one and are 7 days; for months a new year that is one of decades, too."""
    return datetime(2000, 1, 3 if in_days else 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def _is_something(grant: Grant) -> bool:
    match grant:
        case Enabled(enabled):
            return enabled
        case Limit(limit):
            return limit > 0
        case Quota(quota, _):
            return quota > 0
        case Unlimited():
            return True
