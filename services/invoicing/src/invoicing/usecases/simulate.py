"""What the bills of the past would have been with another version of a plan."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.money import Money
from common.period import EARLIEST, Interval, TimeOutOfRange, Unit, boundary
from common.rpc import Desk
from invoicing import clients, store
from invoicing.clients import counting
from invoicing.convert.rating import billing_interval, price_to_try
from invoicing.domain.errors import TooManyLines, UsageTooDetailed
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import UsageKey
from invoicing.domain.simulation import (
    BilledPeriod,
    BillingInterval,
    Bills,
    PriceToTry,
    Simulation,
    rated_anew,
    rated_by,
    to_ask,
)
from saldo.catalog.v1 import plan_pb2, price_pb2

LINES_MAX: Final = 100_000
CONTRACT_PRICES_MAX: Final = 100_000
PERIODS_ASKED_MAX: Final = 2_000
"""About how many periods metering is asked, when a price needs more than was kept with the lines."""
CUSTOMERS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledBy:
    """As much of a price that lines were billed by as tells which other price takes its place."""

    code: str
    billing_interval: BillingInterval


class _Trial:
    """A version of a plan, tried on one billed period after the other."""

    def __init__(self, plan: plan_pb2.Plan, billed_by: dict[str, BilledBy]) -> None:
        self._to_try: dict[tuple[str, str], PriceToTry] = {
            (each.code, each.currency): price_to_try(each) for each in plan.prices
        }
        self._billed_by = billed_by
        self.bills = Bills()
        self.billed_codes: set[str] = set()
        self.dropped_codes: set[str] = set()
        self.unratable_line_count = 0
        self.asked: defaultdict[str, list[tuple[BilledPeriod, PriceToTry, UsageKey]]] = defaultdict(list)
        """What metering has to be asked before it can be added, by customer."""
        self._room = PERIODS_ASKED_MAX

    def add(self, period: BilledPeriod) -> None:
        billed_by = self._billed_by[period.price_id]
        self.billed_codes.add(billed_by.code)
        to_try = self._to_try.get((billed_by.code, period.billed.currency))
        simulated: Money | None
        if to_try is None:
            self.dropped_codes.add(billed_by.code)
            simulated = Money.zero(period.billed.currency)
        else:
            question = to_ask(period, to_try, billed_by=billed_by.billing_interval)
            if question is not None and self._room:
                self._room -= 1
                self.asked[period.customer_id].append((period, to_try, question))
                return
            simulated = rated_anew(period, to_try, billed_by=billed_by.billing_interval)
        self._add(period, simulated)

    def add_counted(self, customer_id: str, usages: Mapping[UsageKey, Usage]) -> None:
        """What was asked about a customer, with the answers; what could not be told in detail has none."""
        for period, to_try, question in self.asked[customer_id]:
            usage = usages.get(question)
            self._add(period, None if usage is None else rated_by(period, usage, to_try))

    def _add(self, period: BilledPeriod, simulated: Money | None) -> None:
        if simulated is None:
            self.unratable_line_count += period.line_count
        self.bills.add(
            period.customer_id,
            billed=period.billed,
            simulated=period.billed if simulated is None else simulated,
            line_count=0 if simulated is None else period.line_count,
        )

    @property
    def unbilled(self) -> set[str]:
        """The prices of the version that take the place of none that was billed by, by code."""
        return {code for code, _ in self._to_try} - self.billed_codes


async def simulate_prices(desk: Desk, plan_id: str, *, months: int) -> Simulation:
    plan = await clients.plan(desk, plan_id)
    billed_by = await _billed_by(desk, plan)
    trial = _Trial(plan, billed_by)
    async with desk.transaction() as tx:
        after = _months_before(tx.now, months)
        count = await store.count_lines_billed_by(tx, billed_by, after=after, through=tx.now, limit=LINES_MAX + 1)
        if count > LINES_MAX:
            message = f"more than {LINES_MAX} lines were billed in {months} months: ask for fewer"
            raise TooManyLines(message, lines_max=LINES_MAX)
        async for page in store.periods_billed_by(tx, billed_by, after=after, through=tx.now):
            for period in page:
                trial.add(period)
        rest = [price_id for price_id, each in billed_by.items() if each.code in trial.unbilled]
        ever = {billed_by[price_id].code for price_id in await store.prices_ever_billed_by(tx, rest)}
    await _count(desk, trial)
    return Simulation(
        outcomes=trial.bills.outcomes(),
        dropped_codes=trial.dropped_codes,
        new_codes=trial.unbilled - ever,
        unratable_line_count=trial.unratable_line_count,
    )


async def _count(desk: Desk, trial: _Trial) -> None:
    """Ask metering what was not kept with the lines, some customers at a time."""
    customers = list(trial.asked)
    for first in range(0, len(customers), CUSTOMERS_AT_ONCE):
        some = customers[first : first + CUSTOMERS_AT_ONCE]
        found = await asyncio.gather(*(_usages(desk, trial, customer_id) for customer_id in some))
        for customer_id, usages in zip(some, found, strict=True):
            trial.add_counted(customer_id, usages)


async def _usages(desk: Desk, trial: _Trial, customer_id: str) -> Mapping[UsageKey, Usage]:
    customer = await clients.customer(desk, customer_id)
    try:
        return await counting.usages(
            desk, customer, [question for _, _, question in trial.asked[customer_id]], proven=False
        )
    except UsageTooDetailed:
        return {}


async def _billed_by(desk: Desk, plan: plan_pb2.Plan) -> dict[str, BilledBy]:
    """Every price that a line of the plan, in any version, may have been billed by."""
    versions = [*await clients.plan_versions(desk, plan.code), plan]
    listed = {price.id: _known(price, price.code) for version in versions for price in version.prices}
    negotiated: dict[str, BilledBy] = {}
    page_token = ""
    for _ in range(0, CONTRACT_PRICES_MAX, clients.PRICES_PER_CALL):
        page, page_token = await clients.contract_prices(desk, page_token=page_token)
        for price in page:
            if price.list_price_id in listed:
                negotiated[price.id] = _known(price, listed[price.list_price_id].code)
        if not page_token:
            return listed | negotiated
    raise TooManyLines(f"more than {CONTRACT_PRICES_MAX} prices were negotiated")


def _known(price: price_pb2.Price, code: str) -> BilledBy:
    return BilledBy(code=code, billing_interval=billing_interval(price))


def _months_before(instant: datetime, months: int) -> datetime:
    try:
        return boundary(instant, "UTC", Interval(Unit.MONTH, 1), -months)
    except TimeOutOfRange:
        return EARLIEST
