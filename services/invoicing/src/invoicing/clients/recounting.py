"""What is asked of metering to prove a line: usage counted once more as it was counted, and its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.errors import InvalidArgument
from common.rpc import Desk, NeighbourRefused
from invoicing.clients import counting
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import UsageKey
from invoicing.domain.party import Customer
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub


async def usages_again(
    desk: Desk, customer: Customer, counted: Mapping[str, tuple[UsageKey, Usage]]
) -> dict[str, Usage]:
    """What was counted once, through the same position by the same versions of the meters. By the names that come with
    the keys.
    """
    plain = {name: each for name, each in counted.items() if not counting.in_detail(each[0])}
    found = dict(zip(plain, await counting.as_counted(desk, customer, list(plain.values())), strict=True))
    for name in counted.keys() - plain.keys():
        found[name] = await _detailed_again(desk, customer, *counted[name])
    return found


async def _detailed_again(desk: Desk, customer: Customer, key: UsageKey, before: Usage) -> Usage:
    try:
        return await counting.usage_of(desk, customer, key, whole=before)
    except NeighbourRefused as error:
        if counting.reason_of(error) != "TOO_MANY_VALUES":
            raise
    usage = await counting.usage_of(desk, customer, counting.plain_key(key, key.meter), whole=before)
    return replace(usage, values=tuple(await counting.values_in_parts(desk, customer, key, whole=before)))


async def events_counted(
    desk: Desk, customer: Customer, key: UsageKey, counted: Usage, *, page_size: int, page_token: str
) -> tuple[list[usage_event_pb2.UsageEvent], str]:
    """A page of the usage events that were counted once on the key's own meter, and the token of the next one."""
    own = counting.plain_key(key, key.meter)
    query = counting.usage_query(customer, own, begins=key.period.start, whole=counted, proven=False)
    request = metering.ListEventsRequest(query=query, page_size=page_size, page_token=page_token)
    try:
        answer = await desk.ask(MeteringServiceStub).ListEvents(request)
    except NeighbourRefused as error:
        if [each.field for each in error.violations] != ["page_token"]:
            raise
        raise InvalidArgument("is not of this list", field="page_token") from error
    return list(answer.events), answer.next_page_token
