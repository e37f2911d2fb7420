"""The document of an invoice: what is printed, and that it can be."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typst

from common.money import Money, round_half_up
from common.period import Period
from invoicing.documents.document import TEMPLATE, Printer, contents
from invoicing.domain.consolidation import Bill
from invoicing.domain.errors import InvoiceNotFinalized
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, LineDiscount
from invoicing.domain.party import Address, CollectionMethod, Customer, Party, Seller
from invoicing.domain.price import Graduated, Operators, Percentage, PerUnit, Price, Tier
from invoicing.domain.rating import rate
from invoicing.domain.steps import flat_step
from invoicing.domain.tax import TaxLine
from invoicing.domain.usage import UsageToRate

LONDON = "Europe/London"
MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 31, 23, tzinfo=UTC))
SELLER = Seller(
    party=Party(
        id="sel_1",
        display_name="Northern Light Ltd",
        address=Address(
            region_code="GB", locality="Leeds", postal_code="LS1 4AP", address_lines=("Wellington Street",)
        ),
        tax_id="GB 123 4567 89",
        email="billing@example.com",
        payment_instructions="Bank transfer\nIBAN GB33 BUKB 2020 1555 5555 55",
    ),
    invoice_number_prefix="NL",
)
CUSTOMER = Customer(
    party=Party(
        id="cus_1",
        display_name="Ada Byron",
        address=Address(region_code="DE", locality="Berlin", postal_code="10119", address_lines=("Torstraße 1",)),
    ),
    external_id="",
    currency="GBP",
    time_zone=LONDON,
    net_terms_days=14,
    collection_method=CollectionMethod.SEND_INVOICE,
)


def line(*, quantity: str = "1234.5", unit_price: str = "0.14228", currency: str = "GBP", **changes: Any) -> Line:
    # Any: fields of the line
    price = Price(
        id="price_1",
        currency=currency,
        model=PerUnit(unit_price=Decimal(unit_price)),
        product="Electricity",
        unit_label="kWh",
    )
    rating = rate(price, UsageToRate.of(Decimal(quantity)))
    made = Line(
        id="line_1",
        description=price.product,
        subscription_id="sub_1",
        item_id="subi_1",
        price_id=price.id,
        period=MARCH,
        full_period=MARCH,
        quantity=Decimal(quantity),
        unit_label=price.unit_label,
        amount=rating.amount,
        steps=rating.steps,
        exact_amount=rating.exact_amount,
        proration=Fraction(1),
        usage=None,
        correction=0,
    )
    return replace(made, **changes)


def invoice(*lines: Line, customer: Customer = CUSTOMER) -> Invoice:
    bill = Bill(currency=lines[0].amount.currency, bill_time=MARCH.end, lines=lines)
    draft = Invoice.draft(id=InvoiceId("inv_1"), customer=customer, bill=bill, at=MARCH.end, grace=timedelta(hours=1))
    return draft.finalize(number="NL-000012", at=MARCH.end + timedelta(hours=1), seller=SELLER, customer=customer)


def test_what_was_agreed_beside_is_printed() -> None:
    """The customer's reference among the facts, what the seller says above the lines; nothing where nothing is."""
    written = replace(invoice(line()), purchase_order="PO-7", memo="As agreed\non the phone")
    told = contents(written)
    assert ["Your reference", "PO-7"] in told["facts"]  # type: ignore[operator] # a list of lists
    assert told["memo"] == "As agreed\non the phone"
    plain_one = contents(invoice(line()))
    assert [name for name, _ in plain_one["facts"]] == ["Invoice number", "Invoice date", "Due date"]  # type: ignore[attr-defined] # as above
    assert Printer().typeset(written) != Printer().typeset(invoice(line()))


def test_a_credit_says_what_it_takes_back_of_a_discount() -> None:
    """Below the line, with the sign that the sum has."""
    back = LineDiscount(discount_id="coup_1", description="Tenth", amount=Money(-1_00, "GBP"))
    credited = replace(line(), amount=Money(-10_00, "GBP"), discounts=(back,))
    [told] = printed(line(quantity="1000"), credited)[1:]
    assert told["notes"][-1] == "Tenth: 1.00 GBP"


def tax(
    name: str, percent: str, taxable: int, *, category: str = "S", reason: str = "", is_included: bool = False
) -> TaxLine:
    amount = Money(round_half_up(Decimal(taxable) * Decimal(percent) / 100), "GBP")
    return TaxLine(
        name=name,
        category=category,
        percent=Decimal(percent),
        taxable=Money(taxable, "GBP"),
        amount=amount,
        is_included=is_included,
        exemption_reason=reason,
    )


def named(name: str) -> Customer:
    return replace(CUSTOMER, party=replace(CUSTOMER.party, display_name=name))


def printed(*lines: Line) -> list[dict[str, Any]]:  # Any: JSON
    [group] = json.loads(json.dumps(contents(invoice(*lines))))["groups"]
    found: list[dict[str, Any]] = group["lines"]
    return found


def test_a_line_says_what_when_how_many_and_how_much() -> None:
    """Both days of the period are printed as people say them, the last one included."""
    assert printed(line()) == [
        {
            "description": "Electricity",
            "period": "1 Mar – 31 Mar 2026",
            "notes": ["1,234.5 kWh at 0.14228 GBP each"],
            "quantity": "1,234.5",
            "unit": "kWh",
            "amount": "175.64",
        }
    ]


@pytest.mark.parametrize(
    ("currency", "amount"), [("JPY", "1,201"), ("GBP", "1,201.00"), ("KWD", "1,201.000")], ids=["none", "two", "three"]
)
def test_amounts_have_the_decimals_of_their_currency(currency: str, amount: str) -> None:
    """By ISO 4217: no sen, and three decimals of a dinar."""
    assert printed(line(quantity="1", unit_price="1201", currency=currency))[0]["amount"] == amount


def test_tiers_are_told_one_by_one() -> None:
    """So that a customer can check the amount with a pencil."""
    tiers = (Tier(up_to=Decimal(100), unit_price=Decimal(1)), Tier(up_to=None, unit_price=Decimal("0.5")))
    price = Price(id="p", currency="GBP", model=Graduated(tiers=tiers), product="Calls", unit_label="call")
    steps = rate(price, UsageToRate.of(Decimal(150))).steps
    assert printed(line(steps=steps))[0]["notes"] == [
        "The first 100 call: 100 at 1.00 GBP each = 100.00 GBP",
        "Over 100 call: 50 at 0.50 GBP each = 25.00 GBP",
    ]


def test_what_costs_nothing_is_told_without_an_amount() -> None:
    """`100 call free = 0.00 GBP` would read as if it could have been something else."""
    free = Operators(free_units=Decimal(100))
    price = Price(
        id="p", currency="GBP", model=PerUnit(unit_price=Decimal(1)), product="Calls", unit_label="call", operators=free
    )
    assert printed(line(steps=rate(price, UsageToRate.of(Decimal(150))).steps))[0]["notes"] == [
        "100 call free: 150 less 100 is 50",
        "50 call at 1.00 GBP each = 50.00 GBP",
    ]
    [share] = rate(
        replace(price, model=Percentage(percent=Decimal("2.5")), operators=Operators()), UsageToRate.of(Decimal(1))
    ).steps
    assert printed(line(steps=(share,)))[0]["notes"] == ["2.5% of 1.00 GBP"]


def test_one_day_is_told_as_its_date() -> None:
    """What is billed once is of the day on which it began, at whatever time of it; so is a part inside of a day."""
    noon = datetime(2026, 3, 28, 12, tzinfo=UTC)
    for hours in (5, 24):
        day = Period(noon, noon + timedelta(hours=hours))
        assert printed(line(period=day, full_period=day))[0]["period"] == "28 Mar 2026"
    two = Period(noon, noon + timedelta(days=2))
    assert printed(line(period=two, full_period=two))[0]["period"] == "28 Mar – 30 Mar 2026"


def test_a_part_of_a_month_is_told_in_days() -> None:
    """`17 of 31 days` says more than a fraction in lowest terms."""
    steps = (flat_step("Fixed price", Decimal("24.90")), flat_step("17/31 of the full period", Decimal("-11.245161")))
    rest = Period(datetime(2026, 3, 15, tzinfo=UTC), MARCH.end)
    [told] = printed(line(steps=steps, period=rest, proration=Fraction(17, 31)))
    assert told["period"] == "15 Mar – 31 Mar 2026"
    assert told["notes"] == ["Fixed price = 24.90 GBP", "17 of 31 days of 1 Mar – 31 Mar 2026"]


def test_what_was_billed_before_is_taken_off_visibly() -> None:
    """A correction shows the whole and what of it had been billed."""
    steps = (*line().steps, flat_step("Less what was billed before", Decimal("-100.00")))
    assert printed(line(steps=steps))[0]["notes"][-1] == "Less what was billed before = −100.00 GBP"


def test_dates_are_those_of_the_customers_zone() -> None:
    """Billed at midnight in London, an hour before it is in UTC."""
    facts = contents(invoice(line()))["facts"]
    assert facts == [["Invoice number", "NL-000012"], ["Invoice date", "1 Apr 2026"], ["Due date", "15 Apr 2026"]]


def test_the_country_is_printed_when_it_is_another() -> None:
    """As on an envelope that crosses a border."""
    told: Any = contents(invoice(line()))  # Any: JSON
    assert told["seller"]["address"] == ["Wellington Street", "Leeds", "LS1 4AP", "GB"]
    assert told["customer"]["address"] == ["Torstraße 1", "10119 Berlin", "DE"]


@pytest.mark.parametrize(
    ("method", "unit_price", "title"),
    [
        (CollectionMethod.SEND_INVOICE, "1", "How to pay"),
        (CollectionMethod.CHARGE_AUTOMATICALLY, "1", "Payment"),
        (CollectionMethod.SEND_INVOICE, "0", "Nothing to pay"),
    ],
)
def test_it_says_how_the_money_comes_in(method: CollectionMethod, unit_price: str, title: str) -> None:
    """Nobody should pay by hand what is collected, nor wait when nothing is."""
    told: Any = contents(invoice(line(unit_price=unit_price), customer=replace(CUSTOMER, collection_method=method)))
    assert told["payment"]["title"] == title


def test_the_sums_lead_from_the_lines_to_what_is_due() -> None:
    """Each is the one before with what stands between them: a reader adds up what is printed."""
    coupon = LineDiscount(discount_id="d", description="Welcome, 10%", amount=Money(10_00, "GBP"))
    made = invoice(line(quantity="100", unit_price="1", discounts=(coupon,)))
    taxed = replace(made, taxes=(tax("VAT", "20", 80_00), tax("VAT", "0", 10_00, category="E", reason="Books, § 4")))
    told: Any = contents(replace(taxed, credit_applied=Money(6_00, "GBP")))  # Any: JSON
    assert told["groups"][0]["lines"][0]["notes"][-1] == "Welcome, 10%: −10.00 GBP"
    assert told["sums"] == [
        ["Subtotal", "100.00 GBP"],
        ["Discounts", "−10.00 GBP"],
        ["Total without tax", "90.00 GBP"],
        ["VAT 20% of 80.00", "16.00 GBP"],
        ["VAT 0% of 10.00", "0.00 GBP"],
        ["Total", "106.00 GBP"],
        ["Paid from your credit", "−6.00 GBP"],
    ]
    assert told["due"] == ["Amount due by 15 Apr 2026", "100.00 GBP"]
    assert told["remarks"] == ["Books, § 4"]
    assert len(pages(taxed)) == 1


def test_tax_that_the_prices_include_is_told_below_the_total() -> None:
    """It is not added once more."""
    made = replace(invoice(line(quantity="120", unit_price="1")), taxes=(tax("VAT", "20", 100_00, is_included=True),))
    told: Any = contents(made)  # Any: JSON
    assert told["sums"] == [
        ["Subtotal", "120.00 GBP"],
        ["Total", "120.00 GBP"],
        ["of which VAT 20% of 100.00", "20.00 GBP"],
    ]


def test_what_credit_covers_needs_no_payment() -> None:
    """And says why."""
    made = invoice(line(quantity="5", unit_price="1"))
    told: Any = contents(replace(made, credit_applied=made.total))  # Any: JSON
    assert told["payment"] == {"title": "Nothing to pay", "text": "Your credit covers this invoice."}
    assert told["due"][-1] == "0.00 GBP"


def test_a_reader_knows_whom_to_ask() -> None:
    """And what to name; by letter where the seller has no address for mails."""
    asked: Any = contents(invoice(line()))["questions"]  # Any: JSON
    assert asked == "Questions about this invoice? Write to billing@example.com and name NL-000012."
    silent = replace(SELLER, party=replace(SELLER.party, email=""))
    made = invoice(line())
    told: Any = contents(replace(made, seller=silent.party))["questions"]  # Any: JSON
    assert told == "Questions about this invoice? Write to Northern Light Ltd at the address above and name NL-000012."


HOSTILE = '#strong[*x*] $1+1$ #sys.inputs `raw` \\ " ] } // -- @ref <label> #include("/etc/passwd")'
WORLD = ["Żaneta O’Connor", "Μαρία Παπαδοπούλου", "Иван Иванов", "שרה כהן", "محمد", "A" * 200, HOSTILE]


@pytest.mark.parametrize("name", WORLD, ids=lambda name: name[:12])
def test_any_name_can_be_printed(name: str) -> None:
    """Text is text, whatever it looks like; and an archive can read the file."""
    pdf = Printer().typeset(invoice(line(description=name), customer=named(name)))
    assert pdf.startswith(b"%PDF-")
    assert b"pdfaid:part" in pdf


def test_a_script_without_a_font_is_printed_with_boxes_rather_than_not_at_all() -> None:
    """Without a folder of more fonts. It is no PDF/A then, which such a file may not call itself."""
    pdf = Printer().typeset(invoice(line(), customer=named("株式会社サンプル")))
    assert pdf.startswith(b"%PDF-")
    assert b"pdfaid:part" not in pdf


def test_markup_in_a_name_changes_nothing_but_the_name() -> None:
    """The page of a hostile name is the page of a harmless one of the same letters, escaped by nobody."""
    assert len(pages(invoice(line(description=HOSTILE)))) == 1
    assert printed(line(description=HOSTILE))[0]["description"] == HOSTILE


def test_three_hundred_lines_fill_many_pages() -> None:
    """A long invoice is set whole."""
    assert len(pages(invoice(*[line()] * 300))) > 10


def test_the_same_invoice_gives_the_same_bytes(tmp_path: Path) -> None:
    """In another process, later, with other fonts at hand: what was sent can be sent again."""
    first = Printer().typeset(invoice(line()))
    again = Printer(font_folder=tmp_path)
    assert again.typeset(invoice(line())) == first
    assert again.typeset(invoice(line(quantity="2"))) != first
    assert again.typeset(invoice(line())) == first


async def test_documents_are_set_side_by_side() -> None:
    """Each in a thread of its own, with a compiler of its own."""
    printer = Printer()
    invoices = [invoice(line(quantity=str(n))) for n in range(1, 9)]
    documents = await asyncio.gather(*(printer.print(each) for each in invoices))
    assert [document.content for document in documents] == [printer.typeset(each) for each in invoices]
    assert documents[0].file_name == "NL-000012.pdf"
    await printer.close()


async def test_a_draft_has_no_document() -> None:
    """The printer itself refuses, whoever asks it."""
    draft = Invoice.draft(
        id=InvoiceId("inv_1"),
        customer=CUSTOMER,
        bill=Bill(currency="GBP", bill_time=MARCH.end, lines=(line(),)),
        at=MARCH.end,
        grace=timedelta(),
    )
    with pytest.raises(InvoiceNotFinalized):
        await Printer().print(draft)


def pages(made: Invoice) -> list[bytes]:
    told = {"invoice": json.dumps(contents(made))}
    # Any: of several pages it is a list, whatever the annotation of typst says
    images: Any = typst.compile(TEMPLATE, format="png", ppi=20, sys_inputs=told, ignore_system_fonts=True)
    return [images] if isinstance(images, bytes) else list(images)
