"""Knows how the meters of a catalog are written: what is measured stands beside what is charged for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf import json_format
from google.type import decimal_pb2

from common import wire
from common.document import Value, check_unique
from saldo.metering.v1 import meter_pb2, metering_service_pb2

AGGREGATION: Final = meter_pb2.Meter.Aggregation
AGGREGATIONS: Final = (
    "SUM",
    "COUNT",
    "MAX",
    "MIN",
    "AVERAGE",
    "LATEST",
    "UNIQUE_COUNT",
    "WEIGHTED_SUM",
    "PERCENTILE",
    "SUM_OF_MAX",
)
BUCKET: Final = meter_pb2.Meter.Bucket
BUCKETS: Final = ("HOUR", "DAY")
OPTIONAL: Final = (
    "display_name",
    "unit_label",
    "unique_dimension",
    "percentile",
    "carries_over",
    "bucket",
    "time_zone",
    "value_expression",
    "accepts_days",
    "filter",
)
UNIT_LABEL_LENGTH_MAX: Final = 32
ACCEPTS_DAYS_MAX: Final = 36_500
DIMENSION_LENGTH_MAX: Final = 64
DIMENSION_VALUE_LENGTH_MAX: Final = 128

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    code: str
    display_name: str
    aggregation: str
    unit_label: str
    unique_dimension: str
    percentile: str
    carries_over: bool
    bucket: str
    time_zone: str
    value_expression: str
    accepts_days: int
    filter: Json
    """As `EventFilter` looks in JSON; empty for one that lets all through."""


def read_meters(document: Value) -> list[tuple[Meter, Value]]:
    """Those of a catalog, and where they stand; none if it has no such section."""
    section = document.get("meters")
    if section is None:
        return []
    meters = section.each(_meter)
    check_unique(section.items(), [meter.code for meter in meters], "meter")
    return list(zip(meters, section.items(), strict=True))


def create_meter(meter: Meter) -> metering_service_pb2.CreateMeterRequest:
    """With a key that is the same every time."""
    return metering_service_pb2.CreateMeterRequest(
        code=meter.code,
        display_name=meter.display_name,
        aggregation=AGGREGATION.Value(meter.aggregation),
        unit_label=meter.unit_label,
        unique_dimension=meter.unique_dimension,
        percentile=decimal_pb2.Decimal(value=meter.percentile) if meter.percentile else None,
        carries_over=meter.carries_over,
        bucket=BUCKET.Value(meter.bucket or "BUCKET_UNSPECIFIED"),
        time_zone=meter.time_zone,
        value_expression=meter.value_expression,
        accepts_days=meter.accepts_days,
        filter=json_format.ParseDict(meter.filter, meter_pb2.EventFilter()) if meter.filter else None,
        request_id=f"meter:{meter.code}",
    )


def _meter(value: Value) -> Meter:
    fields = value.fields(required=["code", "aggregation"], optional=OPTIONAL)
    code = fields["code"].code()
    aggregation = fields["aggregation"].choice(AGGREGATIONS)
    if aggregation == "UNIQUE_COUNT" and "unique_dimension" not in fields:
        raise value.fault("unique_dimension is missing: UNIQUE_COUNT counts its different values")
    if aggregation != "UNIQUE_COUNT" and "unique_dimension" in fields:
        raise fields["unique_dimension"].fault("must be absent: only UNIQUE_COUNT counts the values of a dimension")
    return Meter(
        code=code,
        display_name=fields["display_name"].text() if "display_name" in fields else code,
        aggregation=aggregation,
        unit_label=fields["unit_label"].text(max_length=UNIT_LABEL_LENGTH_MAX) if "unit_label" in fields else "",
        unique_dimension=fields["unique_dimension"].code() if "unique_dimension" in fields else "",
        # Whether these go with the aggregation metering says.
        percentile=wire.decimal(fields["percentile"].decimal()).value if "percentile" in fields else "",
        carries_over=fields["carries_over"].boolean() if "carries_over" in fields else False,
        bucket=fields["bucket"].choice(BUCKETS) if "bucket" in fields else "",
        time_zone=_time_zone(fields),
        value_expression=fields["value_expression"].text() if "value_expression" in fields else "",
        accepts_days=fields["accepts_days"].whole(0, ACCEPTS_DAYS_MAX) if "accepts_days" in fields else 0,
        filter=_filter(fields["filter"]) if "filter" in fields else {},
    )


def _filter(value: Value) -> Json:
    """How many parts it may have metering says."""
    fields = value.fields(optional=("match", "exclude"))
    found: Json = {}
    if "match" in fields:
        found["match"] = fields["match"].each(_match)
    if "exclude" in fields:
        found["exclude"] = fields["exclude"].each(_exclusion)
    return {key: parts for key, parts in found.items() if parts}


def _exclusion(value: Value) -> Json:
    return {"match": value.fields(required=["match"])["match"].each(_match)}


def _match(value: Value) -> Json:
    fields = value.fields(required=["dimension", "values"])
    return {
        "dimension": fields["dimension"].text(max_length=DIMENSION_LENGTH_MAX),
        "values": fields["values"].each(lambda each: each.text(max_length=DIMENSION_VALUE_LENGTH_MAX)),
    }


def _time_zone(fields: Mapping[str, Value]) -> str:
    """Metering's own when only the bucket is told, so that the same document says the same again."""
    if "time_zone" in fields:
        return fields["time_zone"].time_zone()
    return "UTC" if "bucket" in fields else ""
