"""Answers the cases of aggregation.jsonl: usage events counted, and quantities rounded before rating."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from common.period import Period
from saldo.catalog.v1 import price_pb2
from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as rating
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.meter_pb2 import Meter
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.rating_answers import METER, ROUNDINGS
from tests.conformance.system import System

AGGREGATIONS: Final = {
    "sum": Meter.SUM,
    "count": Meter.COUNT,
    "max": Meter.MAX,
    "latest": Meter.LATEST,
    "unique_count": Meter.UNIQUE_COUNT,
}
COUNTED_FIELDS: Final = frozenset(["aggregation", "aggregations", "field", "events", "from", "to", "group_by"])
ROUNDED_FIELDS: Final = frozenset(["aggregation", "quantity", "rounding", "decimals"])

_number = itertools.count(1)


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    if given.get("aggregation") == "round_quantity":
        check_fields(given, ROUNDED_FIELDS)
        return {"value": await _rounded(given, saldo)}
    check_fields(given, COUNTED_FIELDS)
    names = given.get("aggregations") or [given["aggregation"]]
    if missing := [name for name in names if name not in AGGREGATIONS]:
        raise Unsupported(f"aggregation {missing[0]}")
    usages = {name: await _counted(given, name, saldo) for name in names}
    if "group_by" in given:
        return {"groups": _groups(given["group_by"], usages)}
    [usage] = usages.values()
    return {"value": Decimal(usage.quantity.value), "event_count": usage.event_count}


async def _counted(given: Json, aggregation: str, saldo: System) -> usage_event_pb2.Usage:
    """What a meter of its own says after the events of the case were sent to it."""
    case = f"case-{next(_number)}"
    await saldo.metering.CreateMeter(
        pb.CreateMeterRequest(
            code=case,
            display_name=case,
            aggregation=AGGREGATIONS[aggregation],
            unique_dimension=given["field"] if aggregation == "unique_count" else "",
        )
    )
    events = [_event(event, case, given.get("field"), aggregation) for event in given["events"]]
    if events:
        await saldo.metering.IngestEvents(pb.IngestEventsRequest(events=events))
    period = Period(_instant(given["from"]) if given["from"] else LONG_AGO, _instant(given["to"]))
    query = pb.UsageQuery(
        customer_id=CUSTOMER,
        external_id=case,
        meter=case,
        period=wire.interval(period),
        group_by=given.get("group_by", ()),
    )
    usage = await saldo.metering.QueryUsage(pb.QueryUsageRequest(query=query))
    assert isinstance(usage, usage_event_pb2.Usage)
    return usage


def _event(told: Json, case: str, field: str | None, aggregation: str) -> usage_event_pb2.UsageEvent:
    properties = told["properties"]
    event = usage_event_pb2.UsageEvent(
        id=told["id"],
        source=f"{case}-{told.get('source', '')}",
        customer=case,
        meter=case,
        time=wire.timestamp(_instant(told["timestamp"])),
        dimensions={name: value for name, value in properties.items() if isinstance(value, str) and value},
    )
    if field is not None and aggregation not in ("count", "unique_count"):
        # What is no number is sent as it is. It is for Saldo to refuse it.
        value = properties.get(field)
        event.value.value = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return event


def _groups(names: Sequence[str], usages: dict[str, Any]) -> list[dict[str, Any]]:  # Any: generated, and as in cases
    found: dict[tuple[str, ...], dict[str, Any]] = {}  # Any: as above
    for aggregation, usage in usages.items():
        for each in usage.groups:
            values = {name: value or None for name, value in zip(names, each.values, strict=True)}
            group = found.setdefault(tuple(each.values), {"group": values})
            group[aggregation] = Decimal(each.quantity.value)
    return [found[key] for key in sorted(found)]


async def _rounded(given: Json, saldo: System) -> Decimal:
    """As a unit conversion does it that does nothing else, seen at one euro each."""
    if given["rounding"] not in ROUNDINGS:
        raise Unsupported(f"quantities rounded {given['rounding']}")
    price = Price(
        currency="EUR",
        meter=METER,
        billing_timing=Price.IN_ARREARS,
        unit_conversion=price_pb2.UnitConversion(
            rounding=price_pb2.UnitConversion.Rounding.Value(ROUNDINGS[given["rounding"]]),
            decimals=int(given["decimals"]),
        ),
        per_unit=price_pb2.PerUnitModel(unit_price=DecimalPb(value="1")),
    )
    usage = rating_pb2.UsageToRate(quantity=DecimalPb(value=given["quantity"]))
    found = await saldo.rating.Rate(rating.RateRequest(price=price, usage=usage))
    return Decimal(found.exact_amount.value)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


LONG_AGO: Final = datetime(1971, 1, 1, tzinfo=UTC)
CUSTOMER: Final = "cus_01h455vb4pex5vsknk084sn02q"
"""Nobody's id: the events of a case name the case itself."""
