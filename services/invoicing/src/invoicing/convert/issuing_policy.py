"""Knows how it looks on the wire how a seller wants invoices to be issued."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from common import wire
from common.errors import InvalidArgument
from invoicing.domain.issuing_policy import IssuingPolicy
from saldo.invoicing.v1 import invoicing_service_pb2 as pb

GRACE_SECONDS_MAX: Final = 30 * 86_400
METERS_MAX: Final = 100
REASON_LENGTH_MAX: Final = 500
_METER: Final = re.compile(r"[a-z0-9_-]{1,64}")


def parse_reason(text: str) -> str:
    return wire.text(text, field="reason", max_length=REASON_LENGTH_MAX)


def policy_from_proto(proto: pb.IssuingPolicy) -> IssuingPolicy:
    if len(proto.meter_grace_seconds) > METERS_MAX:
        raise InvalidArgument(f"must be at most {METERS_MAX}", field="policy.meter_grace_seconds")
    for meter in proto.meter_grace_seconds:
        if not _METER.fullmatch(meter):
            raise InvalidArgument("must be codes of meters", field="policy.meter_grace_seconds")
    return IssuingPolicy(
        grace=_grace(proto.grace_seconds, field="policy.grace_seconds") if proto.HasField("grace_seconds") else None,
        meter_graces={
            meter: _grace(seconds, field="policy.meter_grace_seconds")
            for meter, seconds in proto.meter_grace_seconds.items()
        },
        requires_approval=proto.requires_approval,
    )


def policy_to_proto(policy: IssuingPolicy) -> pb.IssuingPolicy:
    return pb.IssuingPolicy(
        grace_seconds=None if policy.grace is None else policy.grace // timedelta(seconds=1),
        meter_grace_seconds={meter: told // timedelta(seconds=1) for meter, told in policy.meter_graces.items()},
        requires_approval=policy.requires_approval,
        revision=policy.revision,
        update_time=None if policy.update_time is None else wire.timestamp(policy.update_time),
    )


def _grace(seconds: int, *, field: str) -> timedelta:
    if not 0 <= seconds <= GRACE_SECONDS_MAX:
        raise InvalidArgument(f"must be 0 to {GRACE_SECONDS_MAX}", field=field)
    return timedelta(seconds=seconds)
