"""The books through their door: what is posted when, what they come to, and what the tables refuse."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import asyncpg
import grpc
import pytest
from google.type import date_pb2

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.testing import SANDBOX_START, Suite, refused
from invoicing.usecases import ledger
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import ledger_service_pb2 as pb
from saldo.invoicing.v1.ledger_pb2 import LedgerAccount, LedgerEntry
from saldo.invoicing.v1.ledger_service_pb2_grpc import LedgerServiceStub
from tests.support.tables import each_refused

from .conftest import Business, dead_letters, flat, per_unit, utc
from .test_invoices import DAY, FEBRUARY, HOUR, billed_for_seats, drafted
from .test_series import forge

pytestmark = pytest.mark.patched_when_used

YEARLY = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.YEAR, count=1)


def day(*parts: int) -> date_pb2.Date:
    return wire.date(date(*parts))


async def entries(business: Business, **wanted: Any) -> list[LedgerEntry]:  # Any: fields of the request
    found = await business.ledger.ListLedgerEntries(pb.ListLedgerEntriesRequest(page_size=1_000, **wanted))
    assert not found.next_page_token
    return list(found.entries)


def told(entry: LedgerEntry) -> tuple[str, str, dict[str, int]]:
    """What happened when, and what it moved, in pence."""
    effective = entry.effective_date
    moved = {
        LedgerAccount.Name(posting.account): wire.parse_money(posting.amount, field="amount").minor
        for posting in entry.postings
    }
    return LedgerEntry.Event.Name(entry.event), f"{effective.year}-{effective.month:02}-{effective.day:02}", moved


async def balances(business: Business, as_of: date_pb2.Date | None = None, *, currency: str = "") -> dict[str, int]:
    found = await business.ledger.GetTrialBalance(pb.GetTrialBalanceRequest(as_of_date=as_of, currency=currency))
    pence = [wire.parse_money(each.balance, field="balance").minor for each in found.balances]
    assert sum(pence) == 0
    return {LedgerAccount.Name(each.account): minor for each, minor in zip(found.balances, pence, strict=True)}


async def statement(
    business: Business, customer_id: str, start: date_pb2.Date, end: date_pb2.Date, **page: Any
) -> pb.CustomerStatement:  # Any: fields of the request
    request = pb.GetCustomerStatementRequest(
        customer_id=customer_id, currency="GBP", start_date=start, end_date=end, **page
    )
    found: pb.CustomerStatement = await business.ledger.GetCustomerStatement(request)
    return found


async def a_year_and_a_payment(business: Business) -> invoice_pb2.Invoice:
    """365.00 GBP for 2026, of which 100.00 are paid on 10 February."""
    plan = await business.plan(await business.price("Licence", billing_interval=YEARLY, **flat("365")))
    customer = await business.customer()
    await business.subscribe(customer, plan)
    await business.suite.travel(utc(2026, 2, 10))
    [invoice] = await business.invoices(customer)
    await business.pay(invoice, payment_id="pay_1", pence=100_00)
    return invoice


# What is posted


async def test_an_invoice_and_its_payments_are_posted_once_each(business: Business) -> None:
    """With the invoice all that it will earn; a payment that is told twice is one entry."""
    invoice = await billed_for_seats(business)
    await business.pay(invoice, payment_id="pay_1", pence=4_00)
    await business.pay(invoice, payment_id="pay_1", pence=4_00)
    await business.suite.travel(SANDBOX_START + 9 * DAY)
    await business.pay(invoice, payment_id="pay_2", pence=6_00)
    found = await entries(business)
    assert [told(entry) for entry in found] == [
        ("ISSUED", "2026-01-01", {"RECEIVABLE": 10_00, "REVENUE": -32, "DEFERRED_REVENUE": -9_68}),
        ("PAID", "2026-01-01", {"CASH": 4_00, "RECEIVABLE": -4_00}),
        ("PAID", "2026-01-10", {"CASH": 6_00, "RECEIVABLE": -6_00}),
        ("RECOGNIZED", "2026-01-31", {"DEFERRED_REVENUE": 9_68, "REVENUE": -9_68}),
    ]
    assert {(entry.customer_id, entry.invoice_id, entry.invoice_number) for entry in found} == {
        (invoice.customer_id, invoice.id, invoice.number)
    }
    assert [(entry.document_kind, entry.document_id) for entry in found] == [
        (LedgerEntry.INVOICE, invoice.id),
        (LedgerEntry.PAYMENT, "pay_1"),
        (LedgerEntry.PAYMENT, "pay_2"),
        (LedgerEntry.INVOICE, invoice.id),
    ]
    assert all(ids.check(entry.id, "jen") for entry in found)
    assert found[0].create_time.ToDatetime(SANDBOX_START.tzinfo) == SANDBOX_START


async def test_a_draft_is_posted_when_it_is_final(suite: Suite, business: Business) -> None:
    """Usage of January is earned on the date of its invoice, whatever grace it was given."""
    await drafted(business)
    assert await entries(business) == []
    await suite.travel(FEBRUARY + HOUR)
    assert [told(entry) for entry in await entries(business)] == [
        ("ISSUED", "2026-02-01", {"RECEIVABLE": 10_00, "REVENUE": -10_00})
    ]


async def test_what_is_paid_too_much_is_posted_as_credit(business: Business) -> None:
    """The invoice gets what was owed of it, the customer the rest to its credit; all of it is cash."""
    invoice = await billed_for_seats(business)
    before = await entries(business)
    await business.pay(invoice, payment_id="pay_1", pence=10_01)
    new = sorted((told(each) for each in await entries(business) if each not in before), key=lambda each: each[0])
    assert [(event, moved) for event, _, moved in new] == [
        ("CREDIT_GRANTED", {"CASH": 1, "CUSTOMER_CREDIT": -1}),
        ("PAID", {"CASH": 10_00, "RECEIVABLE": -10_00}),
    ]


# What is asked


async def test_entries_are_found_by_customer_document_invoice_and_day(business: Business) -> None:
    """And come in pages, in the order of the books; one filter narrows what another one leaves."""
    invoice = await a_year_and_a_payment(business)
    other = await billed_for_seats(business)
    everything = await entries(business)
    assert len(everything) == 13 + 1 + 2
    assert everything == sorted(everything, key=lambda entry: (told(entry)[1], entry.id))
    of_invoice = [entry for entry in everything if entry.invoice_id == invoice.id]
    assert await entries(business, invoice_id=invoice.id) == of_invoice
    assert await entries(business, customer_id=invoice.customer_id) == of_invoice
    assert [told(entry)[0] for entry in await entries(business, document_id="pay_1")] == ["PAID"]
    assert await entries(business, document_id=other.id, customer_id=invoice.customer_id) == []
    february = await entries(business, start_date=day(2026, 2, 10), end_date=day(2026, 2, 28))
    assert [told(entry)[:2] for entry in february] == [
        ("PAID", "2026-02-10"), ("ISSUED", "2026-02-10"), ("RECOGNIZED", "2026-02-28"), ("RECOGNIZED", "2026-02-28")
    ]  # fmt: skip
    paged: list[LedgerEntry] = []
    token = ""
    while not paged or token:
        request = pb.ListLedgerEntriesRequest(page_size=3, page_token=token, invoice_id=invoice.id)
        page = await business.ledger.ListLedgerEntries(request)
        assert 1 <= len(page.entries) <= 3
        paged += page.entries
        token = page.next_page_token
    assert paged == of_invoice


async def test_the_trial_balance_of_any_day_adds_up_to_nothing(business: Business) -> None:
    """The past stays what it was, and the future is foreseen: at the end of the year all of it is earned."""
    await a_year_and_a_payment(business)
    assert await balances(business, day(2025, 12, 31)) == {}
    assert await balances(business, day(2026, 1, 31)) == {
        "RECEIVABLE": 365_00, "REVENUE": -31_00, "DEFERRED_REVENUE": -334_00
    }  # fmt: skip
    today = await balances(business)
    assert today == {"RECEIVABLE": 265_00, "CASH": 100_00, "REVENUE": -31_00, "DEFERRED_REVENUE": -334_00}
    assert await balances(business, day(2026, 12, 31)) == {
        "RECEIVABLE": 265_00, "CASH": 100_00, "REVENUE": -365_00, "DEFERRED_REVENUE": 0
    }  # fmt: skip
    whole = await business.ledger.GetTrialBalance(pb.GetTrialBalanceRequest())
    assert whole.as_of_date == day(2026, 2, 10)
    deferred = next(each for each in whole.balances if each.account == LedgerAccount.DEFERRED_REVENUE)
    assert (deferred.debits.units, deferred.credits.units, deferred.balance.units) == (30, 364, -334)


async def test_currencies_are_balanced_apart(business: Business) -> None:
    """In the order of their codes, or one of them alone."""
    await billed_for_seats(business)
    plan = await business.plan(await business.price("Seats", currency="EUR", **per_unit("8")))
    await business.subscribe(await business.customer(currency="EUR"), plan)
    found = await business.ledger.GetTrialBalance(pb.GetTrialBalanceRequest())
    assert [each.balance.currency_code for each in found.balances] == ["EUR"] * 3 + ["GBP"] * 3
    assert [each.balance.units for each in found.balances if each.account == LedgerAccount.RECEIVABLE] == [8, 10]
    assert (await balances(business, currency="EUR"))["RECEIVABLE"] == 8_00
    assert await balances(business, currency="USD") == {}


async def test_a_statement_goes_from_balance_to_balance(business: Business) -> None:
    """What was owed before, what changed it, and what is owed after; what is only earned changes nothing of it."""
    invoice = await a_year_and_a_payment(business)
    whole = await statement(business, invoice.customer_id, day(2026, 1, 1), day(2026, 12, 31))
    assert [
        (LedgerEntry.Event.Name(each.event), each.invoice_number, each.amount.units, each.balance.units)
        for each in whole.movements
    ] == [("ISSUED", invoice.number, 365, 365), ("PAID", invoice.number, -100, 265)]
    assert (whole.opening_balance.units, whole.closing_balance.units) == (0, 265)
    assert (whole.closing_credit_balance.currency_code, whole.closing_credit_balance.units) == ("GBP", 0)
    february = await statement(business, invoice.customer_id, day(2026, 2, 1), day(2026, 2, 28))
    assert [each.document_id for each in february.movements] == ["pay_1"]
    assert (february.opening_balance.units, february.closing_balance.units) == (365, 265)
    january = await statement(business, invoice.customer_id, day(2026, 1, 1), day(2026, 2, 9))
    assert (january.opening_balance.units, january.closing_balance.units) == (0, 365)


async def test_a_statement_comes_in_pages_that_follow_from_one_another(business: Business) -> None:
    """Each movement says what is owed after it, whichever page it is on; the whole is on each."""
    invoice = await billed_for_seats(business)
    for nth in range(1, 5):
        await business.pay(invoice, payment_id=f"pay_{nth}", pence=nth)
    days = day(2026, 1, 1), day(2026, 1, 31)
    whole = await statement(business, invoice.customer_id, *days)
    assert len(whole.movements) == 5
    assert not whole.next_page_token
    pages: list[pb.CustomerStatement] = []
    while not pages or pages[-1].next_page_token:
        token = pages[-1].next_page_token if pages else ""
        pages.append(await statement(business, invoice.customer_id, *days, page_size=2, page_token=token))
    assert [each for page in pages for each in page.movements] == list(whole.movements)
    assert {(page.opening_balance.units, page.closing_balance.nanos) for page in pages} == {(0, 900_000_000)}
    assert whole.movements[-1].balance == whole.closing_balance


async def test_who_is_known_and_owes_nothing_has_an_empty_statement(business: Business) -> None:
    """Unlike somebody of whom nothing is known here."""
    plan = await business.plan(await business.price("Free", **flat("0")))
    customer = await business.customer()
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await statement(business, customer.id, day(2026, 1, 1), day(2026, 12, 31))
    await business.subscribe(customer, plan)
    found = await statement(business, customer.id, day(2026, 1, 1), day(2026, 12, 31))
    assert (list(found.movements), found.closing_balance.units) == ([], 0)
    assert await entries(business) == []


async def test_what_cannot_be_asked_is_refused_by_field(business: Business) -> None:
    """Days that are none or end before they begin, currencies, ids and pages that are none."""
    customer_id = ids.mint("cus", SANDBOX_START)
    of_list: list[tuple[str, dict[str, Any]]] = [  # Any: fields of the request
        ("customer_id", {"customer_id": "cus_"}),
        ("document_id", {"document_id": "x" * 101}),
        ("invoice_id", {"invoice_id": customer_id}),
        ("start_date", {"start_date": date_pb2.Date(year=2026, month=2, day=30)}),
        ("end_date", {"end_date": date_pb2.Date()}),
        ("end_date", {"start_date": day(2026, 2, 1), "end_date": day(2026, 1, 31)}),
        ("page_size", {"page_size": -1}),
        ("page_token", {"page_token": wire.encode_page_token("2026-01-01")}),
        ("page_token", {"page_token": wire.encode_page_token("soon", "jen_1")}),
    ]
    for field, fields in of_list:
        with refused("INVALID_ARGUMENT") as refusal:
            await business.ledger.ListLedgerEntries(pb.ListLedgerEntriesRequest(**fields))
        assert refusal.field == field
    for field, asked in [
        ("as_of_date", pb.GetTrialBalanceRequest(as_of_date=date_pb2.Date(year=2026))),
        ("as_of_date", pb.GetTrialBalanceRequest(as_of_date=day(1969, 12, 31))),
    ]:
        with refused("INVALID_ARGUMENT") as refusal:
            await business.ledger.GetTrialBalance(asked)
        assert refusal.field == field
    with refused("UNKNOWN_CURRENCY"):
        await business.ledger.GetTrialBalance(pb.GetTrialBalanceRequest(currency="XXX"))
    days: dict[str, Any] = {"start_date": day(2026, 1, 1), "end_date": day(2026, 1, 31)}  # Any: as above
    of_statement: list[tuple[str, dict[str, Any]]] = [  # Any: as above
        ("customer_id", {"currency": "GBP", **days}),
        ("start_date", {"customer_id": customer_id, "currency": "GBP", "end_date": day(2026, 1, 31)}),
        ("end_date", {"customer_id": customer_id, "currency": "GBP", "start_date": day(2026, 1, 1)}),
        ("end_date", {"customer_id": customer_id, "currency": "GBP", **days, "end_date": day(2025, 12, 31)}),
        ("page_token", {"customer_id": customer_id, "currency": "GBP", **days, "page_token": "?"}),
    ]
    for field, fields in of_statement:
        with refused("INVALID_ARGUMENT") as refusal:
            await business.ledger.GetCustomerStatement(pb.GetCustomerStatementRequest(**fields))
        assert refusal.field == field
    with refused("UNKNOWN_CURRENCY"):
        await business.ledger.GetCustomerStatement(pb.GetCustomerStatementRequest(customer_id=customer_id, **days))


async def test_another_seller_has_other_books_and_a_viewer_reads_them(business: Business) -> None:
    """Of a stranger's invoices nothing is told, not even a sum."""
    invoice = await billed_for_seats(business)
    seller = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    other: Any = business.suite.stub(LedgerServiceStub, "invoicing", seller=seller)  # Any: grpc stubs are generated
    assert not (await other.ListLedgerEntries(pb.ListLedgerEntriesRequest())).entries
    assert not (await other.GetTrialBalance(pb.GetTrialBalanceRequest())).balances
    request = pb.GetCustomerStatementRequest(
        customer_id=invoice.customer_id, currency="GBP", start_date=day(2026, 1, 1), end_date=day(2026, 12, 31)
    )
    with refused("CUSTOMER_NOT_FOUND"):
        await other.GetCustomerStatement(request)
    viewer: Any = business.suite.stub(LedgerServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    assert (await viewer.GetCustomerStatement(request)).closing_balance.units == 10


# What a release before issued


async def test_what_was_issued_before_there_were_books_is_posted_as_of_its_own_day(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been posted then: invoices and payments, a batch at a time, and what is posted already not again."""
    monkeypatch.setattr(ledger, "INVOICES_PER_BATCH", 2)
    await a_year_and_a_payment(business)
    for _ in range(3):
        await business.pay(await billed_for_seats(business), payment_id=ids.mint("pay", SANDBOX_START))
    whole = [(told(entry), entry.document_id) for entry in await entries(business)]
    last = (await business.invoices())[-1]
    await forge(business, f"DELETE FROM ledger_entries WHERE invoice_id <> '{last.id}' OR event = 'PAID'")
    assert len(await entries(business)) == 2
    async with business.suite.own_rows("invoicing") as connection:
        await connection.execute(
            "INSERT INTO ledger_backfills (seller_id, next_time, after_id) VALUES ($1, $2, '')",
            business.suite.seller,
            await business.now() + HOUR,
        )
    await business.suite.travel(await business.now() + 2 * HOUR)
    assert sorted(map(str, [(told(entry), entry.document_id) for entry in await entries(business)])) == sorted(
        map(str, whole)
    )
    async with business.suite.own_rows("invoicing") as connection:
        assert await connection.fetch("SELECT * FROM ledger_backfills") == []
    assert not await dead_letters(business.suite)


# What the table refuses

ENTRY = {
    "id": "'jen_1'", "customer_id": "'cus_1'", "document_kind": "'INVOICE'", "document_id": "'inv_1'",
    "event": "'ISSUED'", "ordinal": "1", "invoice_id": "'inv_1'", "currency": "'GBP'",
    "effective_date": "'2026-01-01'", "accounts": "'{RECEIVABLE,REVENUE}'", "amounts": "'{100,-100}'",
    "create_time": "now()",
}  # fmt: skip


UNBALANCED: dict[str, tuple[dict[str, str], str]] = {
    "too little": ({"amounts": "'{100,-99}'"}, "balanced"),
    "a third of nothing": ({"amounts": "'{100,-100,0}'", "accounts": "'{RECEIVABLE,REVENUE,CASH}'"}, "postings"),
    "nothing": ({"amounts": "'{0,0}'"}, "postings"),
    "an unknown amount": ({"amounts": "'{100,NULL}'"}, "postings"),
    "an account missing": ({"amounts": "'{100,-100}'", "accounts": "'{RECEIVABLE}'"}, "postings"),
    "one posting": ({"amounts": "'{0}'", "accounts": "'{RECEIVABLE}'"}, "postings"),
    "no postings": ({"amounts": "'{}'", "accounts": "'{}'"}, "postings"),
    "two dimensions": ({"amounts": "'{{100,1}}'"}, "postings"),
    "another lower bound": ({"amounts": "'[0:1]={100,-100}'"}, "postings"),
    "too many": (
        {"amounts": "'{1,1,1,1,1,1,1,1,1,1,-10,5}'", "accounts": f"'{{{','.join(['CASH'] * 12)}}}'"},
        "postings",
    ),
    "an unknown account": ({"accounts": "'{RECEIVABLE,PETTY_CASH}'"}, "accounts"),
    "no account": ({"accounts": "'{RECEIVABLE,NULL}'"}, "accounts"),
    "no currency": ({"currency": "'pound'"}, "currency"),
    "no ordinal": ({"ordinal": "0"}, "ordinal"),
}


async def test_the_database_refuses_what_does_not_balance(suite: Suite) -> None:
    """Whatever code runs."""
    await suite.start("invoicing")
    async with suite.own_rows("invoicing") as connection:
        for changed, constraint in UNBALANCED.values():
            entry = ENTRY | changed
            insert = f"INSERT INTO ledger_entries (seller_id, {', '.join(entry)}) VALUES ('{suite.seller}', {{}})"
            with pytest.raises(asyncpg.CheckViolationError, match=f"ledger_entries_{constraint}"):
                await connection.execute(insert.format(", ".join(entry.values())))
            # So it was for no other reason: the one that was not changed is taken.
            await connection.execute("BEGIN")
            await connection.execute(insert.format(", ".join(ENTRY.values())))
            await connection.execute("ROLLBACK")


async def test_the_database_refuses_a_second_posting_and_a_change(business: Business) -> None:
    """Also to the service itself: what is wrong is put right by another document."""
    await billed_for_seats(business)
    async with business.suite.own_rows("invoicing") as connection:
        with pytest.raises(asyncpg.UniqueViolationError, match="ledger_entries_posted_once"):
            await connection.execute(
                "INSERT INTO ledger_entries SELECT again.* FROM ledger_entries e,"
                """ jsonb_populate_record(e, '{"id": "jen_again"}') AS again WHERE e.event = 'ISSUED'"""
            )
        await each_refused(
            connection,
            "UPDATE ledger_entries SET effective_date = effective_date + 1",
            "DELETE FROM ledger_entries",
            because="what was posted stays posted",
        )


async def test_payments_at_once_are_posted_one_by_one(business: Business) -> None:
    """Nothing is lost when many come in at the same moment."""
    invoice = await billed_for_seats(business)
    await asyncio.gather(*(business.pay(invoice, payment_id=f"pay_{nth}", pence=1_00) for nth in range(10)))
    paid = [entry for entry in await entries(business) if entry.event == LedgerEntry.PAID]
    assert len(paid) == 10
    assert (await balances(business, day(2026, 1, 1)))["CASH"] == 10_00
