"""A company that has seats, uses an API and took a service contract in mid-month gets one invoice for all of it."""

from __future__ import annotations

from datetime import UTC, datetime

from google.type.date_pb2 import Date

from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1.invoice_pb2 import Invoice
from tests.support.sandbox import Sandbox, flat, graduated, per_unit, text, usage


async def test_everything_of_a_customer_is_on_one_invoice_dated_the_first(sandbox: Sandbox) -> None:
    """Seats of the month to come, calls of the month that was, and the part of a contract: three subscriptions, one
    invoice."""
    await sandbox.meter("api_calls")
    seats = await sandbox.plan("team", per_unit("seats", "12.00"))
    api = await sandbox.plan("api", graduated("calls", ("1000", "0"), ("", "0.002"), meter="api_calls"))
    service = await sandbox.plan("care", flat("contract", "31.00", timing=Price.IN_ARREARS))
    acme = await sandbox.customer("acme", token="sim:ok")

    await sandbox.subscribe(acme, seats, quantities={"seats": "5"})
    await sandbox.subscribe(acme, api)
    await sandbox.travel(datetime(2026, 1, 16, tzinfo=UTC))
    await sandbox.subscribe(acme, service, billing_day=1)
    for day in range(2, 12):
        await sandbox.use(usage(acme, "api_calls", datetime(2026, 1, day, 9, tzinfo=UTC), "350", event_id=f"day-{day}"))
    await sandbox.travel(datetime(2026, 2, 2, tzinfo=UTC))

    january, february = await sandbox.invoices(acme)
    assert [text(line.amount) for line in january.line_items] == ["60.00 EUR"]
    # 5 seats × 12.00; 3,500 calls of which 1,000 are free, × 0.002; 16 of 31 days of 31.00
    assert sorted(text(line.amount) for line in february.line_items) == ["16.00 EUR", "5.00 EUR", "60.00 EUR"]
    assert text(february.total) == "81.00 EUR"
    assert february.invoice_date == Date(year=2026, month=2, day=1)
    assert len({line.subscription_id for line in february.line_items}) == 3
    assert {january.number, february.number} == {"INV-000001", "INV-000002"}
    assert {january.state, february.state} == {Invoice.PAID}
