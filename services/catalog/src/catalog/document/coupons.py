"""Knows how a coupon is written in a document. Whether it is sound, the catalog's own rules say."""

from __future__ import annotations

from typing import Final

from google.type import money_pb2

from catalog.convert import terms_from_proto
from catalog.document.entries import CouponEntry
from catalog.document.places import INT32_MAX, UTC, Places, only_one
from catalog.domain.coupon import State
from common import wire
from common.document import Faults, Value
from common.errors import InvalidArgument
from common.money import AmountOutOfRange, Money
from saldo.catalog.v1 import coupon_pb2

BENEFITS: Final = ("percent_off", "amount_off", "free_units")
DURATIONS: Final = ("ONCE", "REPEATING", "FOREVER")
STATES: Final = ("ACTIVE", "ARCHIVED")
COUNTS: Final = {
    "periods": "duration_periods",
    "redemptions_max": "redemptions_max",
    "redemptions_per_customer_max": "redemptions_per_customer_max",
}
INSTANTS: Final = {"valid_from": "valid_from_time", "valid_until": "valid_until_time"}


def read_coupon(value: Value) -> CouponEntry:
    fields = value.fields(
        required=["code", "display_name", "duration"],
        optional=["state", *BENEFITS, *COUNTS, *INSTANTS, "products", "plans"],
    )
    faults = Faults()
    places = Places(value)
    proto = coupon_pb2.Coupon()
    state = State.ACTIVE
    with faults.kept():
        proto.code = places.note("code", fields["code"]).code()
    with faults.kept():
        proto.display_name = places.note("display_name", fields["display_name"]).text()
    with faults.kept():
        duration = places.note("duration", fields["duration"]).choice(DURATIONS)
        proto.duration = coupon_pb2.Coupon.Duration.Value(duration)
    with faults.kept():
        if "state" in fields:
            state = State[fields["state"].choice(STATES)]
    with faults.kept():
        _read_benefit(proto, value, fields, places)
    for key, name in COUNTS.items():
        with faults.kept():
            if key in fields:
                setattr(proto, name, places.note(name, fields[key]).whole(0, INT32_MAX))
    for key, name in INSTANTS.items():
        with faults.kept():
            if key in fields:
                getattr(proto, name).CopyFrom(wire.timestamp(places.note(name, fields[key]).moment(UTC)))
    for key in ("products", "plans"):
        with faults.kept():
            if key in fields:
                codes = places.note(key, fields[key]).items()
                getattr(proto, key).extend(
                    places.note(f"{key}[{n}]", code).scalar("a code") for n, code in enumerate(codes)
                )
    faults.check()
    try:
        return CouponEntry(terms=terms_from_proto(proto, field=""), state=state)
    except InvalidArgument as error:
        raise places.malformed(error) from None


def _read_benefit(proto: coupon_pb2.Coupon, value: Value, fields: dict[str, Value], places: Places) -> None:
    name = only_one(value, fields, BENEFITS)
    benefit = places.note(name, fields[name])
    if name == "percent_off":
        places.number(proto.percent_off, "percent", benefit, path="percent_off.percent")
    elif name == "amount_off":
        for n, (currency, amount) in enumerate(benefit.entries()):
            where = f"amount_off.amounts[{n}]"
            places.note(where, amount)
            proto.amount_off.amounts.append(_money(places.note(f"{where}.currency_code", currency), amount))
    else:
        free = benefit.fields(required=["product", "quantity"])
        proto.free_units.product = places.note("free_units.product", free["product"]).scalar("the code of a product")
        places.number(proto.free_units, "quantity", free["quantity"], path="free_units.quantity")


def _money(currency: Value, amount: Value) -> money_pb2.Money:
    exact = amount.decimal()
    code = currency.currency()
    try:
        money = Money.rounded(exact, code)
    except AmountOutOfRange as error:
        raise amount.fault(error.message) from None
    if money.amount != exact:
        raise amount.fault(f"has more decimals than {code}")
    return wire.money(money)
