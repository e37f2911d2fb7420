"""Answers the cases of aggregation.jsonl: usage events counted, and quantities rounded before rating."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from common import wire
from common.money import round_half_up
from common.period import Period
from saldo.catalog.v1 import price_pb2
from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as rating
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.meter_pb2 import DimensionMatch, EventExclusion, EventFilter, Meter
from tests.conformance import wallet_answers
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.rating_answers import METER, ROUNDINGS
from tests.conformance.system import System

AGGREGATIONS: Final = {
    "sum": Meter.SUM,
    "count": Meter.COUNT,
    "max": Meter.MAX,
    "latest": Meter.LATEST,
    "unique_count": Meter.UNIQUE_COUNT,
    "min": Meter.MIN,
    "avg": Meter.AVERAGE,
    "weighted_sum": Meter.WEIGHTED_SUM,
    "sum_prorated": Meter.WEIGHTED_SUM,
}
WINDOWS: Final = {
    "minute": pb.UsageQuery.MINUTE,
    "hour": pb.UsageQuery.HOUR,
    "day": pb.UsageQuery.DAY,
    "week": pb.UsageQuery.WEEK,
    "month": pb.UsageQuery.MONTH,
}
COUNTED_FIELDS: Final = frozenset(
    [
        *("aggregation", "aggregations", "field", "events", "from", "to", "group_by", "match", "exclude_any"),
        *("window", "timezone", "empty_windows", "initial_level", "prorate_over_days"),
    ]
)
PERCENTILE_FIELDS: Final = frozenset(["aggregation", "percentile", "values", "method"])
RANK_FIELDS: Final = frozenset(["aggregation", "percentile", "sample_count"])
ROUNDED_FIELDS: Final = frozenset(["aggregation", "quantity", "rounding", "decimals"])

_number = itertools.count(1)


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    if given.get("aggregation") == "round_quantity":
        check_fields(given, ROUNDED_FIELDS)
        return {"value": await _rounded(given, saldo)}
    if given.get("aggregation") == "percentile":
        check_fields(given, PERCENTILE_FIELDS)
        return {"value": await _percentile(given["percentile"], given["values"], saldo)}
    if given.get("aggregation") == "percentile_rank":
        check_fields(given, RANK_FIELDS)
        return await _rank(given, saldo)
    if given.get("aggregation") == "grant_burn_down":
        return await wallet_answers.burned_down(given, saldo.rooms)
    check_fields(given, COUNTED_FIELDS)
    names = given.get("aggregations") or [given["aggregation"]]
    if missing := [name for name in names if name not in AGGREGATIONS]:
        raise Unsupported(f"aggregation {missing[0]}")
    if "sum_prorated" in names and any(_instant(event["timestamp"]).time() != MIDNIGHT for event in given["events"]):
        raise Unsupported("a level weighted by whole days: only of changes at midnight it is the one weighted by time")
    usages = {name: await _counted(given, name, saldo) for name in names}
    if "group_by" in given:
        told = usages if "aggregations" in given else {"value": usages[given["aggregation"]]}
        return {"groups": _groups(given["group_by"], told)}
    [(name, usage)] = usages.items()
    quantity = Decimal(usage.quantity.value)
    if name in _DIVIDED:
        quantity = _as_published(quantity, case.expected["value"])
    found: dict[str, Any] = {"value": quantity, "event_count": usage.event_count}  # Any: as in cases
    if name == "sum_prorated":
        found["unweighted"] = Decimal((await _counted(given, "sum", saldo)).quantity.value)
    if "window" in given:
        found |= _windows(given, usage, case.expected["windows"])
    return found


def _windows(given: Json, usage: usage_event_pb2.Usage, published: Sequence[Any]) -> Answer:  # Any: as in cases
    """As the case shows them: with those in which nothing happened or without, and with their beginnings or without."""
    windows = [each for each in usage.windows if each.event_count or given.get("empty_windows") == "shown"]
    periods = [wire.parse_interval(each.window, field="window") for each in usage.windows]
    hours = {
        f"hours_of_window_{n}": int((period.end - period.start).total_seconds()) // 3_600
        for n, period in enumerate(periods, start=1)
    }
    if not any(isinstance(each, dict) for each in published):
        return {"windows": [Decimal(each.quantity.value) for each in windows], **hours}
    told = [
        {"start": f"{each.window.start_time.ToJsonString()}", "value": Decimal(each.quantity.value)} for each in windows
    ]
    return {"windows": told, **hours}


def _as_published(quantity: Decimal, figure: str) -> Decimal:
    """Of what was divided others show fewer decimals than we keep."""
    shown = -int(Decimal(figure).as_tuple().exponent)
    return round_half_up(quantity, max(0, shown))


async def _counted(given: Json, aggregation: str, saldo: System) -> usage_event_pb2.Usage:
    """What a meter of its own says after the events of the case were sent to it."""
    case = f"case-{next(_number)}"
    await saldo.metering.CreateMeter(
        pb.CreateMeterRequest(
            code=case,
            display_name=case,
            aggregation=AGGREGATIONS[aggregation],
            unique_dimension=given["field"] if aggregation == "unique_count" else "",
            carries_over=given["from"] is None or "initial_level" in given,
            filter=_filter(given),
        )
    )
    events = [_event(event, case, given.get("field"), aggregation) for event in given["events"]]
    if "initial_level" in given:
        events.append(_level_before(given, case))
    if events:
        await saldo.metering.IngestEvents(pb.IngestEventsRequest(events=events))
    period = _period(given)
    query = pb.UsageQuery(
        customer_id=CUSTOMER,
        external_id=case,
        meter=case,
        period=wire.interval(period),
        group_by=given.get("group_by", ()),
        window=WINDOWS[given["window"]] if "window" in given else pb.UsageQuery.WINDOW_UNSPECIFIED,
        time_zone=given.get("timezone", ""),
    )
    usage = await saldo.metering.QueryUsage(pb.QueryUsageRequest(query=query))
    assert isinstance(usage, usage_event_pb2.Usage)
    return usage


def _period(given: Json) -> Period:
    """Any that ends with the case's, if nothing says where it begins; of the days over which is prorated, otherwise."""
    end = _instant(given["to"])
    if "prorate_over_days" in given:
        return Period(end - int(given["prorate_over_days"]) * DAY, end)
    return Period(_instant(given["from"]) if given["from"] else end - DAY, end)


def _filter(given: Json) -> EventFilter:
    return EventFilter(
        match=_matches(given.get("match", {})),
        exclude=[EventExclusion(match=_matches(each)) for each in given.get("exclude_any", ())],
    )


def _matches(told: Json) -> list[DimensionMatch]:
    return [DimensionMatch(dimension=name, values=values) for name, values in told.items()]


def _level_before(given: Json, case: str) -> usage_event_pb2.UsageEvent:
    """A level that is carried over was reached by an event before the period."""
    return usage_event_pb2.UsageEvent(
        id="before",
        source=case,
        customer=case,
        meter=case,
        time=wire.timestamp(_instant(given["from"]) - DAY),
        value=DecimalPb(value=given["initial_level"]),
    )


async def _percentile(percentile: str, values: Sequence[str], saldo: System) -> Decimal:
    case = f"case-{next(_number)}"
    await saldo.metering.CreateMeter(
        pb.CreateMeterRequest(
            code=case, display_name=case, aggregation=Meter.PERCENTILE, percentile=DecimalPb(value=percentile)
        )
    )
    events = [
        usage_event_pb2.UsageEvent(
            id=str(n),
            source=case,
            customer=case,
            meter=case,
            time=wire.timestamp(LONG_AGO),
            value=DecimalPb(value=value),
        )
        for n, value in enumerate(values)
    ]
    await saldo.metering.IngestEvents(pb.IngestEventsRequest(events=events))
    period = wire.interval(Period(LONG_AGO, LONG_AGO + DAY))
    query = pb.UsageQuery(customer_id=CUSTOMER, external_id=case, meter=case, period=period)
    usage = await saldo.metering.QueryUsage(pb.QueryUsageRequest(query=query))
    return Decimal(usage.quantity.value)


async def _rank(given: Json, saldo: System) -> Answer:
    """Of values that are their own ranks the percentile is the rank that is billed."""
    count = int(given["sample_count"])
    rank = int(await _percentile(given["percentile"], [str(n) for n in range(count, 0, -1)], saldo))
    return {"dropped": count - rank, "billed_rank_from_top": count - rank + 1, "billed_rank_from_bottom": rank}


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


_DIVIDED: Final = frozenset(["avg", "weighted_sum", "sum_prorated"])
DAY: Final = timedelta(days=1)
MIDNIGHT: Final = time()
LONG_AGO: Final = datetime(1971, 1, 1, tzinfo=UTC)
CUSTOMER: Final = "cus_01h455vb4pex5vsknk084sn02q"
"""Nobody's id: the events of a case name the case itself."""
