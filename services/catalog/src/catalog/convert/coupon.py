"""Knows how coupons, their codes and redemptions look on the wire, and what callers may ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from google.protobuf import timestamp_pb2

from catalog.convert.limits import NAME_LENGTH_MAX
from catalog.convert.page import not_a_token
from catalog.domain.coupon import (
    AmountOff,
    Benefit,
    Coupon,
    CouponCode,
    Duration,
    FreeUnits,
    PercentOff,
    Redemption,
    Terms,
    check_terms,
)
from common import ids, wire
from common.errors import InvalidArgument
from saldo.catalog.v1 import coupon_pb2


def coupon_to_proto(coupon: Coupon) -> coupon_pb2.Coupon:
    terms = coupon.terms
    proto = coupon_pb2.Coupon(
        id=coupon.id,
        code=terms.code,
        display_name=terms.display_name,
        duration=coupon_pb2.Coupon.Duration.Value(terms.duration.name),
        duration_periods=terms.duration_periods,
        redemptions_max=terms.redemptions_max,
        redemptions_per_customer_max=terms.redemptions_per_customer_max,
        valid_from_time=_optional(terms.valid_from_time),
        valid_until_time=_optional(terms.valid_until_time),
        products=terms.products,
        plans=terms.plans,
        state=coupon_pb2.Coupon.State.Value(coupon.state.name),
        redemption_count=coupon.redemption_count,
        revision=coupon.revision,
        create_time=wire.timestamp(coupon.create_time),
    )
    match terms.benefit:
        case PercentOff(percent=percent):
            proto.percent_off.percent.CopyFrom(wire.decimal(percent))
        case AmountOff(amounts=amounts):
            proto.amount_off.amounts.extend(wire.money(amount) for amount in amounts)
        case FreeUnits(product=product, quantity=quantity):
            proto.free_units.product = product
            proto.free_units.quantity.CopyFrom(wire.decimal(quantity))
    return proto


def coupon_code_to_proto(code: CouponCode) -> coupon_pb2.CouponCode:
    return coupon_pb2.CouponCode(
        code=code.code,
        coupon_id=code.coupon_id,
        customer_id=code.customer_id,
        redemptions_max=code.redemptions_max,
        redemption_count=code.redemption_count,
        create_time=wire.timestamp(code.create_time),
    )


def redemption_to_proto(redemption: Redemption) -> coupon_pb2.Redemption:
    proto = redemption_for_events(redemption)
    proto.coupon_code = redemption.coupon_code
    return proto


def redemption_for_events(redemption: Redemption) -> coupon_pb2.Redemption:
    """Without the code: events are read by many and kept for long, and whoever reads a code could redeem it."""
    return coupon_pb2.Redemption(
        id=redemption.id,
        coupon=coupon_to_proto(redemption.coupon),
        customer_id=redemption.customer_id,
        redeem_time=wire.timestamp(redemption.redeem_time),
        release_time=_optional(redemption.release_time),
    )


def terms_from_proto(proto: coupon_pb2.Coupon, *, field: str) -> Terms:
    """Sound terms, or what is wrong with them by field. Whether what they name exists, the catalog knows."""
    terms = Terms(
        code=proto.code,
        display_name=wire.text(proto.display_name, field=f"{field}.display_name", max_length=NAME_LENGTH_MAX),
        benefit=_benefit(proto, field=field),
        duration=Duration[wire.enum_name(coupon_pb2.Coupon.Duration, proto.duration, field=f"{field}.duration")],
        duration_periods=proto.duration_periods,
        redemptions_max=proto.redemptions_max,
        redemptions_per_customer_max=proto.redemptions_per_customer_max,
        valid_from_time=_instant(proto, "valid_from_time", field=field),
        valid_until_time=_instant(proto, "valid_until_time", field=field),
        products=tuple(proto.products),
        plans=tuple(proto.plans),
    )
    return check_terms(terms, field=field)


def redemption_token(redemption: Redemption) -> str:
    """Where a list of redemptions goes on."""
    return wire.encode_page_token(redemption.redeem_time.isoformat(), redemption.id)


def redemption_place(page: wire.Page) -> tuple[datetime, str] | None:
    """The redemption after which a page begins; None for the first page."""
    if not page.after:
        return None
    time, redemption_id = page.after
    try:
        instant = datetime.fromisoformat(time).astimezone(UTC)
        ids.check(redemption_id, "redm")
    except (ValueError, OverflowError, InvalidArgument):
        raise not_a_token() from None
    if instant.isoformat() != time:
        raise not_a_token()
    return instant, redemption_id


def _benefit(proto: coupon_pb2.Coupon, *, field: str) -> Benefit:
    match proto.WhichOneof("benefit"):
        case "percent_off":
            return PercentOff(
                percent=wire.parse_decimal(proto.percent_off.percent, field=f"{field}.percent_off.percent")
            )
        case "amount_off":
            where = f"{field}.amount_off.amounts"
            amounts = [wire.parse_money(each, field=f"{where}[{n}]") for n, each in enumerate(proto.amount_off.amounts)]
            return AmountOff(amounts=tuple(amounts))
        case "free_units":
            free = proto.free_units
            quantity = wire.parse_decimal(free.quantity, field=f"{field}.free_units.quantity")
            return FreeUnits(product=free.product, quantity=quantity)
        case _:
            raise InvalidArgument("must say what the coupon takes off", field=f"{field}.benefit")


def _instant(
    proto: coupon_pb2.Coupon, name: Literal["valid_from_time", "valid_until_time"], *, field: str
) -> datetime | None:
    return wire.parse_timestamp(getattr(proto, name), field=f"{field}.{name}") if proto.HasField(name) else None


def _optional(instant: datetime | None) -> timestamp_pb2.Timestamp | None:
    return wire.timestamp(instant) if instant is not None else None
