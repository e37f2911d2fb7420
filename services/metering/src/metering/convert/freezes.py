"""Knows how frozen usages look on the wire: what is kept, what came too late, and what is verified."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from metering.convert.usages import usage_query_from_proto
from metering.domain.freeze import FrozenUsage, FrozenUsageId, LateUsage, Verification
from metering.domain.usage import UsageQuery
from saldo.metering.v1 import freeze_service_pb2 as pb
from saldo.metering.v1 import frozen_usage_pb2, metering_service_pb2

PREFIX: Final = "frz"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def frozen_usage_id(text: str, *, field: str = "id") -> FrozenUsageId:
    return FrozenUsageId(ids.check(text, PREFIX, field=field))


def frozen_usage_to_proto(frozen: FrozenUsage) -> frozen_usage_pb2.FrozenUsage:
    return frozen_usage_pb2.FrozenUsage(
        id=frozen.id,
        query=_query_to_proto(frozen.query),
        quantity=wire.decimal(frozen.quantity),
        event_count=frozen.event_count,
        digest=frozen.digest,
        through_position=frozen.through_position,
        replaces=frozen.replaces or "",
        create_time=wire.timestamp(frozen.create_time),
    )


def late_usage_to_proto(late: LateUsage) -> frozen_usage_pb2.LateUsage:
    return frozen_usage_pb2.LateUsage(
        id=late.frozen.id,
        frozen_usage=frozen_usage_to_proto(late.frozen),
        event_count=late.event_count,
        corrected_count=late.corrected_count,
        quantity=wire.decimal(late.now.quantity),
        difference=wire.decimal(late.difference),
        through_position=late.now.through_position,
        meter_version=late.now.meter_version,
    )


def told_usage_from_proto(request: pb.VerifyDigestRequest) -> UsageQuery:
    """Whose digest is to be verified, where it is not that of a frozen usage."""
    if not request.query.HasField("through_position"):
        raise InvalidArgument("must say how far was counted", field="query.through_position")
    if not _DIGEST.fullmatch(request.digest):
        raise InvalidArgument("must be 64 of 0-9 and a-f", field="digest")
    query = usage_query_from_proto(request.query, field="query")
    # Whether the groups and the values are asked for makes no difference to the digest.
    return replace(query, group_by=(), with_values=False)


def verification_to_proto(found: Verification) -> pb.VerifyDigestResponse:
    response = pb.VerifyDigestResponse(
        verdict=pb.VerifyDigestResponse.VALID if found.is_valid else pb.VerifyDigestResponse.DIFFERENT,
        digest=found.digest,
        counted_digest=found.counted.digest,
        counted_quantity=wire.decimal(found.counted.quantity),
        counted_event_count=found.counted.event_count,
        meter_version=found.counted.meter_version,
    )
    if found.frozen is not None:
        response.quantity.CopyFrom(wire.decimal(found.frozen.quantity))
        response.event_count = found.frozen.event_count
    return response


def _query_to_proto(query: UsageQuery) -> metering_service_pb2.UsageQuery:
    return metering_service_pb2.UsageQuery(
        customer_id=query.customer_id,
        external_id=query.external_id,
        meter=query.meter,
        period=wire.interval(query.period),
        names=query.names,
        through_position=query.through_position,
        meter_version=query.meter_version or 0,
    )
