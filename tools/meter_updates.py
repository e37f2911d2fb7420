"""Knows what the meters of a document say otherwise than those that there are, and how they are changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc.aio
from google.protobuf import json_format
from google.rpc import error_details_pb2
from google.type import decimal_pb2
from grpc_status import rpc_status

from common.document import Faults, Value
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1.metering_service_pb2 import UpdateMeterRequest
from tools.client import Client
from tools.meters import AGGREGATION, BUCKET, Meter

NAMES: Final = ("display_name", "unit_label")
"""What a meter is called: that makes no version, and stays as it is where a document does not say it."""
REFUSALS: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION})
"""By which metering says that the document is wrong."""

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterUpdate:
    """What is to become of a meter that there is."""

    wanted: Meter
    there: meter_pb2.Meter
    value: Value
    """Where it stands."""

    @property
    def differences(self) -> dict[str, tuple[object, object]]:
        """By field: as it is, and as it is to be."""
        return _differences(self.there, self.wanted, self.value)

    @property
    def makes_version(self) -> bool:
        return not self.differences.keys() <= set(NAMES)

    def request(self, *, validate_only: bool) -> UpdateMeterRequest:
        """With effect from now on. All by which it counts: with another aggregation what is not told is dropped."""
        wanted, told = self.wanted, self.differences
        return UpdateMeterRequest(
            id=self.there.id,
            display_name=wanted.display_name if "display_name" in told else None,
            unit_label=wanted.unit_label if "unit_label" in told else None,
            aggregation=AGGREGATION.Value(wanted.aggregation),
            unique_dimension=wanted.unique_dimension,
            percentile=decimal_pb2.Decimal(value=wanted.percentile) if wanted.percentile else None,
            bucket=BUCKET.Value(wanted.bucket) if wanted.bucket else None,
            time_zone=wanted.time_zone or None,
            filter=json_format.ParseDict(wanted.filter, meter_pb2.EventFilter()),
            value_expression=wanted.value_expression,
            accepts_days=wanted.accepts_days,
            expected_revision=self.there.revision,
            validate_only=validate_only,
        )


async def update(client: Client, updates: list[MeterUpdate], *, validate_only: bool) -> None:
    """Fails with Malformed, at their places, for those that metering refuses."""
    faults = Faults()
    for each in updates:
        with faults.kept():
            await _update(client, each, validate_only=validate_only)
    faults.check()


async def _update(client: Client, each: MeterUpdate, *, validate_only: bool) -> None:
    try:
        answered = await client.metering.UpdateMeter(each.request(validate_only=validate_only))
    except grpc.aio.AioRpcError as error:
        if error.code() in REFUSALS:
            raise _at(each.value, _field(error)).fault(f"cannot be changed: {error.details()}") from None
        raise
    # What a document leaves out metering may keep, or not be able to change.
    for what, (stored, _) in _differences(answered, each.wanted, each.value).items():
        raise _at(each.value, what).fault(f"{what} cannot change: it is {stored or 'absent'}")


def _differences(there: meter_pb2.Meter, wanted: Meter, value: Value) -> dict[str, tuple[object, object]]:
    is_said = {name: value.get(name) is not None for name in NAMES}
    before, after = fields_of(there), _wanted(wanted)
    return {
        name: (before[name], after[name])
        for name in before
        if before[name] != after[name] and is_said.get(name, name != "code")
    }


def fields_of(meter: meter_pb2.Meter) -> Fields:
    """As a document writes them; what goes unsaid is empty."""
    return {
        "code": meter.code,
        "display_name": meter.display_name,
        "aggregation": AGGREGATION.Name(meter.aggregation),
        "unit_label": meter.unit_label,
        "unique_dimension": meter.unique_dimension,
        "percentile": meter.percentile.value,
        "carries_over": meter.carries_over,
        "bucket": BUCKET.Name(meter.bucket) if meter.bucket else "",
        "time_zone": meter.time_zone,
        "value_expression": meter.value_expression,
        "accepts_days": meter.accepts_days,
        "filter": json_format.MessageToDict(meter.filter),
    }


def _wanted(meter: Meter) -> Fields:
    return {
        "code": meter.code,
        "display_name": meter.display_name,
        "aggregation": meter.aggregation,
        "unit_label": meter.unit_label,
        "unique_dimension": meter.unique_dimension,
        "percentile": meter.percentile,
        "carries_over": meter.carries_over,
        "bucket": meter.bucket,
        "time_zone": meter.time_zone,
        "value_expression": meter.value_expression,
        "accepts_days": meter.accepts_days,
        "filter": meter.filter,
    }


def _at(value: Value, field: str) -> Value:
    return (value.get(field) if field else None) or value


def _field(error: grpc.aio.AioRpcError) -> str:
    """Of the meter; empty if it is about all of it."""
    bad = error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only; works on both
    for detail in status.details if status else ():
        detail.Unpack(bad)
    return bad.field_violations[0].field.partition(".")[0] if bad.field_violations else ""
