"""Knows how entitlements look on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2

from common import wire
from common.errors import InvalidArgument
from common.period import Interval, Unit
from saldo.subscriptions.v1 import entitlement_pb2 as pb
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import Enabled, Entitlement, Grant, Limit, Origin, Override, Quota, Unlimited

RESET_COUNT_MAX: Final = 366

_CalendarUnit = pb.ResetInterval.CalendarUnit


def entitlement_to_proto(entitlement: Entitlement) -> pb.Entitlement:
    return pb.Entitlement(
        feature=entitlement.feature,
        grants=[_grant_to_proto(grant) for grant in entitlement.grants],
        origins=[_origin_to_proto(origin) for origin in entitlement.origins],
    )


def customer_entitlements_to_proto(
    customer_id: CustomerId, entitlements: Iterable[Entitlement], *, revision: int
) -> pb.CustomerEntitlements:
    """As events carry them."""
    return pb.CustomerEntitlements(
        id=customer_id,
        revision=revision,
        entitlements=[
            pb.Entitlement(feature=each.feature, grants=[_grant_to_proto(grant) for grant in each.grants])
            for each in entitlements
        ],
    )


def grant_from_proto(proto: pb.EntitlementGrant, *, field: str) -> Grant:
    amount = proto.WhichOneof("amount")
    if amount != "quota" and proto.HasField("reset_interval"):
        raise InvalidArgument("must be absent: only a quota begins anew", field=f"{field}.reset_interval")
    match amount:
        case "enabled":
            return Enabled(proto.enabled)
        case "limit":
            return Limit(_most(proto.limit, field=f"{field}.limit"))
        case "quota":
            interval = _interval(proto.reset_interval, field=f"{field}.reset_interval")
            return Quota(_most(proto.quota, field=f"{field}.quota"), interval)
        case "unlimited":
            if not proto.unlimited:
                raise InvalidArgument("must be true, or a limit given instead", field=f"{field}.unlimited")
            return Unlimited()
        case _:
            raise InvalidArgument("must say how much of the feature", field=field)


def _grant_to_proto(grant: Grant) -> pb.EntitlementGrant:
    match grant:
        case Enabled(enabled):
            return pb.EntitlementGrant(enabled=enabled)
        case Limit(limit):
            return pb.EntitlementGrant(limit=wire.decimal(limit))
        case Quota(quota, interval):
            unit = _CalendarUnit.Value(interval.unit.name)
            return pb.EntitlementGrant(
                quota=wire.decimal(quota), reset_interval=pb.ResetInterval(unit=unit, count=interval.count)
            )
        case Unlimited():
            return pb.EntitlementGrant(unlimited=True)


def _origin_to_proto(origin: Origin) -> pb.EntitlementOrigin:
    match origin.source:
        case Override() as override:
            return pb.EntitlementOrigin(
                kind=pb.EntitlementOrigin.OVERRIDE,
                grant=_grant_to_proto(origin.grant),
                start_time=wire.timestamp(override.start_time),
                end_time=wire.timestamp(override.end_time) if override.end_time else None,
                reason=override.reason,
            )
        case source:
            return pb.EntitlementOrigin(
                kind=pb.EntitlementOrigin.Kind.Value(source.kind.name),
                subscription_id=source.subscription_id,
                plan_id=source.plan_id,
                grant=_grant_to_proto(origin.grant),
                start_time=wire.timestamp(source.start_time),
            )


def _most(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return wire.parse_decimal(proto, field=field, minimum=0)


def _interval(proto: pb.ResetInterval, *, field: str) -> Interval:
    unit = wire.enum_name(_CalendarUnit, proto.unit, field=f"{field}.unit")
    if not 1 <= proto.count <= RESET_COUNT_MAX:
        raise InvalidArgument(f"must be 1 to {RESET_COUNT_MAX}", field=f"{field}.count")
    try:
        return Interval(Unit[unit], proto.count)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field=f"{field}.count") from None
