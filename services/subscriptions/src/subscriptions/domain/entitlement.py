"""Knows what customers are entitled to: grants of features, where they come from, and what comes of several of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from common.money import exact_sum
from common.period import Interval, Unit
from subscriptions.domain.change import Action, SetAddOn, SetPlan, Transfer
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import PlanId, SubscriptionId

OverrideId = NewType("OverrideId", str)

OVERRIDES_MAX: Final = 200
DAYS_OF_WEEK: Final = 7
MONTHS_OF_YEAR: Final = 12
DAYS_OF_MONTH: Final = 30
"""For the order of intervals only."""

ENTITLING: Final = frozenset({State.TRIALING, State.ACTIVE, State.PAST_DUE})
"""The states in which a subscription is served."""


class FeatureKind(Enum):
    """How the catalog says that a feature is granted."""

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

_FITTING: Final[Mapping[FeatureKind, tuple[type[Grant], ...]]] = {
    FeatureKind.SWITCH: (Enabled,),
    FeatureKind.LIMIT: (Limit, Unlimited),
    FeatureKind.QUOTA: (Quota, Unlimited),
}


@dataclass(frozen=True, slots=True)
class PlanEntitlement:
    """What a version of a plan grants of a feature."""

    feature: str
    grant: Grant


class OriginKind(Enum):
    BASE = "BASE"
    ADD_ON = "ADD_ON"
    OVERRIDE = "OVERRIDE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A plan that a subscription has, and since when it has served its customer by it without a break."""

    kind: OriginKind
    subscription_id: SubscriptionId
    plan_id: PlanId
    start_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What the seller decided for a customer, in the time from its start to its end, half-open."""

    id: OverrideId
    customer_id: CustomerId
    feature: str
    grant: Grant
    reason: str
    start_time: datetime
    end_time: datetime | None

    def is_in_force(self, at: datetime) -> bool:
        return self.start_time <= at and (self.end_time is None or at < self.end_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One of the things that an entitlement comes from."""

    source: Source | Override
    grant: Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a customer may use of a feature, by all that it has."""

    feature: str
    grants: tuple[Grant, ...]
    origins: tuple[Origin, ...]


def check_fit(kind: FeatureKind, grant: Grant, *, field: str) -> None:
    """A feature is granted in its own way."""
    if not isinstance(grant, _FITTING[kind]):
        raise InvalidArgument(f"does not grant a {kind.name}", field=field)


def plans_of(subscription: Subscription) -> set[PlanId]:
    """Every plan that it has, has had or will have."""
    named = {subscription.opening.plan_id}
    for change in subscription.standing:
        named.update(plans_taken(change.actions))
    return named


def plans_taken(actions: Iterable[Action]) -> set[PlanId]:
    """The plans and add-ons that actions take or leave: only those change what somebody is entitled to."""
    return {action.plan_id for action in actions if isinstance(action, SetPlan | SetAddOn)}


def sources(subscription: Subscription, customer_id: CustomerId, *, at: datetime) -> list[Source]:
    """The plans by which a subscription entitles a customer at a moment: the base plan, then its add-ons."""
    then = subscription.as_of(at)
    if then.customer_id != customer_id or subscription.state_at(at) not in ENTITLING:
        return []
    in_effect = [change for change in subscription.standing if change.effective_time <= at]
    breaks = [*then.service_breaks, *(each for each, _ in then.ends)]
    served_since = max(
        then.start_time,
        then.activated_time or then.start_time,
        *(each.end for each in breaks if each.end is not None),
        *(change.effective_time for change in in_effect if change.has(Transfer)),
    )
    planned = [change.effective_time for change in in_effect if change.has(SetPlan)]

    def source(kind: OriginKind, plan_id: PlanId, since: datetime) -> Source:
        return Source(kind=kind, subscription_id=subscription.id, plan_id=plan_id, start_time=max(since, served_since))

    return [
        source(OriginKind.BASE, then.plan_id, max(planned, default=served_since)),
        *(source(OriginKind.ADD_ON, plan_id, since) for plan_id, since in sorted(then.add_ons.items())),
    ]


def effective_set(
    found: Iterable[Source],
    overrides: Iterable[Override],
    plans: Mapping[PlanId, Sequence[PlanEntitlement]],
) -> list[Entitlement]:
    """What comes of plans and overrides, by feature code."""
    origins: dict[str, list[Origin]] = defaultdict(list)
    for override in overrides:
        origins[override.feature].append(Origin(source=override, grant=override.grant))
    for source in found:
        for granted in plans[source.plan_id]:
            origins[granted.feature].append(Origin(source=source, grant=granted.grant))
    return [
        Entitlement(feature=feature, grants=merged(origins[feature]), origins=tuple(origins[feature]))
        for feature in sorted(origins)
    ]


def merged(origins: Sequence[Origin]) -> tuple[Grant, ...]:
    """One grant of several, or as many as there are intervals in which quotas begin anew, the shortest first."""
    overriding = [origin.grant for origin in origins if isinstance(origin.source, Override)]
    grants = overriding or [origin.grant for origin in origins]
    if any(isinstance(grant, Unlimited) for grant in grants):
        return (Unlimited(),)
    switches = [grant.enabled for grant in grants if isinstance(grant, Enabled)]
    limits = [grant.limit for grant in grants if isinstance(grant, Limit)]
    quotas: dict[tuple[int, bool], list[Quota]] = defaultdict(list)
    for grant in grants:
        if isinstance(grant, Quota):
            quotas[_length(grant.reset_interval)].append(grant)
    return (
        *([Enabled(any(switches))] if switches else []),
        *([Limit(exact_sum(limits))] if limits else []),
        *(
            Quota(exact_sum(quota.quota for quota in same), same[0].reset_interval)
            for _, same in sorted(quotas.items(), key=lambda each: each[0])
        ),
    )


def _length(interval: Interval) -> tuple[int, bool]:
    """The same for intervals that are the same, in days as it were, and whether they are really months."""
    match interval.unit:
        case Unit.DAY:
            return interval.count, False
        case Unit.WEEK:
            return DAYS_OF_WEEK * interval.count, False
        case Unit.MONTH:
            return DAYS_OF_MONTH * interval.count, True
        case Unit.YEAR:
            return DAYS_OF_MONTH * MONTHS_OF_YEAR * interval.count, True
