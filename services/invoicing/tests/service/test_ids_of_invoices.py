"""Ids of invoices that a bill run makes: the same again, should they ever have to be made again."""

from __future__ import annotations

import pytest

from common import ids
from common.caller import current_caller, service_caller
from common.testing import SANDBOX_START, Suite
from invoicing import store
from invoicing.domain.errors import TooManyInvoices
from invoicing.store import DraftKey
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb

from .conftest import Business
from .test_invoices import billed_for_seats, drafted
from .test_voiding import of, reissue


def derived(business: Business, invoice: invoice_pb2.Invoice, *, nth: int = 0) -> str:
    """As anybody can tell it from the contents of an invoice without declared keys."""
    bill_time = invoice.bill_time.ToDatetime(SANDBOX_START.tzinfo)
    parts = (business.suite.seller, invoice.customer_id, "GBP", bill_time.isoformat(), "")
    return ids.derived("inv", bill_time, parts, nth=nth)


async def test_an_id_says_what_is_billed(business: Business) -> None:
    """Whoever has lost the invoice and bills the same again gets the same id."""
    invoice = await billed_for_seats(business)
    assert invoice.id == derived(business, invoice)


async def test_a_draft_keeps_its_id_until_it_is_final(business: Business) -> None:
    """Whatever it is counted to be by then."""
    [draft] = await drafted(business)
    assert draft.id == derived(business, draft)
    final = await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    assert (final.id, final.state) == (draft.id, invoice_pb2.Invoice.OPEN)


async def test_what_is_billed_anew_after_it_was_annulled_has_another_id(business: Business) -> None:
    """Others know the first one as void; each further one is the next, and is listed behind it."""
    invoice = await billed_for_seats(business)
    for _ in range(4):
        await reissue(business, invoice)
        invoice = (await of(business, invoice.customer_id))[-1]
    listed = await business.invoicing.ListInvoices(pb.ListInvoicesRequest(customer_id=invoice.customer_id))
    assert [each.id for each in listed.invoices] == [derived(business, invoice, nth=n) for n in range(5)]
    states = [each.state for each in listed.invoices]
    assert states == [invoice_pb2.Invoice.VOID] * 4 + [invoice_pb2.Invoice.OPEN]


@pytest.mark.own_services
async def test_more_than_can_be_told_apart_are_refused(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound that nobody reaches ends a search that would not end."""
    invoice = await billed_for_seats(business)
    monkeypatch.setattr(ids, "NTH_MAX", 0)
    key = DraftKey(invoice.customer_id, "GBP", invoice.bill_time.ToDatetime(SANDBOX_START.tzinfo), "")
    other = key._replace(customer_id=ids.mint("cus", SANDBOX_START))
    current_caller.set(service_caller("invoicing", suite.seller))
    async with suite.running["invoicing"].desk().transaction() as tx:
        assert list(await store.new_invoice_ids(tx, [other])) == [other]
        with pytest.raises(TooManyInvoices) as refused:
            await store.new_invoice_ids(tx, [key, other])
    assert refused.value.metadata == {"customer": invoice.customer_id}
