"""Knows how the meters of a catalog are written: what is measured stands beside what is charged for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.document import Value, check_unique
from saldo.metering.v1 import meter_pb2, metering_service_pb2

AGGREGATION: Final = meter_pb2.Meter.Aggregation
AGGREGATIONS: Final = ("SUM", "COUNT", "MAX", "LATEST", "UNIQUE_COUNT")
UNIT_LABEL_LENGTH_MAX: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    code: str
    display_name: str
    aggregation: str
    unit_label: str
    unique_dimension: str


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
        request_id=f"meter:{meter.code}",
    )


def _meter(value: Value) -> Meter:
    fields = value.fields(required=["code", "aggregation"], optional=["display_name", "unit_label", "unique_dimension"])
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
    )
