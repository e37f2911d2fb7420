"""Knows what callers may say about a price negotiated with a customer, and what goes without saying."""

from __future__ import annotations

from dataclasses import replace

from catalog.convert.price import price_from_proto, price_to_proto
from catalog.domain.plan import PlanId
from catalog.domain.price import Price, PriceId
from common.errors import InvalidArgument
from saldo.catalog.v1 import price_pb2


def contract_price_from_proto(
    proto: price_pb2.Price, *, listed: Price, customer_id: str, price_id: PriceId, field: str
) -> Price:
    """A sound price in place of one of the list: for the same product in the same currency, the rest as is said."""
    usual = price_to_proto(listed, PlanId(""))
    whole = price_pb2.Price()
    whole.CopyFrom(proto)
    whole.product_id = _same(proto.product_id, usual.product_id, field=f"{field}.product_id")
    whole.currency = _same(proto.currency, usual.currency, field=f"{field}.currency")
    whole.code = proto.code or usual.code
    whole.meter = proto.meter or usual.meter
    if not proto.HasField("billing_interval"):
        whole.billing_interval.CopyFrom(usual.billing_interval)
    whole.billing_timing = proto.billing_timing or usual.billing_timing
    price = price_from_proto(whole, price_id=price_id, field=field)
    return replace(price, customer_id=customer_id, list_price_id=listed.id)


def _same(said: str, listed: str, *, field: str) -> str:
    if said and said != listed:
        raise InvalidArgument(f"must be {listed} as in the price of the list, or be left out", field=field)
    return listed
