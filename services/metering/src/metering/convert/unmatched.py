"""Knows how usage that nobody counts looks on the wire, and what an event tells of a customer's names."""

from __future__ import annotations

from collections.abc import Sequence

from common import wire
from common.errors import reason_of
from metering.domain.errors import UnknownCustomer, UnknownMeter
from metering.domain.unmatched import UnmatchedUsage
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer


def unmatched_usage_to_proto(usage: UnmatchedUsage) -> pb.UnmatchedUsage:
    return pb.UnmatchedUsage(
        meter=usage.meter,
        customer=usage.customer,
        reason=reason_of(UnknownCustomer if usage.meter_is_known else UnknownMeter),
        event_count=usage.event_count,
        first_time=wire.timestamp(usage.first_time),
        last_time=wire.timestamp(usage.last_time),
        first_position=usage.first_position,
        last_position=usage.last_position,
    )


def names_of(customer: Customer) -> Sequence[str]:
    """All that usage may call it, each once. Events of before there were `names` tell external id and aliases only."""
    names = [customer.id, customer.external_id, *customer.aliases, *customer.merged_ids]
    return sorted({*names, *(name.key for name in customer.names)} - {""})
