"""Series of numbers: gapless, of documents that nobody changes unnoticed, each linked to the one before."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from common import ids, wire
from common.ids import SellerId
from common.testing import SANDBOX_START, refused
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2, seller_pb2
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from tests.support.tables import each_refused

from .conftest import Business, civil, per_unit, utc
from .test_invoices import DAY, FEBRUARY, billed_for_seats, drafted

MISSING, UNCHAINED = pb.SeriesFault.MISSING, pb.SeriesFault.UNCHAINED
ALTERED, BROKEN = pb.SeriesFault.ALTERED, pb.SeriesFault.BROKEN


async def issued(business: Business, count: int) -> list[invoice_pb2.Invoice]:
    """So many invoices of one series, in the order of their numbers."""
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    customers = [await business.customer() for _ in range(count)]
    await asyncio.gather(*(business.subscribe(each, plan) for each in customers))
    found = await business.invoices()
    assert len(found) == count
    return sorted(found, key=lambda invoice: invoice.number)


async def series_of(business: Business) -> pb.NumberSeries:
    [found] = (await business.invoicing.ListNumberSeries(pb.ListNumberSeriesRequest())).series
    series: pb.NumberSeries = found
    return series


async def verified(business: Business, *, page_size: int = 0) -> list[pb.VerifySeriesResponse]:
    """All pages."""
    name = (await series_of(business)).name
    pages: list[pb.VerifySeriesResponse] = []
    token = ""
    while not pages or token:
        request = pb.VerifySeriesRequest(series=name, page_size=page_size, page_token=token)
        pages.append(await business.invoicing.VerifySeries(request))
        token = pages[-1].next_page_token
    return pages


async def faults(business: Business) -> list[tuple[int, pb.SeriesFault.Kind.ValueType]]:
    """The ordinals of the numbers with which something is wrong, and what it is."""
    [page] = await verified(business)
    return [(int(fault.number.rpartition("-")[2]), fault.kind) for fault in page.faults]


async def forge(business: Business, *statements: str) -> None:
    """As somebody could who is above all rules of the database; of this seller only."""
    seller = f"seller_id = '{business.suite.seller}'"
    path = urlsplit(business.suite.reading_urls["invoicing"]).path
    url = urlsplit(os.environ["SALDO_POSTGRES_URL"])._replace(path=path).geturl()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            outcome = await connection.execute(f"{statement} {'AND' if ' WHERE ' in statement else 'WHERE'} {seller}")
            assert not outcome.endswith(" 0"), f"nothing was forged by {statement}"
    finally:
        await connection.close()


async def test_a_series_is_verified_page_by_page(business: Business) -> None:
    """Each page ends with the link that the next one begins from, and the last one with that of the series."""
    invoices = await issued(business, 5)
    series = await series_of(business)
    assert (series.count, series.first_number, series.last_number) == (5, invoices[0].number, invoices[-1].number)
    [whole] = await verified(business)
    pages = await verified(business, page_size=2)
    assert [(page.first_number, page.last_number, page.count) for page in pages] == [
        (invoices[0].number, invoices[1].number, 2),
        (invoices[2].number, invoices[3].number, 2),
        (invoices[4].number, invoices[4].number, 1),
    ]
    assert [fault for page in (whole, *pages) for fault in page.faults] == []
    assert whole.link == pages[-1].link == series.link
    assert len({page.link for page in pages}) == 3
    assert len(bytes.fromhex(series.link)) == 32


async def test_what_becomes_of_an_invoice_changes_nothing_that_was_issued(business: Business) -> None:
    """It is paid or overdue; its document says what it said."""
    invoice = await billed_for_seats(business, net_terms_days=3)
    before = await series_of(business)
    await business.suite.travel(FEBRUARY + 10 * DAY)
    found = await business.invoices()
    assert next(each for each in found if each.id == invoice.id).HasField("overdue_time")
    [page] = await verified(business, page_size=1000)
    assert list(page.faults) == []
    [first, *_] = await verified(business, page_size=1)
    assert first.link == before.link


async def test_drafts_that_are_finalized_together_are_linked_one_by_one(business: Business) -> None:
    """Whoever is second waits for the link of the first."""
    drafts = await drafted(business, customers=6)
    await asyncio.gather(
        *(business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id)) for draft in drafts)
    )
    assert (await series_of(business)).count == 6
    assert await faults(business) == []


async def test_numbers_begin_again_with_the_year_where_the_seller_wants_it(business: Business) -> None:
    """Each year is a series of its own, without gaps and verified by itself; what was numbered before stays so."""
    yearly = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.YEAR, count=1)
    plan = await business.plan(await business.price("Seats", **per_unit("10"), billing_interval=yearly))
    await business.subscribe(await business.customer(), plan)
    await business.catalog.UpdateSeller(catalog.UpdateSellerRequest(invoice_numbering=seller_pb2.Seller.YEARLY))
    for _ in range(2):
        await business.subscribe(await business.customer(), plan)
    await business.suite.travel(utc(2027, 1, 2))
    found = [(civil(invoice), invoice.number) for invoice in await business.invoices()]
    assert found[:3] == [
        ("2026-01-01", "NL-000001"),
        ("2026-01-01", "NL-2026-000001"),
        ("2026-01-01", "NL-2026-000002"),
    ]
    assert sorted(found[3:]) == [("2027-01-01", f"NL-2027-{n:06d}") for n in (1, 2, 3)]
    series = (await business.invoicing.ListNumberSeries(pb.ListNumberSeriesRequest())).series
    assert [(each.name, each.count, each.last_number) for each in series] == [
        ("NL", 1, "NL-000001"),
        ("NL-2026", 2, "NL-2026-000002"),
        ("NL-2027", 3, "NL-2027-000003"),
    ]
    for each in series:
        page = await business.invoicing.VerifySeries(pb.VerifySeriesRequest(series=each.name))
        assert (page.count, page.link, list(page.faults)) == (each.count, each.link, [])


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (("UPDATE invoice_lines SET quantity = quantity + 1 WHERE {second}",), [(2, ALTERED)]),
        (("UPDATE invoice_lines SET description = description || ' ' WHERE {second}",), [(2, ALTERED)]),
        (("UPDATE invoices SET due_time = due_time + interval '1 day' WHERE {second_invoice}",), [(2, ALTERED)]),
        (("UPDATE invoices SET customer_party = seller_party WHERE {second_invoice}",), [(2, ALTERED)]),
        (("DELETE FROM invoice_lines WHERE {second}", "DELETE FROM invoices WHERE {second_invoice}"), [(2, MISSING)]),
        (("DELETE FROM issued_documents WHERE ordinal = 2",), [(2, UNCHAINED), (3, BROKEN)]),
        (("UPDATE issued_documents SET content_hash = sha256(link) WHERE ordinal = 2",), [(2, ALTERED)]),
        (("UPDATE issued_documents SET link = sha256(link) WHERE ordinal = 2",), [(2, BROKEN), (3, BROKEN)]),
        (("UPDATE number_series SET last = last + 1",), [(5, MISSING)]),
        (
            (
                "UPDATE invoices SET number = 'GONE-000001' WHERE number LIKE '%-000002'",
                "UPDATE invoices SET number = replace(number, '-000003', '-000002') WHERE number LIKE '%-000003'",
            ),
            [(2, ALTERED), (3, MISSING)],
        ),
    ],
    ids=[
        *("a quantity", "a word", "a term", "a name", "an invoice", "a link that is gone", "a hash", "a link"),
        *("a number without a document", "two numbers exchanged"),
    ],
)
async def test_what_is_forged_is_named(
    business: Business, statements: tuple[str, ...], found: list[tuple[int, pb.SeriesFault.Kind.ValueType]]
) -> None:
    """With its number, and every number that relies on it."""
    invoices = await issued(business, 4)
    second = invoices[1].id
    await forge(
        business,
        *(each.format(second=f"invoice_id = '{second}'", second_invoice=f"id = '{second}'") for each in statements),
    )
    assert await faults(business) == found


async def test_who_forges_the_links_as_well_is_betrayed_by_one_that_was_kept(business: Business) -> None:
    """The last invoice is taken away with all that says there was one: only a link kept elsewhere knows."""
    invoices = await issued(business, 3)
    kept = (await series_of(business)).link
    await forge(
        business,
        f"DELETE FROM invoice_lines WHERE invoice_id = '{invoices[2].id}'",
        f"DELETE FROM invoices WHERE id = '{invoices[2].id}'",
        "DELETE FROM issued_documents WHERE ordinal = 3",
        "UPDATE number_series SET last = 2",
    )
    assert await faults(business) == []
    assert (await series_of(business)).link != kept
    await billed_for_seats(business)
    assert (await series_of(business)).count == 3
    assert (await series_of(business)).link != kept


async def test_what_was_issued_before_documents_were_linked_is_told_apart(business: Business) -> None:
    """As by the release before. Whoever comes after it begins a chain."""
    await issued(business, 2)
    await forge(business, "DELETE FROM issued_documents")
    assert (await series_of(business)).link == ""
    await billed_for_seats(business)
    assert await faults(business) == [(1, UNCHAINED), (2, UNCHAINED)]
    assert (await series_of(business)).link != ""


async def test_the_database_refuses_to_change_what_was_issued(business: Business) -> None:
    """Also to the service itself."""
    await billed_for_seats(business)
    async with business.suite.own_rows("invoicing") as connection:
        await each_refused(
            connection,
            "UPDATE issued_documents SET link = content_hash",
            "DELETE FROM issued_documents",
            "UPDATE invoices SET due_time = due_time + interval '1 day'",
            "UPDATE invoices SET customer_party = seller_party",
            "UPDATE invoices SET total_minor = total_minor + 1",
            "DELETE FROM invoices",
            because="what was issued stays what it is",
        )


async def test_what_cannot_be_verified_is_refused(business: Business) -> None:
    """A name nobody has, numbers that nobody was given, and what is no page."""
    with refused("SERIES_NOT_FOUND"):
        await business.invoicing.VerifySeries(pb.VerifySeriesRequest(series="NOBODY"))
    await billed_for_seats(business)
    name = (await series_of(business)).name
    for beyond in ("1", "9" * 40):
        with refused("SERIES_NOT_FOUND"):
            await business.invoicing.VerifySeries(
                pb.VerifySeriesRequest(series=name, page_token=wire.encode_page_token(beyond))
            )
    wrong = [
        ("series", pb.VerifySeriesRequest()),
        ("series", pb.VerifySeriesRequest(series="x" * 65)),
        ("page_size", pb.VerifySeriesRequest(series=name, page_size=-1)),
        ("page_token", pb.VerifySeriesRequest(series=name, page_token=wire.encode_page_token("-1"))),
        ("page_token", pb.VerifySeriesRequest(series=name, page_token="?")),
    ]
    for field, request in wrong:
        with refused("INVALID_ARGUMENT") as refusal:
            await business.invoicing.VerifySeries(request)
        assert refusal.field == field


async def test_series_are_listed_page_by_page(business: Business) -> None:
    """In order of their names: a seller has another one when its numbers begin otherwise."""
    await issued(business, 1)
    async with business.suite.own_rows("invoicing") as connection:
        for name in ("AAA", "ZZZ"):
            await connection.execute(
                "INSERT INTO number_series (seller_id, prefix, last) VALUES ($1, $2, 7)", business.suite.seller, name
            )
    pages: list[tuple[list[str], bool]] = []
    token = ""
    while not pages or token:
        page = await business.invoicing.ListNumberSeries(pb.ListNumberSeriesRequest(page_size=2, page_token=token))
        token = page.next_page_token
        pages.append(([each.name for each in page.series], bool(token)))
    [own] = {name for names, _ in pages for name in names} - {"AAA", "ZZZ"}
    assert pages == [(["AAA", own], True), (["ZZZ"], False)]


async def test_another_seller_has_other_series(business: Business) -> None:
    """With the same prefix even."""
    await billed_for_seats(business)
    name = (await series_of(business)).name
    seller = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    other: Any = business.suite.stub(InvoicingServiceStub, "invoicing", seller=seller)  # Any: grpc stubs are generated
    assert not (await other.ListNumberSeries(pb.ListNumberSeriesRequest())).series
    with refused("SERIES_NOT_FOUND"):
        await other.VerifySeries(pb.VerifySeriesRequest(series=name))
