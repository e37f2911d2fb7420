"""Knows a month of one customer on one plan: usage in time, in the grace period of the bill, and too late for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Self

from common import wire
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1 import usage_event_pb2
from saldo.subscriptions.v1 import customer_pb2

from .conftest import Business, decimal, utc

FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)
GRACE = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def used(
    meter: str, value: str, day: int, *, second: int = 0, months_before: int = 0, **dimensions: str
) -> usage_event_pb2.UsageEvent:
    """On a day of January, or of one of the eleven months before it."""
    start = utc(2025, 13 - months_before, 1) if months_before else utc(2026, 1, 1)
    return usage_event_pb2.UsageEvent(
        id=f"event-{next(_numbers)}",
        source="test",
        meter=meter,
        value=decimal(value),
        time=wire.timestamp(start + timedelta(days=day - 1, seconds=second)),
        dimensions=dimensions,
    )


class Month:
    """January 2026. Amounts are in pence, of all lines together, whose steps add up to them."""

    def __init__(self, business: Business, customer: customer_pb2.Customer) -> None:
        self._business = business
        self.customer = customer

    @classmethod
    async def begin(cls, business: Business, *prices: price_pb2.Price) -> Self:
        plan = await business.plan(*prices)
        customer = await business.customer()
        await business.subscribe(customer, plan)
        return cls(business, customer)

    async def use(self, *events: usage_event_pb2.UsageEvent) -> None:
        """As soon as they may be sent: when the last of them has happened, or now."""
        last = max(each.time.ToDatetime(FEBRUARY.tzinfo) for each in events)
        await self._business.suite.travel(max(last + SECOND, await self._business.now()))
        for each in events:
            each.customer = self.customer.external_id
        answer = await self._business.metering.IngestEvents(metering.IngestEventsRequest(events=events))
        assert answer.accepted_count == len(events), answer

    async def upcoming(self) -> int:
        return _pence(await self.upcoming_lines())

    async def upcoming_lines(self) -> Sequence[invoice_pb2.LineItem]:
        request = pb.GetUpcomingInvoiceRequest(customer_id=self.customer.id)
        invoice: invoice_pb2.Invoice = await self._business.invoicing.GetUpcomingInvoice(request)
        return invoice.line_items

    async def draft(self) -> int:
        return _pence((await self._last(FEBRUARY, invoice_pb2.Invoice.DRAFT)).line_items)

    async def lines(self) -> Sequence[invoice_pb2.LineItem]:
        """Of January's invoice, final."""
        invoice = await self._last(FEBRUARY + GRACE)
        _pence(invoice.line_items)
        return invoice.line_items

    async def final(self) -> int:
        return _pence(await self.lines())

    async def corrections(self) -> Sequence[invoice_pb2.LineItem]:
        """Of January, on February's invoice."""
        found = [line for line in (await self._last(MARCH + GRACE)).line_items if line.correction]
        _pence(found)
        return found

    async def corrected(self) -> int:
        return _pence(await self.corrections())

    async def _last(
        self, at: datetime, state: invoice_pb2.Invoice.State.ValueType | None = None
    ) -> invoice_pb2.Invoice:
        await self._business.suite.travel(at)
        invoice = (await self._business.invoices(self.customer))[-1]
        assert state in (None, invoice.state)
        return invoice


def _pence(lines: Sequence[invoice_pb2.LineItem]) -> int:
    total = 0
    for line in lines:
        amount = wire.parse_money(line.amount, field="amount")
        steps = sum(wire.parse_decimal(step.amount, field="amount", places_max=36) for step in line.rating_steps)
        assert steps == wire.parse_decimal(line.exact_amount, field="exact_amount", places_max=36)
        assert abs(steps - amount.amount) < 1
        total += amount.minor
    return total


_numbers = count(1)
