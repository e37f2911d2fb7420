"""A household in London is billed by civil months, so March has an hour less than its days say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.type.date_pb2 import Date

from tests.support.sandbox import Sandbox, per_unit, text, usage

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
APRIL = datetime(2026, 3, 31, 23, tzinfo=UTC)  # midnight in London, one hour ahead by then
HALF_HOUR = timedelta(minutes=30)


async def test_march_ends_at_civil_midnight_and_no_half_hour_is_billed_twice(sandbox: Sandbox) -> None:
    """743 hours of half a kilowatt, and the reading just after midnight is April's."""
    await sandbox.travel(MARCH)
    await sandbox.meter("electricity")
    tariff = await sandbox.plan("electricity", per_unit("kwh", "0.14228", meter="electricity", currency="GBP"))
    home = await sandbox.customer("home", currency="GBP", time_zone="Europe/London", token="sim:ok")
    await sandbox.subscribe(home, tariff)

    await sandbox.travel(APRIL + timedelta(minutes=45))
    count = (APRIL - MARCH) // HALF_HOUR
    readings = [
        usage(home, "electricity", MARCH + n * HALF_HOUR, "0.5" if n < count else "40", event_id=str(n))
        for n in range(count + 2)
    ]
    answer = await sandbox.use(*readings)
    assert (answer.accepted_count, answer.rejected_count) == (1488, 0)
    await sandbox.travel(datetime(2026, 4, 2, tzinfo=UTC))

    (invoice,) = await sandbox.invoices(home)
    (line,) = invoice.line_items
    assert line.usage.event_count == 1486
    assert line.usage.quantity.value == "743"
    assert line.exact_amount.value == "105.71404"
    assert text(invoice.total) == "105.71 GBP"
    assert line.period.end_time.ToDatetime(UTC) == APRIL
    assert invoice.bill_time.ToDatetime(UTC) == APRIL
    assert invoice.invoice_date == Date(year=2026, month=4, day=1)
