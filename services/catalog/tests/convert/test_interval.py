"""How often something is billed, on the wire."""

from __future__ import annotations

import pytest

from catalog.convert.interval import interval_from_proto, interval_to_proto
from common.errors import InvalidArgument
from common.period import Interval, Unit
from saldo.catalog.v1 import price_pb2


@pytest.mark.parametrize(
    ("unit", "interval"),
    [
        (price_pb2.BillingInterval.DAY, Interval(Unit.DAY, 2)),
        (price_pb2.BillingInterval.WEEK, Interval(Unit.WEEK, 2)),
        (price_pb2.BillingInterval.MONTH, Interval(Unit.MONTH, 2)),
        (price_pb2.BillingInterval.QUARTER, Interval(Unit.MONTH, 6)),
        (price_pb2.BillingInterval.YEAR, Interval(Unit.YEAR, 2)),
    ],
)
def test_an_interval_is_read_and_told_in_the_units_of_the_calendar(
    unit: price_pb2.BillingInterval.Unit.ValueType, interval: Interval
) -> None:
    """A quarter is another word for three months, and only that is kept."""
    assert interval_from_proto(price_pb2.BillingInterval(unit=unit, count=2), field="every") == interval
    assert interval_from_proto(interval_to_proto(interval), field="every") == interval


def test_what_recurs_does_not_happen_once() -> None:
    """Only a price can be billed once; to read it as a unit of the calendar would end in an error of ours."""
    once = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.ONCE, count=1)
    with pytest.raises(InvalidArgument) as refusal:
        interval_from_proto(once, field="every")
    assert refusal.value.field == "every.unit"
