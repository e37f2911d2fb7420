"""Knows how usage that nobody counts looks on the wire, and what an event tells of a customer's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common import wire
from common.errors import reason_of
from metering.domain.errors import UnknownCustomer, UnknownMeter
from metering.domain.naming import CustomerName
from metering.domain.unmatched import Missing, UnmatchedName, UnmatchedUsage
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import unmatched_name_pb2
from saldo.subscriptions.v1.customer_pb2 import Customer

PREFIX: Final = "unm"


def unmatched_name_to_proto(name: UnmatchedName) -> unmatched_name_pb2.UnmatchedName:
    """Without what a customer is called: that may say who somebody is, and events are kept and passed on."""
    return unmatched_name_pb2.UnmatchedName(
        id=name.id,
        reason=name.missing.value,
        meter=name.name if name.missing is Missing.METER else "",
        found_time=wire.timestamp(name.found_time),
        matched_time=wire.timestamp(name.matched_time) if name.matched_time else None,
        revision=name.revision,
    )


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
        unmatched_name_id=usage.name_id,
    )


def names_of(customer: Customer) -> Sequence[CustomerName]:
    """All that usage may call it, each once. Events of before there were `names` tell external id and aliases only."""
    # Once it is merged, its id is the other's for periods that begin then. Of its names that is told, of the id not.
    is_merged = customer.state == Customer.MERGED
    merged = wire.parse_timestamp(customer.update_time, field="update_time") if is_merged else None
    found = {
        name: CustomerName(name=name, until=merged)
        for name in (customer.id, customer.external_id, *customer.aliases, *customer.merged_ids)
        if name
    }
    for name in customer.names:
        found[name.key] = CustomerName(
            name=name.key,
            since=wire.parse_timestamp(name.since_time, field="since_time") if name.HasField("since_time") else None,
            until=wire.parse_timestamp(name.until_time, field="until_time") if name.HasField("until_time") else None,
        )
    return [found[name] for name in sorted(found)]
