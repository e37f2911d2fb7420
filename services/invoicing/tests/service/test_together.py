"""What has rules of its own meets on one invoice: handwritten, discounted, taxed, covered by credit, and taken back."""

from __future__ import annotations

from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual
from saldo.invoicing.v1.tax_pb2 import TaxScope

from .conftest import Business, decimal, replayed
from .test_credit_notes import Line, credit, found, gbp, minor, settled
from .test_ledger import balances
from .test_manual_invoices import Desk, costing, off, work
from .test_taxes import declared, rule, taxes
from .wallet import WalletOf, pence_of


async def test_a_handwritten_invoice_is_discounted_taxed_covered_and_taken_back(
    suite: Suite, business: Business
) -> None:
    """Two thirds of a cent here and there: in the end nothing is left, of any tax, in any account."""
    await rule(business, await declared(business, "20"))
    await business.catalog.CreateTaxCode(catalog.CreateTaxCodeRequest(code="books", display_name="Books"))
    await rule(business, await declared(business, "7", "Reduced"), scope=TaxScope(tax_code="books"))
    desk = await Desk.open(business)
    await WalletOf(business, desk.customer).give(10_00)
    draft = await desk.create(
        work(unit_price="33.33", quantity="1", discounts=[off("Friends", percent=decimal("10"))]),
        costing(9_99, "Book", tax_code="books"),
    )
    # 33.33 less 3.33 at 20 %, and 9.99 at 7 %, each rounded once; a draft shows it at once.
    assert taxes(draft) == [("Reduced", "S", "7", 9_99, 70), ("VAT", "S", "20", 30_00, 6_00)]
    assert minor(draft.total) == 46_69
    less = await desk.manual.RemoveInvoiceLine(
        manual.RemoveInvoiceLineRequest(invoice_id=draft.id, line_id=draft.line_items[0].id)
    )
    assert (minor(less.total), len(less.taxes)) == (10_69, 1)
    draft = await desk.manual.AddInvoiceLine(
        manual.AddInvoiceLineRequest(
            invoice_id=draft.id,
            line=work(unit_price="33.33", quantity="1", discounts=[off("Friends", percent=decimal("10"))]),
        )
    )
    final = await desk.finalize(draft)
    await suite.quiet()
    assert (final.state, minor(final.total), pence_of(final.credit_applied)) == (invoice_pb2.Invoice.OPEN, 46_69, 10_00)
    assert minor(final.amount_due) == 36_69
    await replayed(business)
    # A third of the work, then all that is left of everything.
    work_line = next(line for line in final.line_items if line.description == "Work")
    first = await credit(business, final, Line(line_item_id=work_line.id, amount=gbp(11_11)))
    assert (minor(first.total), minor(first.tax_total)) == (12_00, 2_00)
    rest = await credit(business, final)
    assert minor(first.total) + minor(rest.total) == 46_69
    assert [minor(tax.amount) for tax in (*first.taxes, *rest.taxes)].count(0) == 0
    assert sum(settled(first)) + sum(settled(rest)) == 46_69
    assert settled(first)[0] + settled(rest)[0] == 36_69
    again = await found(business, final)
    assert (again.state, minor(again.amount_remaining)) == (invoice_pb2.Invoice.PAID, 0)
    left = {name: pence for name, pence in (await balances(business)).items() if pence}
    # What the invoice had taken of the credit is credit again; cash is what the grant brought in.
    assert left == {"CASH": 10_00, "CUSTOMER_CREDIT": -10_00}
    for series in (await business.invoicing.ListNumberSeries(invoicing.ListNumberSeriesRequest())).series:
        page = await business.invoicing.VerifySeries(invoicing.VerifySeriesRequest(series=series.name))
        assert (page.count, list(page.faults)) == (series.count, [])
