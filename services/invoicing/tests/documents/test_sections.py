"""The document of an invoice for several customers or subscriptions: who used what, what it comes to, what is left."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from pypdf import PdfReader

from common.money import Money
from common.period import Period
from invoicing.documents.credit_note import contents as note_contents
from invoicing.documents.document import Printer, contents
from invoicing.documents.grouping import Layout
from invoicing.documents.since import Since
from invoicing.domain.consolidation import Bill
from invoicing.domain.crediting import Part
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.issued import hash_of
from invoicing.domain.line import Line, LineKind
from invoicing.domain.received import Received
from invoicing.domain.steps import flat_step

from .test_credit_note import gbp, note
from .test_document import CUSTOMER, MARCH, SELLER, invoice, line, tax

PLANS = {"sub_1": "Electricity", "sub_2": "Broadband", "sub_3": "Electricity", "sub_4": "Broadband"}
CHILDREN = {"cus_ben": "Ben Byron", "cus_clara": "Clara Byron"}
APRIL_20 = datetime(2026, 4, 20, 9, tzinfo=UTC)


def of(subscription_id: str, customer_id: str = "", *, pounds: int = 10, **changes: Any) -> Line:
    # Any: fields of the line
    told = {"id": f"line_{customer_id}{subscription_id}", "subscription_id": subscription_id, **changes}
    return line(quantity=str(pounds), unit_price="1", customer_id=customer_id, **told)


def divided(*lines: Line, plans: dict[str, str] = PLANS, customers: dict[str, str] = CHILDREN) -> Invoice:
    bill = Bill(currency="GBP", bill_time=MARCH.end, lines=lines)
    draft = Invoice.draft(
        id=InvoiceId("inv_1"), customer=CUSTOMER, bill=bill, at=MARCH.end, grace=timedelta(), names=plans
    )
    at = MARCH.end + timedelta(hours=1)
    return draft.finalize(number="NL-000012", at=at, seller=SELLER, customer=CUSTOMER, users=customers)


def family() -> Invoice:
    return divided(
        of("sub_1", "cus_ben", pounds=10),
        of("sub_2", "cus_ben", pounds=20),
        of("sub_3", "cus_clara", pounds=30),
    )


def told(made: Invoice, **how: Any) -> dict[str, Any]:  # Any: as `contents` takes, and JSON
    found: dict[str, Any] = json.loads(json.dumps(contents(made, **how)))
    return found


def headings(made: Invoice) -> list[tuple[str, str]]:
    return [(group["customer"], group["title"]) for group in told(made)["groups"]]


def pages(made: Invoice, **how: Any) -> list[str]:  # Any: as `typeset` takes
    return [page.extract_text() for page in PdfReader(io.BytesIO(Printer().typeset(made, **how))).pages]


def test_each_customer_and_subscription_has_a_section() -> None:
    """With what it comes to; of a customer with one subscription that is said once."""
    groups = told(family())["groups"]
    assert headings(family()) == [
        ("Ben Byron", "Electricity"),
        ("Ben Byron", "Broadband"),
        ("Clara Byron", "Electricity"),
    ]
    assert [group["subtotal"] for group in groups] == [
        ["Subtotal Electricity", "10.00"],
        ["Subtotal Broadband", "20.00"],
        None,
    ]
    assert [group["total"] for group in groups] == [
        None,
        ["Total Ben Byron", "30.00"],
        ["Total Clara Byron", "30.00"],
    ]
    assert [len(group["lines"]) for group in groups] == [1, 1, 1]


def test_what_the_payer_used_itself_is_under_its_own_name() -> None:
    """As it stands on the invoice."""
    assert headings(divided(of("sub_2"), of("sub_1", "cus_ben")))[0] == ("Ada Byron", "Broadband")


def test_several_subscriptions_of_one_customer_need_no_name_of_it() -> None:
    """It is the one who gets the invoice."""
    made = divided(of("sub_1"), of("sub_2"), of(""))
    assert headings(made) == [("", "Electricity"), ("", "Broadband"), ("", "Other items")]
    assert all(group["subtotal"] and not group["total"] for group in told(made)["groups"])


def test_two_of_the_same_plan_are_told_apart() -> None:
    """By what the seller can look for, when asked about one of them."""
    groups = told(divided(of("sub_1"), of("sub_3"), of("sub_2")))["groups"]
    assert [group["reference"] for group in groups] == ["sub_1", "sub_3", ""]


@pytest.mark.parametrize("lines", [(of("sub_1"),), (of("sub_1", id="line_1"), of("sub_1", id="line_2"), of(""))])
def test_one_subscription_needs_no_sections(lines: tuple[Line, ...]) -> None:
    """Its document is what it was before there were any, and so is its hash."""
    made = divided(*lines)
    assert made.section_names == {}
    assert headings(made) == [("", "")]
    assert told(made)["groups"][0]["subtotal"] is None
    assert hash_of(made) == hash_of(replace(invoice(*lines), finalize_time=made.finalize_time))


def test_one_who_is_paid_for_is_named_even_alone() -> None:
    """Or the payer would look for it among its own."""
    assert headings(divided(of("sub_1", "cus_ben"))) == [("Ben Byron", "Electricity")]


def test_names_of_before_they_were_kept_are_not_made_up() -> None:
    """An invoice that was issued without them is printed as it was then."""
    assert headings(replace(family(), section_names={})) == [("", "")]


def test_what_was_issued_says_how_its_sections_are_called() -> None:
    """Nobody can rename them afterwards without its being seen."""
    made = family()
    renamed = replace(made, section_names={**made.section_names, "cus_ben": "Somebody else"})
    assert hash_of(renamed) != hash_of(made)


def test_names_of_others_do_not_get_onto_an_invoice() -> None:
    """A bill run knows those of all whom it bills at once."""
    made = divided(of("sub_1", "cus_ben"), customers={**CHILDREN, "cus_else": "Eve"})
    assert made.section_names == {"cus_ben": "Ben Byron", "sub_1": "Electricity"}


def test_a_draft_knows_subscriptions_and_no_people() -> None:
    """Who is called how is asked when it is finalized, and the parties with it."""
    bill = Bill(currency="GBP", bill_time=MARCH.end, lines=(of("sub_1", "cus_ben"),))
    draft = Invoice.draft(
        id=InvoiceId("inv_1"), customer=CUSTOMER, bill=bill, at=MARCH.end, grace=timedelta(), names=PLANS
    )
    assert draft.section_names == {"sub_1": "Electricity"}
    grown = draft.add([of("sub_3", "cus_clara")], names={"sub_3": "Gas"})
    assert grown.section_names == {"sub_1": "Electricity", "sub_3": "Gas"}


def test_a_summary_comes_first_where_it_is_asked_for() -> None:
    """All that is to be paid on the first page; the sections after it."""
    assert told(family(), layout=Layout.SUMMARY_FIRST)["summary"] == [
        {"title": "Ben Byron", "parts": "Electricity, Broadband", "amount": "30.00"},
        {"title": "Clara Byron", "parts": "Electricity", "amount": "30.00"},
    ]
    first, second = pages(family(), layout=Layout.SUMMARY_FIRST)
    assert "Amount due by" in first
    assert "kWh" not in first
    assert "Amount due by" not in second
    assert second.count("kWh at 1.00 GBP each") == 3


def test_of_one_customer_there_is_no_summary() -> None:
    """It would be one line."""
    assert told(divided(of("sub_1"), of("sub_2")), layout=Layout.SUMMARY_FIRST)["summary"] == []


def test_a_credit_says_why_it_is_there() -> None:
    """Beside the period, and which part of it."""
    rest = Period(datetime(2026, 3, 15, tzinfo=UTC), MARCH.end)
    steps = (flat_step("Fixed price", Decimal(-31)), flat_step("17/31 of the full period", Decimal(14)))
    credit = of(
        "sub_1",
        kind=LineKind.CREDIT,
        amount=gbp(-17_00),
        steps=steps,
        period=rest,
        proration=Fraction(17, 31),
    )
    [_, printed] = told(divided(of("sub_1", pounds=40), replace(credit, id="line_2")))["groups"][0]["lines"]
    assert printed["period"] == "15 Mar – 31 Mar 2026"
    assert printed["notes"] == [
        "Billed in advance and not used: taken off",
        "Fixed price = −31.00 GBP",
        "17 of 31 days of 1 Mar – 31 Mar 2026",
    ]


def test_what_was_paid_and_credited_since_is_told_with_its_days() -> None:
    """In the order in which it came, down to what is left."""
    made = replace(family(), amount_paid=gbp(25_00), amount_credited=gbp(10_00))
    credit = replace(note(family(), Part(line_id="line_cus_bensub_1", share=Fraction(1))), issue_time=APRIL_20)
    payments = [Received(amount=gbp(25_00), time=datetime(2026, 4, 8, 23, 30, tzinfo=UTC))]
    printed = told(made, since=Since(as_of=APRIL_20, payments=payments, notes=[credit]))
    assert printed["since"] == [
        ["Paid on 9 Apr 2026", "−25.00 GBP"],
        ["Credit note NL-CN-000003 of 20 Apr 2026", "−10.00 GBP"],
    ]
    assert printed["left"] == ["Left to pay on 20 Apr 2026", "25.00 GBP"]
    assert printed["payment"]["title"] == "How to pay"


def test_as_issued_it_says_nothing_of_what_came_after() -> None:
    """The same bytes for ever, whatever was paid; and as it stands it is another document."""
    made = family()
    paid = replace(made, amount_paid=gbp(25_00))
    assert Printer().typeset(paid) == Printer().typeset(made)
    assert Printer().typeset(paid, since=Since(as_of=APRIL_20, payments=[], notes=[])) != Printer().typeset(made)


def test_what_is_settled_is_not_asked_for_again() -> None:
    """Nor what was annulled, or given up; and each says so."""
    made = family()
    since = Since(as_of=APRIL_20, payments=[], notes=[])
    paid = made.pay(gbp(60_00), at=APRIL_20)
    for now, text in (
        (paid, "This invoice is settled."),
        (made.void(at=APRIL_20), "This invoice was annulled."),
        (made.write_off(at=APRIL_20), "What was left of this invoice is not collected any more."),
    ):
        assert told(now, since=since)["payment"] == {"title": "Nothing to pay", "text": text}
    assert ["Not collected any more", "−60.00 GBP"] in told(made.write_off(at=APRIL_20), since=since)["since"]


async def test_a_document_as_it_stands_is_named_by_its_day() -> None:
    """Two of them in one folder are told apart."""
    since = Since(as_of=APRIL_20, payments=[], notes=[])
    assert (await Printer().print(family(), since=since)).file_name == "NL-000012-on-2026-04-20.pdf"


def test_a_credit_note_says_whose_line_it_takes_back() -> None:
    """Where the invoice has sections."""
    made = family()
    printed: Any = note_contents(note(made, Part(line_id="line_cus_bensub_2", share=Fraction(1))), made)  # Any: JSON
    assert printed["lines"][0]["notes"] == ["Ben Byron, Broadband", "1 Mar – 31 Mar 2026"]


def test_sections_of_many_lines_break_well_over_pages() -> None:
    """The columns are named and whose it is is said on every page, and no sum stands there alone."""
    lines = [
        of(f"sub_{n // 50 + 1}", "cus_ben" if n < 100 else "cus_clara", id=f"line_{n}", description=f"Thing {n}")
        for n in range(200)
    ]
    found = pages(replace(divided(*lines), taxes=(tax("VAT", "20", 2000_00),)))
    assert len(found) > 5
    for page in found:
        assert "DESCRIPTION" in page
        assert "Byron" in page
        assert "Thing" in page
        assert any(plan in page for plan in PLANS.values())
    assert "Thing 199" in found[-1]
    assert "Amount due by" in found[-1]
    assert "Questions about this invoice?" in found[-1]
    whole = "\n".join(found)
    assert all(f"Thing {n}\n" in whole for n in range(200))
    for total in ("Subtotal Electricity", "Total Ben Byron", "Total Clara Byron"):
        [page, *_] = [page for page in found if total in page]
        assert page.index("Thing") < page.index(total)


def test_a_line_longer_than_a_page_loses_nothing() -> None:
    """A price by many dimensions has a step for each: what does not fit goes on the next page."""
    steps = tuple(flat_step(f"Step {n}", Decimal(1)) for n in range(200))
    found = "\n".join(pages(divided(of("sub_1", pounds=200, steps=steps, amount=Money(200_00, "GBP")))))
    assert all(f"Step {n} = 1.00 GBP" in found for n in range(200))
    assert "Amount due by" in found
