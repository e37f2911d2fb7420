"""Knows how meters look on the wire."""

from __future__ import annotations

from typing import Final

from common import wire
from common.errors import InvalidArgument
from common.period import check_time_zone
from metering.convert.filters import filter_from_proto, filter_to_proto
from metering.domain.meter import Aggregation, Bucket, Definition, Meter
from metering.domain.window import Window
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb

NAME_LENGTH_MAX: Final = 200
UNIT_LABEL_LENGTH_MAX: Final = 32
PERCENTILE_PLACES_MAX: Final = 4
UTC: Final = "UTC"


def meter_to_proto(meter: Meter) -> meter_pb2.Meter:
    definition = meter.definition
    bucket, percentile = definition.bucket, definition.percentile
    return meter_pb2.Meter(
        id=meter.id,
        code=meter.code,
        display_name=meter.display_name,
        aggregation=meter_pb2.Meter.Aggregation.Value(definition.aggregation.name),
        unit_label=meter.unit_label,
        unique_dimension=definition.unique_dimension,
        percentile=None if percentile is None else wire.decimal(percentile),
        carries_over=definition.carries_over,
        bucket=meter_pb2.Meter.Bucket.Value(bucket.length.name) if bucket else meter_pb2.Meter.BUCKET_UNSPECIFIED,
        time_zone=bucket.time_zone if bucket else "",
        filter=filter_to_proto(definition.filter) if definition.filter else None,
        value_expression=definition.value_expression,
        accepts_days=meter.accepts_days,
        revision=meter.revision,
        create_time=wire.timestamp(meter.create_time),
    )


def definition_from_proto(request: pb.CreateMeterRequest) -> Definition:
    percentile = None
    if request.HasField("percentile"):
        percentile = wire.parse_decimal(request.percentile, field="percentile", places_max=PERCENTILE_PLACES_MAX)
    return Definition(
        aggregation=Aggregation[wire.enum_name(meter_pb2.Meter.Aggregation, request.aggregation, field="aggregation")],
        unique_dimension=request.unique_dimension,
        percentile=percentile,
        carries_over=request.carries_over,
        bucket=_bucket(request),
        filter=filter_from_proto(request.filter, field="filter"),
        value_expression=request.value_expression,
    )


def _bucket(request: pb.CreateMeterRequest) -> Bucket | None:
    if not request.bucket:
        if request.time_zone:
            raise InvalidArgument("must be empty without a bucket", field="time_zone")
        return None
    length = Window[wire.enum_name(meter_pb2.Meter.Bucket, request.bucket, field="bucket")]
    return Bucket(length=length, time_zone=check_time_zone(request.time_zone or UTC))
