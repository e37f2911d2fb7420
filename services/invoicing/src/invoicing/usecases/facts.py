"""Knows what has to be asked of the neighbours before something can be billed: all of it, in few calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from common.period import Period
from common.rpc import Desk
from invoicing import clients
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import BillablePeriod, UsageKey
from invoicing.domain.party import Customer
from invoicing.domain.price import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that `lines_due` needs from elsewhere."""

    customer: Customer
    periods: Sequence[BillablePeriod]
    through: datetime
    """Up to when these are all there are; earlier than asked for when there are too many to look at at once."""
    next_bill_time: datetime | None
    prices: dict[str, Price]
    usage: dict[UsageKey, Usage]


async def gather(desk: Desk, customer_id: str, *, after: datetime | None, through: datetime, as_of: datetime) -> Facts:
    """All that is to be billed through a time, or as much of it as can be had at once, with usage up to `as_of`."""
    schedule = await clients.schedule(desk, customer_id, after=after, through=through)
    metered = [each for each in schedule.periods if each.meter]
    asked = {
        UsageKey(each.meter, each.period): _until(UsageKey(each.meter, each.period), as_of)
        for each in metered
        if each.period.start < as_of
    }
    counted = await clients.usages(desk, schedule.customer, asked.values()) if asked else {}
    return Facts(
        customer=schedule.customer,
        periods=schedule.periods,
        through=schedule.through,
        next_bill_time=schedule.next_bill_time,
        prices=await clients.prices(desk, (each.price_id for each in schedule.periods)),
        usage={
            **{UsageKey(each.meter, each.period): _none(each.meter) for each in metered},
            **{key: counted[clipped] for key, clipped in asked.items()},
        },
    )


def _until(key: UsageKey, as_of: datetime) -> UsageKey:
    """A period under way, as far as it has come."""
    return UsageKey(key.meter, Period(key.period.start, min(key.period.end, as_of)))


def _none(meter: str) -> Usage:
    """Of a period that has not begun."""
    return Usage(meter=meter, quantity=Decimal(0), event_count=0, digest="", through_position=0)
