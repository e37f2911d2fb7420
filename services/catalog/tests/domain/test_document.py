"""A catalog is written in one way only, and what was written is read as what it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import yaml
from hypothesis import given
from hypothesis import strategies as st

from catalog.document.diff import Stored
from catalog.document.parse import parse
from catalog.document.tree import Literal
from catalog.document.write import write, written
from catalog.domain.plan import PlanId, draft
from catalog.domain.product import Product, ProductId
from common.document import parse as parse_document
from services.catalog.tests.catalogs import DOCUMENTS, TEXTS

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)


@given(DOCUMENTS)
def test_what_was_written_is_read_as_what_it_was(document: str) -> None:
    """However somebody said it, the export says the same, and says it the same way ever after."""
    reading = parse(document)
    assert reading.faults == ()
    once = write(reading.catalog)
    again = parse(once)
    assert again.faults == ()
    assert write(again.catalog) == once
    assert again.catalog.entry_count == reading.catalog.entry_count
    sections = (again.catalog.tax_codes, again.catalog.products, again.catalog.plans, again.catalog.coupons)
    assert all([each.code for each in section] == sorted(each.code for each in section) for section in sections)


@given(DOCUMENTS)
def test_any_reader_of_yaml_takes_an_export_for_what_it_is(document: str) -> None:
    """Texts are texts, also those that look like numbers, dates or nothing at all."""
    catalog = parse(document).catalog
    read = yaml.safe_load(write(catalog))
    assert {each["code"] for each in read["products"]} == {each.code for each in catalog.products}
    assert {each["display_name"] for each in read["products"]} == {each.display_name for each in catalog.products}
    assert {each["code"] for each in read["tax_codes"]} == {each.code for each in catalog.tax_codes}


@given(TEXTS | st.sampled_from(["null", "~", "no", "1e3", "0x1F", "2012-01-01", "- a", "a: b", "a #b", "@", "'", "\\"]))
def test_a_text_comes_back_from_wherever_it_stands(text: str) -> None:
    """In a list, as a value, and as a key."""
    value, listed, keyed, key = (
        parse_document(f"[{written(tree)}]", "x").items()[0]
        for tree in (text, [text], {"key": text}, {text: Literal("1")})
    )
    under = keyed.get("key")
    assert under is not None
    assert [value.written, listed.items()[0].written, under.written, key.elements[0].written] == [text] * 4


@given(st.text(max_size=300) | DOCUMENTS.map(lambda text: text[: len(text) // 2]))
def test_no_document_is_worse_than_faulty(document: str) -> None:
    """Half a file, or none: told in words, never with a stack trace."""
    reading = parse(document)
    assert reading.faults or write(reading.catalog)


def test_a_flat_amount_of_nothing_says_nothing() -> None:
    """Prices that were stored long ago have one in every tier, and are no other prices for it."""
    price = "plans: [{code: x, display_name: X, prices: [{code: p, product: a, currency: EUR, graduated: [%s]}]}]"
    old, new, free = (
        write(parse(price % tier).catalog)
        for tier in ("{unit_price: 1, flat_amount: 0}", "{unit_price: 1}", "{flat_amount: 0}")
    )
    assert old == new != free
    assert "flat_amount: 0" in free


def test_a_version_is_over_when_its_time_is_up() -> None:
    """Also before the job that archives it has come by: the document says what can be subscribed to now."""
    products = (
        Product(
            id=ProductId("p"),
            code="a",
            display_name="A",
            description="",
            unit_label="",
            tax_code="",
            revision=1,
            create_time=NOW,
        ),
    )
    (placed,) = parse(
        "plans: [{code: x, display_name: X, prices: [{code: p, product: a, currency: EUR, flat: 1}]}]"
    ).plans
    offered = replace(placed.entry.prices[0].price, product_id=ProductId("p"))
    terms = replace(placed.entry.terms, prices=(offered,))
    first = draft(PlanId("1"), "x", terms, at=NOW).publish(at=NOW, effective_time=None, before=None)
    second = draft(PlanId("2"), "x", replace(terms, trial_days=7), version=2, at=NOW)
    second = second.publish(at=NOW, effective_time=NOW + DAY, before=first)
    stored = Stored(products=products, plans=(replace(first, superseded_time=NOW + DAY), second))
    today, tomorrow = stored.catalog(at=NOW), stored.catalog(at=NOW + DAY)
    assert [(plan.terms.trial_days, plan.effective) for plan in today.plans] == [(0, None), (7, NOW + DAY)]
    assert [(plan.terms.trial_days, plan.effective) for plan in tomorrow.plans] == [(7, None)]
