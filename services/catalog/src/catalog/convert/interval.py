"""Knows how often something is billed, on the wire."""

from __future__ import annotations

from typing import Final

from common import wire
from common.errors import InvalidArgument
from common.period import Interval, Unit
from saldo.catalog.v1 import price_pb2

INTERVAL_COUNT_MAX: Final = 366


def interval_to_proto(interval: Interval) -> price_pb2.BillingInterval:
    return price_pb2.BillingInterval(
        unit=price_pb2.BillingInterval.Unit.Value(interval.unit.name), count=interval.count
    )


def interval_from_proto(proto: price_pb2.BillingInterval, *, field: str) -> Interval:
    """A quarter is understood, and kept as the three months it is."""
    unit = wire.enum_name(price_pb2.BillingInterval.Unit, proto.unit, field=f"{field}.unit")
    if unit == "ONCE":
        raise InvalidArgument("must be a unit that recurs", field=f"{field}.unit")
    if not 1 <= proto.count <= INTERVAL_COUNT_MAX:
        raise InvalidArgument(f"must be 1 to {INTERVAL_COUNT_MAX}", field=f"{field}.count")
    try:
        return Interval(Unit.MONTH, 3 * proto.count) if unit == "QUARTER" else Interval(Unit[unit], proto.count)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field=f"{field}.count") from None
