"""Knows features, and how much of them a plan entitles to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from catalog.domain.errors import FeatureNotFound
from common.errors import InvalidArgument
from common.period import Interval

FeatureId = NewType("FeatureId", str)

ENTITLEMENTS_MAX: Final = 100


class Kind(Enum):
    SWITCH = "SWITCH"
    LIMIT = "LIMIT"
    QUOTA = "QUOTA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    id: FeatureId
    code: str
    display_name: str
    kind: Kind
    meter: str
    unit_label: str
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Enabled:
    """Of a SWITCH: whether it is on."""

    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Of a LIMIT: the most there may be."""

    limit: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Of a QUOTA: the most use of its meter in each interval."""

    quota: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlimited:
    """Of a LIMIT or QUOTA: as much as wanted."""


Grant = Enabled | Limit | Quota | Unlimited

_FITTING: Final[Mapping[Kind, tuple[type[Grant], ...]]] = {
    Kind.SWITCH: (Enabled,),
    Kind.LIMIT: (Limit, Unlimited),
    Kind.QUOTA: (Quota, Unlimited),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """`feature` is the code of one."""

    feature: str
    grant: Grant
    reset_interval: Interval | None


def check_meter(kind: Kind, meter: str, *, field: str) -> None:
    """Only a quota counts use."""
    if kind is Kind.QUOTA and not meter:
        raise InvalidArgument("is required: a quota counts on a meter", field=field)
    if kind is not Kind.QUOTA and meter:
        raise InvalidArgument("must be empty: only a quota counts on a meter", field=field)


def check_entitlements(entitlements: tuple[Entitlement, ...], *, field: str) -> tuple[Entitlement, ...]:
    """At most so many, and of each feature one, so that what a subscriber may is never a matter of interpretation."""
    if len(entitlements) > ENTITLEMENTS_MAX:
        raise InvalidArgument(f"must have at most {ENTITLEMENTS_MAX} entitlements", field=field)
    seen: set[str] = set()
    for position, entitlement in enumerate(entitlements):
        if entitlement.feature in seen:
            raise InvalidArgument("names a feature that stands before", field=f"{field}[{position}].feature")
        seen.add(entitlement.feature)
    return entitlements


def check_fit(entitlements: tuple[Entitlement, ...], features: Mapping[str, Feature], *, field: str) -> None:
    """Every entitlement grants a feature that exists, in the way of the feature."""
    for position, entitlement in enumerate(entitlements):
        where = f"{field}[{position}]"
        feature = features.get(entitlement.feature)
        if feature is None:
            raise FeatureNotFound(f"there is no feature {entitlement.feature}", feature=entitlement.feature)
        if not isinstance(entitlement.grant, _FITTING[feature.kind]):
            raise InvalidArgument(f"does not grant a {feature.kind.name}", field=f"{where}.grant")
        if feature.kind is not Kind.QUOTA and entitlement.reset_interval is not None:
            raise InvalidArgument("must be absent: only a quota begins anew", field=f"{where}.reset_interval")
        if isinstance(entitlement.grant, Quota) and entitlement.reset_interval is None:
            raise InvalidArgument("is required: a quota is of an interval", field=f"{where}.reset_interval")
