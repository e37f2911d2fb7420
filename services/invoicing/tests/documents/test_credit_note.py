"""The document of a credit note: which invoice it corrects, why, and what happens with the money."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from common.money import Money
from invoicing.documents.credit_note import contents
from invoicing.documents.document import Printer
from invoicing.domain.credit_note import (
    CreditNote,
    CreditNoteId,
    NoteKind,
    Preference,
    Reason,
    Settlement,
    settled_by,
)
from invoicing.domain.crediting import Part, taken_back
from invoicing.domain.invoice import Invoice
from invoicing.domain.line import LineDiscount

from .test_document import MARCH, invoice, line, tax


def gbp(pence: int) -> Money:
    return Money(pence, "GBP")


def note(
    of: Invoice,
    *parts: Part,
    kind: NoteKind = NoteKind.CREDIT,
    reason: Reason = Reason.BILLING_ERROR,
    memo: str = "",
    settlement: Settlement | None = None,
) -> CreditNote:
    taken = taken_back(of, (), parts)
    made = CreditNote.of(
        of,
        taken,
        settlement or settled_by(of, taken, Preference.DEBT_FIRST),
        kind=kind,
        reason=reason,
        memo=memo,
        at=MARCH.end,
    )
    return made.numbered(id=CreditNoteId("cn_1"), number="NL-CN-000003")


def printed(made: CreditNote, of: Invoice | None = None) -> dict[str, Any]:  # Any: JSON
    found: dict[str, Any] = json.loads(json.dumps(contents(made, of or ten())))
    return found


def ten(**changes: Any) -> Invoice:  # Any: fields of the line
    return invoice(line(quantity="10", unit_price="1", **changes))


def test_it_says_what_it_corrects_and_why() -> None:
    """Dated in the zone of the customer, on whose paper it will be filed."""
    told = printed(note(ten(), memo="Meter 7 was read twice.\nSorry."))
    assert told["facts"] == [
        ["Credit note number", "NL-CN-000003"],
        ["Date", "1 Apr 2026"],
        ["Corrects invoice", "NL-000012"],
    ]
    assert told["why"] == ["The invoice was wrong.", "Meter 7 was read twice.", "Sorry."]
    assert told["lines"] == [
        {
            "description": "Electricity",
            "notes": ["1 Mar – 31 Mar 2026"],
            "quantity": "10",
            "unit": "kWh",
            "amount": "10.00",
        }
    ]
    assert told["questions"] == "Questions about this credit note? Write to billing@example.com and name NL-CN-000003."
    assert (told["seller"]["name"], told["customer"]["name"]) == ("Northern Light Ltd", "Ada Byron")


def test_another_reason_is_in_the_words_of_whoever_gave_it() -> None:
    """Nobody reads `OTHER` on paper."""
    assert printed(note(ten(), reason=Reason.OTHER, memo="Good will"))["why"] == ["Good will"]


def test_the_sums_lead_from_the_lines_to_the_total() -> None:
    """A half of 10.00 with 2.00 off, and of its taxes."""
    off = LineDiscount(discount_id="", description="Off", amount=gbp(2_00))
    of = replace(ten(discounts=(off,)), taxes=(tax("VAT", "20", 8_00),))
    told = printed(note(of, Part(line_id=of.lines[0].id, share=Fraction(1, 2))))
    assert told["sums"] == [
        ["Subtotal", "5.00 GBP"],
        ["Discounts", "−1.00 GBP"],
        ["VAT 20% of 4.00", "0.80 GBP"],
    ]
    assert told["total"] == "4.80 GBP"


def test_tax_that_the_prices_include_is_told_below_the_total() -> None:
    """It is a part of it, and not added."""
    told = printed(note(replace(ten(), taxes=(tax("VAT", "25", 8_00, is_included=True),))))
    assert told["sums"][1:] == [["Total", "10.00 GBP"], ["of which VAT 25% of 8.00", "2.00 GBP"]]


def test_why_no_tax_is_due_is_told_as_on_the_invoice() -> None:
    """A law wants it on every document."""
    exempt = tax("VAT", "0", 10_00, category="E", reason="Exempt under article 132")
    assert printed(note(replace(ten(), taxes=(exempt,))))["remarks"] == ["Exempt under article 132"]


@pytest.mark.parametrize(
    ("settlement", "sentences"),
    [
        (None, ["10.00 GBP of invoice NL-000012 need not be paid any more."]),
        (
            Settlement(debt=gbp(0), customer_credit=gbp(4_00), refund=gbp(6_00)),
            ["4.00 GBP are kept to your credit and taken off what you owe next.", "6.00 GBP are paid back to you."],
        ),
    ],
)
def test_it_says_what_happens_with_the_money(settlement: Settlement | None, sentences: list[str]) -> None:
    """In sentences: nobody has to know what a settlement is."""
    assert printed(note(ten(), settlement=settlement))["settlement"] == sentences


def test_an_invoice_that_is_annulled_is_said_to_be() -> None:
    """Also one that came to nothing, of which there is nothing to be told in figures."""
    free = invoice(line(quantity="0"))
    told = printed(note(free, kind=NoteKind.VOID))
    assert told["settlement"] == ["Invoice NL-000012 is annulled: nothing is to be paid for it."]
    assert (told["lines"], told["total"]) == ([], "0.00 GBP")


def test_the_same_note_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever was paid back since; and markup in a memo is only text."""
    one = note(
        ten(),
        memo="#panic() $x$ *bold* `raw` //",
        settlement=Settlement(debt=gbp(0), customer_credit=gbp(0), refund=gbp(10_00)),
    )
    first = Printer().typeset_credit_note(one, ten())
    assert first.startswith(b"%PDF-")
    assert Printer(font_folder=tmp_path).typeset_credit_note(one.refund(gbp(4_00)), ten()) == first
    assert Printer().typeset_credit_note(replace(one, number="NL-CN-000004"), ten()) != first


def test_notes_of_every_shape_can_be_printed() -> None:
    """Without lines, and with three hundred."""
    many = invoice(*(replace(line(), id=f"line_{n}") for n in range(300)))
    for of, kind in ((invoice(line(quantity="0")), NoteKind.VOID), (many, NoteKind.CREDIT)):
        assert Printer().typeset_credit_note(note(of, kind=kind), of).startswith(b"%PDF-")
