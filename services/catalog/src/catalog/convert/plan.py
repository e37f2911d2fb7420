"""Knows how a plan looks on the wire, and what callers may say in a draft."""

from __future__ import annotations

from decimal import Decimal

from google.type import decimal_pb2

from catalog.convert.interval import interval_from_proto, interval_to_proto
from catalog.convert.limits import NAME_LENGTH_MAX
from catalog.convert.price import price_to_proto
from catalog.domain.feature import Enabled, Entitlement, Grant, Limit, Quota, Unlimited, check_entitlements
from catalog.domain.plan import Kind, Plan, Terms, check_trial_days
from catalog.domain.price import Price
from catalog.domain.product import check_code
from common import wire
from common.errors import InvalidArgument
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2


def plan_to_proto(plan: Plan) -> plan_pb2.Plan:
    return plan_pb2.Plan(
        id=plan.id,
        code=plan.code,
        version=plan.version,
        display_name=plan.terms.display_name,
        kind=plan_pb2.Plan.Kind.Value(plan.terms.kind.name),
        state=plan_pb2.Plan.State.Value(plan.state.name),
        prices=[price_to_proto(price, plan.id) for price in plan.prices],
        entitlements=[_entitlement_to_proto(each) for each in plan.terms.entitlements],
        trial_days=plan.terms.trial_days,
        revision=plan.revision,
        create_time=wire.timestamp(plan.create_time),
        publish_time=wire.timestamp(plan.publish_time) if plan.publish_time else None,
        effective_time=wire.timestamp(plan.effective_time) if plan.effective_time else None,
    )


def plan_terms_from_proto(request: pb.CreatePlanRequest | pb.UpdatePlanRequest, prices: tuple[Price, ...]) -> Terms:
    """What a request says, beside prices that have their ids."""
    kind = Kind.BASE
    if request.kind != plan_pb2.Plan.KIND_UNSPECIFIED:
        kind = Kind[wire.enum_name(plan_pb2.Plan.Kind, request.kind, field="kind")]
    entitlements = [_entitlement(proto, field=f"entitlements[{n}]") for n, proto in enumerate(request.entitlements)]
    return Terms(
        display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
        kind=kind,
        prices=prices,
        entitlements=check_entitlements(tuple(entitlements), field="entitlements"),
        trial_days=check_trial_days(request.trial_days),
    )


def _entitlement_to_proto(entitlement: Entitlement) -> plan_pb2.PlanEntitlement:
    proto = plan_pb2.PlanEntitlement(feature=entitlement.feature)
    match entitlement.grant:
        case Enabled(enabled=enabled):
            proto.enabled = enabled
        case Limit(limit=limit):
            proto.limit.CopyFrom(wire.decimal(limit))
        case Quota(quota=quota):
            proto.quota.CopyFrom(wire.decimal(quota))
        case Unlimited():
            proto.unlimited = True
    if entitlement.reset_interval is not None:
        proto.reset_interval.CopyFrom(interval_to_proto(entitlement.reset_interval))
    return proto


def _entitlement(proto: plan_pb2.PlanEntitlement, *, field: str) -> Entitlement:
    interval = None
    if proto.HasField("reset_interval"):
        interval = interval_from_proto(proto.reset_interval, field=f"{field}.reset_interval")
    feature = check_code(proto.feature, field=f"{field}.feature")
    return Entitlement(feature=feature, grant=_grant(proto, field=field), reset_interval=interval)


def _grant(proto: plan_pb2.PlanEntitlement, *, field: str) -> Grant:
    match proto.WhichOneof("grant"):
        case "enabled":
            return Enabled(enabled=proto.enabled)
        case "limit":
            return Limit(limit=_most(proto.limit, field=f"{field}.limit"))
        case "quota":
            return Quota(quota=_most(proto.quota, field=f"{field}.quota"))
        case "unlimited":
            if not proto.unlimited:
                raise InvalidArgument("must be true, or a limit given instead", field=f"{field}.unlimited")
            return Unlimited()
        case _:
            raise InvalidArgument("must say how much of the feature", field=f"{field}.grant")


def _most(proto: decimal_pb2.Decimal, *, field: str) -> Decimal:
    return wire.parse_decimal(proto, field=field, minimum=0)
