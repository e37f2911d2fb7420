"""Knows what has to be asked of the neighbours before something can be billed: all of it, in few calls."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from common.period import Period
from common.rpc import Desk
from invoicing import clients
from invoicing.domain.errors import UsageTooDetailed
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import BillablePeriod, UsageKey
from invoicing.domain.party import Customer
from invoicing.domain.price import Price

INSTANT: Final = timedelta.resolution


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


async def gather(
    desk: Desk, customer_id: str, *, after: datetime | None, through: datetime, as_of: datetime, proven: bool
) -> Facts:
    """All that is to be billed through a time, or as much of it as can be had at once, with usage up to `as_of`."""
    schedule = await clients.schedule(desk, customer_id, after=after, through=through)
    prices = await clients.prices(desk, (each.price_id for each in schedule.periods))
    keys = {UsageKey(each.meter, each.period, prices[each.price_id].needs) for each in schedule.periods if each.meter}
    asked = {key: _until(key, as_of) for key in keys if key.period.start < as_of}
    counted = await clients.usages(desk, schedule.customer, asked.values(), proven=proven) if asked else {}
    missing = asked.keys() - {key for key, clipped in asked.items() if clipped in counted}
    through = _through(schedule, {(key.meter, key.period) for key in missing})
    periods = [each for each in schedule.periods if each.bill_time <= through]
    if missing and not periods:
        raise UsageTooDetailed(f"customer {customer_id} has too much usage to look at at once", customer=customer_id)
    return Facts(
        customer=schedule.customer,
        periods=periods,
        through=through,
        next_bill_time=schedule.next_bill_time,
        prices=prices,
        usage={
            **{key: _none(key.meter) for key in keys},
            **{key: counted[clipped] for key, clipped in asked.items() if clipped in counted},
        },
    )


def _through(schedule: clients.CustomerSchedule, missing: Set[tuple[str, Period]]) -> datetime:
    """Up to when the usage of every period is there."""
    bill_times = (each.bill_time for each in schedule.periods if (each.meter, each.period) in missing)
    return min((time - INSTANT for time in bill_times), default=schedule.through)


def _until(key: UsageKey, as_of: datetime) -> UsageKey:
    """A period under way, as far as it has come."""
    return key._replace(period=Period(key.period.start, min(key.period.end, as_of)))


def _none(meter: str) -> Usage:
    """Of a period that has not begun."""
    return Usage(meter=meter, quantity=Decimal(0), event_count=0, digest="", through_position=0)
