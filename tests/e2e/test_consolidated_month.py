"""What began on different days, and was used by different customers, is on one invoice of whoever pays for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.type.date_pb2 import Date

from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.invoicing.v1.invoicing_service_pb2 import GetUpcomingInvoiceRequest
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.customers_service_pb2 import SetCustomerPayerRequest
from tests.support.sandbox import Sandbox, flat, graduated, per_unit, text, usage

DAY = timedelta(days=1)
AUGUST, SEPTEMBER = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
BEGINNINGS = [AUGUST, AUGUST + 10 * DAY, AUGUST + 24 * DAY]
"""For 31, 21 and 7 days of August."""


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


async def test_gas_of_devices_that_came_on_different_days_is_on_one_invoice(sandbox: Sandbox) -> None:
    """Each device uses 3 m³ a day at 3.20, which is 9.60: a household pays on 1 September for the days of August that
    each of them was there, to the cent."""
    devices = ["boiler", "cooker", "heater"]
    home = await sandbox.customer("home", token="sim:ok")
    await sandbox.travel(AUGUST)
    for device, beginning in zip(devices, BEGINNINGS, strict=True):
        await sandbox.meter(device)
        plan = await sandbox.plan(device, per_unit("m3", "3.20", meter=device))
        await sandbox.travel(beginning)
        await sandbox.subscribe(home, plan, billing_day=1)
    await sandbox.travel(SEPTEMBER - DAY / 4)
    for device, beginning in zip(devices, BEGINNINGS, strict=True):
        await sandbox.use(*_daily(home, device, beginning))
    await sandbox.travel(SEPTEMBER + DAY)

    [invoice] = await sandbox.invoices(home)
    assert [text(line.amount) for line in invoice.line_items] == ["297.60 EUR", "201.60 EUR", "67.20 EUR"]
    assert [line.quantity.value for line in invoice.line_items] == ["93", "63", "21"]
    assert [text(each.subtotal) for each in invoice.sections[0].subscriptions] == [
        text(line.amount) for line in invoice.line_items
    ]
    assert text(invoice.total) == "566.40 EUR"
    assert invoice.invoice_date == Date(year=2026, month=9, day=1)
    assert invoice.state == Invoice.PAID


async def test_a_payer_gets_one_invoice_for_all_whom_it_pays_for(sandbox: Sandbox) -> None:
    """The same gas used in three flats, each a customer of its own: the landlord sees what is to come, gets one invoice
    with a section for each, and pays it at once; the flats owe nothing."""
    await sandbox.meter("gas")
    gas = await sandbox.plan("gas", per_unit("m3", "3.20", meter="gas"))
    landlord = await sandbox.customer("landlord", token="sim:ok")
    flats = [await sandbox.customer(f"flat-{n}") for n in (1, 2, 3)]
    for each in flats:
        await sandbox.client.customers.SetCustomerPayer(SetCustomerPayerRequest(id=each.id, payer_id=landlord.id))
    for each, beginning in zip(flats, BEGINNINGS, strict=True):
        await sandbox.travel(beginning)
        await sandbox.subscribe(each, gas, billing_day=1)
    await sandbox.travel(SEPTEMBER - DAY / 4)
    for each, beginning in zip(flats, BEGINNINGS, strict=True):
        await sandbox.use(*_daily(each, "gas", beginning))
    coming = await sandbox.client.invoicing.GetUpcomingInvoice(GetUpcomingInvoiceRequest(customer_id=landlord.id))
    assert text(coming.total) == "566.40 EUR"
    for each in flats:
        own = await sandbox.client.invoicing.GetUpcomingInvoice(GetUpcomingInvoiceRequest(customer_id=each.id))
        assert not own.line_items
    await sandbox.travel(SEPTEMBER + DAY)

    [invoice] = await sandbox.invoices()
    assert invoice.customer_id == invoice.customer.id == landlord.id
    due = {each.id: amount for each, amount in zip(flats, ("297.60 EUR", "201.60 EUR", "67.20 EUR"), strict=True)}
    assert {each.customer_id: text(each.subtotal) for each in invoice.sections} == due
    assert {line.customer_id: text(line.amount) for line in invoice.line_items} == due
    assert text(invoice.total) == text(coming.total)
    assert invoice.state == Invoice.PAID
    [payment] = await sandbox.payments()
    assert (payment.customer_id, text(payment.amount)) == (landlord.id, "566.40 EUR")


def _daily(customer: Customer, meter: str, beginning: datetime) -> list[UsageEvent]:
    """3 m³ every noon from a day on, through August."""
    noons = [beginning + n * DAY + DAY / 2 for n in range((SEPTEMBER - beginning).days)]
    name = f"{customer.external_id}-{meter}"
    return [usage(customer, meter, noon, "3", event_id=f"{name}-{noon.date()}") for noon in noons]
