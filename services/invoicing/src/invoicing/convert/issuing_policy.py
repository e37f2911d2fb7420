"""Knows how it looks on the wire how a seller wants invoices to be issued."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from common import wire
from common.errors import InvalidArgument
from invoicing.domain.issuing_policy import IssuingPolicy, ZeroInvoices
from invoicing.domain.late_usage import LateUsage
from saldo.invoicing.v1 import invoicing_service_pb2 as pb

GRACE_SECONDS_MAX: Final = 30 * 86_400
METERS_MAX: Final = 100
REASON_LENGTH_MAX: Final = 500
_METER: Final = re.compile(r"[a-z0-9_-]{1,64}")


def parse_reason(text: str) -> str:
    return wire.text(text, field="reason", max_length=REASON_LENGTH_MAX)


def policy_from_proto(proto: pb.IssuingPolicy) -> IssuingPolicy:
    _check_meters(proto.meter_grace_seconds, field="policy.meter_grace_seconds")
    _check_meters(proto.meter_late_usage, field="policy.meter_late_usage")
    return IssuingPolicy(
        grace=_grace(proto.grace_seconds, field="policy.grace_seconds") if proto.HasField("grace_seconds") else None,
        meter_graces={
            meter: _grace(seconds, field="policy.meter_grace_seconds")
            for meter, seconds in proto.meter_grace_seconds.items()
        },
        requires_approval=proto.requires_approval,
        late_usage=_late_usage(proto.late_usage, field="policy.late_usage") if proto.late_usage else None,
        meter_late_usage={
            meter: _late_usage(told, field="policy.meter_late_usage") for meter, told in proto.meter_late_usage.items()
        },
        zero_invoices=_zero_invoices(proto.zero_invoices) if proto.zero_invoices else None,
    )


def policy_to_proto(policy: IssuingPolicy) -> pb.IssuingPolicy:
    return pb.IssuingPolicy(
        grace_seconds=None if policy.grace is None else policy.grace // timedelta(seconds=1),
        meter_grace_seconds={meter: told // timedelta(seconds=1) for meter, told in policy.meter_graces.items()},
        requires_approval=policy.requires_approval,
        revision=policy.revision,
        update_time=None if policy.update_time is None else wire.timestamp(policy.update_time),
        late_usage=told_late_usage(policy.late_usage),
        meter_late_usage={meter: told_late_usage(late_usage) for meter, late_usage in policy.meter_late_usage.items()},
        zero_invoices=pb.IssuingPolicy.ZeroInvoices.Value(
            "ZERO_INVOICES_UNSPECIFIED" if policy.zero_invoices is None else policy.zero_invoices.name
        ),
    )


def told_late_usage(late_usage: LateUsage | None) -> pb.IssuingPolicy.LateUsage.ValueType:
    return pb.IssuingPolicy.LateUsage.Value("LATE_USAGE_UNSPECIFIED" if late_usage is None else late_usage.name)


def _check_meters(told: Collection[str], *, field: str) -> None:
    if len(told) > METERS_MAX:
        raise InvalidArgument(f"must be at most {METERS_MAX}", field=field)
    for meter in told:
        if not _METER.fullmatch(meter):
            raise InvalidArgument("must be codes of meters", field=field)


def _late_usage(told: pb.IssuingPolicy.LateUsage.ValueType, *, field: str) -> LateUsage:
    return LateUsage[wire.enum_name(pb.IssuingPolicy.LateUsage, told, field=field)]


def _zero_invoices(told: pb.IssuingPolicy.ZeroInvoices.ValueType) -> ZeroInvoices:
    return ZeroInvoices[wire.enum_name(pb.IssuingPolicy.ZeroInvoices, told, field="policy.zero_invoices")]


def _grace(seconds: int, *, field: str) -> timedelta:
    if not 0 <= seconds <= GRACE_SECONDS_MAX:
        raise InvalidArgument(f"must be 0 to {GRACE_SECONDS_MAX}", field=field)
    return timedelta(seconds=seconds)
