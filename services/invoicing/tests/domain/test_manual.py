"""Lines that somebody writes: what they cost, when they were supplied, and what they may not be."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, round_half_up
from common.period import Period
from invoicing.domain.discount import AmountOff, GivenDiscount
from invoicing.domain.errors import LineInAnotherCurrency, PriceOfAnotherCustomer, TooManyLines
from invoicing.domain.invoice import LINES_WRITTEN_MAX, InvoiceId
from invoicing.domain.line import Line
from invoicing.domain.manual import PendingLine, WrittenInvoice, WrittenLine, drafted, pending_due, written
from invoicing.domain.party import CollectionMethod, Customer, Party
from invoicing.domain.price import PerUnit, Price

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
CUSTOMER = Customer(
    party=Party(id="cus_1", display_name="Ada"),
    external_id="",
    currency="EUR",
    time_zone="Europe/Berlin",
    net_terms_days=14,
    collection_method=CollectionMethod.SEND_INVOICE,
)


def write(prices: dict[str, Price] | None = None, **told: Any) -> Line:  # Any: fields of what is written
    told = {
        "description": "Work",
        "quantity": Decimal(1),
        "unit_label": "",
        "priced_by": Decimal(1),
        "tax_code": "",
        "period": None,
        "discounts": (),
        **told,
    }
    return written(WrittenLine(**told), prices or {}, id="line_1", customer=CUSTOMER, currency="EUR", at=NOON)


def test_a_line_is_of_the_day_on_which_it_is_written() -> None:
    """A civil day where the customer is, here one of 23 hours; unless somebody says when it was supplied."""
    day = Period(datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    assert write().period == day
    march = Period(datetime(2026, 3, 1, tzinfo=UTC), NOON)
    assert write(period=march).period == march


@given(st.decimals(0, 1000, places=6), st.decimals(0, 1000, places=6))
def test_it_costs_its_quantity_at_its_unit_price(quantity: Decimal, unit_price: Decimal) -> None:
    """Rounded once, half up; the steps add up to the exact amount."""
    line = write(quantity=quantity, priced_by=unit_price)
    assert line.exact_amount == sum(step.amount for step in line.steps)
    assert line.amount.minor == round_half_up(line.exact_amount * 100)


def test_a_price_says_all_that_is_not_said() -> None:
    """Name, unit and amount; unless it was negotiated with somebody else."""
    price = Price(
        id="price_1",
        currency="EUR",
        model=PerUnit(unit_price=Decimal("0.125")),
        product="Cable",
        unit_label="m",
        customer_id="cus_1",
    )
    line = write({"price_1": price}, description="", priced_by="price_1", quantity=Decimal(3))
    assert (line.description, line.unit_label, line.amount.minor, line.price_id) == ("Cable", "m", 38, "price_1")
    other = Price(id="price_2", currency="EUR", model=price.model, product="", unit_label="", customer_id="cus_2")
    with pytest.raises(PriceOfAnotherCustomer):
        write({"price_2": other}, priced_by="price_2")


def test_everything_is_in_one_currency() -> None:
    """What a line costs, and what is taken off it."""
    dollar = Money(1_00, "USD")
    off = GivenDiscount(id="", description="", benefit=AmountOff(amounts=(dollar,)))
    for told in ({"priced_by": dollar}, {"discounts": (off,)}):
        with pytest.raises(LineInAnotherCurrency):
            write(**told)


def test_a_draft_is_bounded_and_on_the_terms_that_were_written() -> None:
    """It is dated by the day on which it is finalized, and has so many lines at most."""
    told = WrittenInvoice(
        currency="",
        lines=(),
        discounts=(),
        collection_method=None,
        net_terms_days=0,
        memo="",
        purchase_order="",
        finalize_time=None,
    )
    draft = drafted(told, [write()], id=InvoiceId("inv_1"), customer=CUSTOMER, at=NOON)
    assert (draft.net_terms_days, draft.collection_method, draft.currency) == (0, CollectionMethod.SEND_INVOICE, "EUR")
    assert draft.dated(datetime(2027, 1, 1, tzinfo=UTC)).invoice_date.year == 2027
    with pytest.raises(TooManyLines):
        draft.rewritten([write()] * (LINES_WRITTEN_MAX + 1))


def test_what_waits_is_reason_for_an_invoice_when_its_time_has_come() -> None:
    """Without a time it only joins one."""

    def waits(bill_alone_time: datetime | None) -> bool:
        pending = PendingLine(customer_id="", line=write(), bill_alone_time=bill_alone_time, create_time=NOON)
        return pending_due([pending], as_of=NOON)[0].can_wait

    assert [waits(None), waits(NOON), waits(datetime(2027, 1, 1, tzinfo=UTC))] == [True, False, True]
