"""What an event tells of an invoice: enough to act on, never too much for a message."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from common import ids
from common.bus.port import PAYLOAD_BYTES_MAX
from common.money import Money, sum_money
from common.period import Period
from invoicing.convert.invoice import invoice_for_event, invoice_to_proto
from invoicing.domain.consolidation import Bill
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, Usage
from invoicing.domain.lines_due import LINES_MAX
from invoicing.domain.party import CollectionMethod, Customer, Party, Seller
from invoicing.domain.steps import flat_step

JANUARY = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
SELLER = Seller(party=Party(id="sel_1", display_name="Seller", email="seller@example.com"), invoice_number_prefix="INV")
CUSTOMER = Customer(
    party=Party(id="cus_1", display_name="Ada Byron", email="ada@example.com"),
    external_id="",
    currency="EUR",
    time_zone="UTC",
    net_terms_days=14,
    collection_method=CollectionMethod.CHARGE_AUTOMATICALLY,
)


def line(n: int) -> Line:
    amount = Money(10**9 + n, "EUR")
    return Line(
        id=ids.mint("line", JANUARY.start),
        description="Electricity",
        subscription_id=ids.mint("sub", JANUARY.start),
        item_id=ids.mint("subi", JANUARY.start),
        price_id=ids.mint("price", JANUARY.start),
        period=JANUARY,
        full_period=JANUARY,
        quantity=Decimal(1),
        unit_label="kWh",
        amount=amount,
        steps=(flat_step("Fixed price", amount.amount),),
        exact_amount=amount.amount,
        proration=Fraction(1),
        usage=Usage(meter="kwh", quantity=Decimal(1), event_count=1, digest="0" * 64, through_position=1),
        correction=0,
    )


def invoice(lines: int) -> Invoice:
    bill = Bill(currency="EUR", bill_time=JANUARY.end, lines=tuple(line(n) for n in range(lines)))
    draft = Invoice.draft(id=InvoiceId("inv_1"), customer=CUSTOMER, bill=bill, at=JANUARY.end, grace=timedelta(hours=1))
    return draft.finalize(number="INV-000001", at=JANUARY.end, seller=SELLER, customer=CUSTOMER)


def test_an_event_is_the_invoice_without_the_people() -> None:
    """Events are kept for long and read by many: names and addresses stay in the service that is asked for them."""
    whole, told = invoice_to_proto(invoice(3)), invoice_for_event(invoice(3))
    assert b"Ada Byron" in whole.SerializeToString()
    assert b"Ada Byron" not in told.SerializeToString()
    assert b"example.com" not in told.SerializeToString()
    assert len(told.line_items) == 3
    assert told.line_items[0].rating_steps


def test_what_was_written_to_the_customer_is_in_no_event() -> None:
    """It may name people; the reference of an order does not."""
    written = replace(invoice(1), memo="Thank you, Ada", purchase_order="PO-7")
    told = invoice_for_event(written)
    assert (told.memo, told.purchase_order) == ("", "PO-7")
    assert invoice_to_proto(written).memo == "Thank you, Ada"


def test_the_longest_invoice_still_fits_a_message() -> None:
    """An event that cannot be published would leave its invoice uncollected for ever."""
    longest = invoice(LINES_MAX)
    told = invoice_for_event(longest)
    assert told.ByteSize() < PAYLOAD_BYTES_MAX - 10_000  # room for the headers
    assert [each.amount for each in told.line_items] == [each.amount for each in invoice_to_proto(longest).line_items]
    assert all(each.subscription_id for each in told.line_items)
    assert sum_money((each.amount for each in longest.lines), "EUR") == longest.total
