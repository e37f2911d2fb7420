"""Knows how a price looks on the wire, and which prices callers may ask for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import Message

from catalog.convert.interval import interval_from_proto, interval_to_proto
from catalog.convert.model import model_from_proto, model_to_proto
from catalog.convert.operators import operators_from_proto, operators_to_proto
from catalog.convert.product import product_to_proto
from catalog.domain.plan import PlanId
from catalog.domain.price import BillingTiming, Price, PriceId
from catalog.domain.product import Product, ProductId, check_code
from common import ids, wire
from common.errors import InvalidArgument
from common.money import minor_units
from common.period import Interval
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import price_pb2


def price_to_proto(price: Price, plan_id: PlanId) -> price_pb2.Price:
    proto = price_pb2.Price(
        id=price.id,
        code=price.code,
        plan_id=plan_id,
        product_id=price.product_id,
        currency=price.currency,
        billing_interval=_ONCE if price.interval is None else interval_to_proto(price.interval),
        billing_timing=price_pb2.Price.BillingTiming.Value(price.timing.name),
        meter=price.meter,
        customer_id=price.customer_id,
        list_price_id=price.list_price_id,
        create_time=wire.timestamp(price.create_time) if price.create_time else None,
    )
    model_to_proto(price.model, proto)
    operators_to_proto(price.operators, proto)
    return proto


def priced_product_to_proto(plan_id: PlanId, price: Price, product: Product) -> pb.PricedProduct:
    return pb.PricedProduct(price=price_to_proto(price, plan_id), product=product_to_proto(product))


def price_from_proto(proto: price_pb2.Price, *, price_id: PriceId, field: str) -> Price:
    """A sound price, or what is wrong with it by field. What the catalog itself says about a price is not read."""
    price = _price(proto, price_id=price_id, field=field)
    price.check_meter(field=field)
    return price


def checked_price(proto: price_pb2.Price, *, field: str) -> price_pb2.Price:
    """A sound price as it would be stored. What does not matter for an amount may be missing, and stays missing."""
    missing = price_pb2.Price()
    missing.CopyFrom(_STAND_INS_ONCE if proto.billing_interval.unit == _ONCE.unit else _STAND_INS)
    _clear(missing, _names(proto))
    whole = price_pb2.Price()
    whole.CopyFrom(proto)
    whole.MergeFrom(missing)
    answer = price_to_proto(_price(whole, price_id=PriceId(""), field=field), PlanId(""))
    _clear(answer, _names(missing))
    return answer


def _price(proto: price_pb2.Price, *, price_id: PriceId, field: str) -> Price:
    timing = wire.enum_name(price_pb2.Price.BillingTiming, proto.billing_timing, field=f"{field}.billing_timing")
    minor_units(proto.currency, field=f"{field}.currency")
    price = Price(
        id=price_id,
        code=check_code(proto.code, field=f"{field}.code"),
        product_id=ProductId(ids.check(proto.product_id, "prod", field=f"{field}.product_id")),
        currency=proto.currency,
        interval=_interval(proto.billing_interval, field=f"{field}.billing_interval"),
        timing=BillingTiming[timing],
        meter=check_code(proto.meter, field=f"{field}.meter") if proto.meter else "",
        model=model_from_proto(proto, field=field),
        operators=operators_from_proto(proto, field=field),
    )
    price.check(field=field)
    return price


def _interval(proto: price_pb2.BillingInterval, *, field: str) -> Interval | None:
    """None for what is billed once."""
    if proto.unit != _ONCE.unit:
        return interval_from_proto(proto, field=field)
    if proto.count != _ONCE.count:
        raise InvalidArgument(f"must be {_ONCE.count} beside ONCE", field=f"{field}.count")
    return None


def _names(message: Message) -> list[str]:
    """Of the fields that are there."""
    return [field.name for field, _ in message.ListFields()]


def _clear(message: Message, names: Iterable[str]) -> None:
    for name in names:
        message.ClearField(name)


_ONCE: Final = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.ONCE, count=1)
# In the place of what may be missing: sound beside any model, and beside any model of what is billed once.
_STAND_INS: Final = price_pb2.Price(
    code="-",
    product_id=f"prod_{'0' * 26}",
    billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
    billing_timing=price_pb2.Price.IN_ARREARS,
)
_STAND_INS_ONCE: Final = price_pb2.Price(
    code=_STAND_INS.code,
    product_id=_STAND_INS.product_id,
    billing_timing=price_pb2.Price.IN_ADVANCE,
)
