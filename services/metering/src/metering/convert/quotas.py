"""Knows how entitlements and reservations of quota look on the wire, and what events tell of features and grants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2

from common import ids, wire
from common.errors import InvalidArgument
from common.period import Interval, Unit
from metering.convert.dimensions import checked_dimensions
from metering.domain.entitlement import (
    Access,
    Enabled,
    Feature,
    FeatureKind,
    Grant,
    Limit,
    Quota,
    QuotaPeriod,
    Unlimited,
)
from metering.domain.reservation import TIME_TO_LIVE_MAX, Reservation, ReservationId
from metering.domain.usage_event import QUOTA_SOURCE, check_value
from saldo.catalog.v1 import product_pb2
from saldo.metering.v1 import metering_service_pb2, quota_pb2, usage_event_pb2
from saldo.metering.v1 import quota_service_pb2 as pb
from saldo.subscriptions.v1 import entitlement_pb2

RESERVATION_PREFIX: Final = "qres"
FEATURE_LENGTH_MAX: Final = 64

_SECOND: Final = timedelta(seconds=1)
_Kind = pb.CheckEntitlementResponse.Kind
_State = quota_pb2.QuotaReservation.State


def customer_id(text: str) -> str:
    return ids.check(text, "cus", field="customer_id")


def feature_code(text: str) -> str:
    return wire.text(text, field="feature", max_length=FEATURE_LENGTH_MAX)


def reservation_id(text: str) -> ReservationId:
    return ReservationId(ids.check(text, RESERVATION_PREFIX))


def quantity(sent: decimal_pb2.Decimal) -> Decimal:
    found = wire.parse_decimal(sent, field="quantity")
    if found <= 0:
        raise InvalidArgument("must be greater than 0", field="quantity")
    try:
        return check_value(found)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field="quantity") from None


def quantity_if_any(
    request: pb.CheckEntitlementRequest | pb.CommitQuotaRequest,
) -> Decimal | None:
    return quantity(request.quantity) if request.HasField("quantity") else None


def time_to_live(seconds: int) -> timedelta:
    longest = TIME_TO_LIVE_MAX // _SECOND
    if not 1 <= seconds <= longest:
        raise InvalidArgument(f"must be 1 to {longest}", field="time_to_live_seconds")
    return seconds * _SECOND


def dimensions(request: pb.CommitQuotaRequest) -> Mapping[str, str]:
    return checked_dimensions(request.dimensions)


def access_to_proto(access: Access) -> pb.CheckEntitlementResponse:
    response = pb.CheckEntitlementResponse(
        has_access=access.refusal is None,
        reason=access.refusal.reason if access.refusal else "",
        kind=_Kind.Value(access.kind.name) if access.kind else _Kind.KIND_UNSPECIFIED,
        unlimited=access.is_unlimited,
        granted=wire.decimal(access.limit) if access.limit is not None else None,
        reserved=wire.decimal(access.reserved) if access.reserved is not None else None,
        periods=[_period_to_proto(each) for each in access.periods],
    )
    if (best := access.best) is not None:
        response.granted.CopyFrom(wire.decimal(best.granted))
        response.used.CopyFrom(wire.decimal(best.used))
        response.remaining.CopyFrom(wire.decimal(best.remaining))
        response.reset_time.CopyFrom(wire.timestamp(best.period.end))
        response.meter_version = best.meter_version
    return response


def acquired_to_proto(reservation: Reservation, access: Access) -> pb.AcquireQuotaResponse:
    best = access.best
    return pb.AcquireQuotaResponse(
        reservation=reservation_to_proto(reservation),
        unlimited=access.is_unlimited,
        remaining=wire.decimal(best.remaining) if best else None,
        reset_time=wire.timestamp(best.period.end) if best else None,
        meter_version=best.meter_version if best else 0,
    )


def reservation_to_proto(reservation: Reservation) -> quota_pb2.QuotaReservation:
    used, committed, ended = reservation.committed_quantity, reservation.commit_time, reservation.end_time
    return quota_pb2.QuotaReservation(
        id=reservation.id,
        customer_id=reservation.customer_id,
        feature=reservation.feature,
        meter=reservation.meter,
        quantity=wire.decimal(reservation.quantity),
        state=_State.Value(reservation.state.name),
        create_time=wire.timestamp(reservation.create_time),
        expire_time=wire.timestamp(reservation.expire_time),
        committed_quantity=wire.decimal(used) if used is not None else None,
        commit_time=wire.timestamp(committed) if committed else None,
        dimensions=reservation.dimensions,
        end_time=wire.timestamp(ended) if ended else None,
    )


def usage_of(reservation: quota_pb2.QuotaReservation) -> metering_service_pb2.IngestEventsRequest:
    """What a commit stores: the same however often it is tried."""
    event = usage_event_pb2.UsageEvent(
        id=reservation.id,
        source=QUOTA_SOURCE,
        customer=reservation.customer_id,
        meter=reservation.meter,
        time=reservation.commit_time,
        value=reservation.committed_quantity,
        dimensions=reservation.dimensions,
    )
    return metering_service_pb2.IngestEventsRequest(events=[event])


def feature_from_proto(feature: product_pb2.Feature) -> Feature:
    kind = product_pb2.Feature.Kind.Name(feature.kind)
    return Feature(code=feature.code, kind=FeatureKind[kind], meter=feature.meter)


def grants_from_proto(told: entitlement_pb2.CustomerEntitlements) -> dict[str, list[Grant]]:
    """By feature."""
    return {each.feature: [_grant(grant) for grant in each.grants] for each in told.entitlements}


def _grant(grant: entitlement_pb2.EntitlementGrant) -> Grant:
    match grant.WhichOneof("amount"):
        case "enabled":
            return Enabled(grant.enabled)
        case "limit":
            return Limit(Decimal(grant.limit.value))
        case "quota":
            unit = entitlement_pb2.ResetInterval.CalendarUnit.Name(grant.reset_interval.unit)
            return Quota(Decimal(grant.quota.value), Interval(Unit[unit], grant.reset_interval.count))
        case _:
            return Unlimited()


def _period_to_proto(each: QuotaPeriod) -> quota_pb2.QuotaPeriod:
    return quota_pb2.QuotaPeriod(
        period=wire.interval(each.period),
        granted=wire.decimal(each.granted),
        used=wire.decimal(each.used),
        remaining=wire.decimal(each.remaining),
        meter_version=each.meter_version,
    )
