"""Knows how meters look on the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from google.protobuf import timestamp_pb2

from common import wire
from common.errors import InvalidArgument
from common.period import EARLIEST, check_time_zone
from metering.convert.filters import filter_from_proto, filter_to_proto
from metering.domain.meter import UTC, Aggregation, Bucket, Definition, Meter, MeterVersion, check_accepts_days
from metering.domain.meter_update import DefinitionUpdate, MeterUpdate
from metering.domain.window import Window
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb

NAME_LENGTH_MAX: Final = 200
UNIT_LABEL_LENGTH_MAX: Final = 32
PERCENTILE_PLACES_MAX: Final = 4
VERSION_DIGITS_MAX: Final = 9


def meter_to_proto(meter: Meter, version: MeterVersion) -> meter_pb2.Meter:
    definition = version.definition
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
        accepts_days=version.accepts_days,
        revision=meter.revision,
        create_time=wire.timestamp(meter.create_time),
        version=version.number,
        effective_time=_effective_time(version),
        last_version=meter.last.number,
    )


def version_to_proto(meter: Meter, version: MeterVersion) -> meter_pb2.MeterVersion:
    end_time = meter.end_time(version)
    return meter_pb2.MeterVersion(
        version=version.number,
        meter=meter_to_proto(meter, version),
        effective_time=_effective_time(version),
        end_time=None if end_time is None else wire.timestamp(end_time),
        create_time=wire.timestamp(version.create_time),
    )


def version_after(page: wire.Page) -> int:
    """After which a list of versions goes on."""
    if not page.after:
        return 0
    [number] = page.after
    if not (number.isascii() and number.isdigit() and len(number) <= VERSION_DIGITS_MAX):
        raise InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token")
    return int(number)


def update_from_proto(request: pb.UpdateMeterRequest) -> MeterUpdate:
    if request.expected_revision < 0:
        raise InvalidArgument("must not be negative", field="expected_revision")
    told = request.HasField
    return MeterUpdate(
        display_name=display_name(request.display_name) if told("display_name") else None,
        unit_label=unit_label(request.unit_label) if told("unit_label") else None,
        definition=DefinitionUpdate(
            aggregation=_aggregation(request.aggregation) if told("aggregation") else None,
            unique_dimension=request.unique_dimension if told("unique_dimension") else None,
            percentile=_percentile(request),
            bucket=_length(request.bucket) if told("bucket") else None,
            time_zone=check_time_zone(request.time_zone) if told("time_zone") else None,
            filter=filter_from_proto(request.filter, field="filter") if told("filter") else None,
            value_expression=request.value_expression if told("value_expression") else None,
        ),
        accepts_days=check_accepts_days(request.accepts_days) if told("accepts_days") else None,
        effective_time=wire.parse_timestamp(request.effective_time, field="effective_time")
        if told("effective_time")
        else None,
        recount=request.recount,
        supersede=request.supersede,
        expected_revision=request.expected_revision,
        validate_only=request.validate_only,
    )


def display_name(text: str) -> str:
    return wire.text(text, field="display_name", max_length=NAME_LENGTH_MAX)


def unit_label(text: str) -> str:
    return wire.text(text, field="unit_label", max_length=UNIT_LABEL_LENGTH_MAX, required=False)


def _effective_time(version: MeterVersion) -> timestamp_pb2.Timestamp | None:
    return None if version.effective_time == EARLIEST else wire.timestamp(version.effective_time)


def definition_from_proto(request: pb.CreateMeterRequest) -> Definition:
    return Definition(
        aggregation=_aggregation(request.aggregation),
        unique_dimension=request.unique_dimension,
        percentile=_percentile(request),
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
    return Bucket(length=_length(request.bucket), time_zone=check_time_zone(request.time_zone or UTC))


def _length(bucket: meter_pb2.Meter.Bucket.ValueType) -> Window:
    return Window[wire.enum_name(meter_pb2.Meter.Bucket, bucket, field="bucket")]


def _aggregation(aggregation: meter_pb2.Meter.Aggregation.ValueType) -> Aggregation:
    return Aggregation[wire.enum_name(meter_pb2.Meter.Aggregation, aggregation, field="aggregation")]


def _percentile(request: pb.CreateMeterRequest | pb.UpdateMeterRequest) -> Decimal | None:
    if not request.HasField("percentile"):
        return None
    return wire.parse_decimal(request.percentile, field="percentile", places_max=PERCENTILE_PLACES_MAX)
