"""Who leaves what was billed in advance in the world of the checker, after credit notes gave back a part of it."""

from __future__ import annotations

from google.type.money_pb2 import Money

from common.travel import quiet
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.invoicing.v1 import credit_note_pb2, invoicing_service_pb2
from saldo.invoicing.v1 import credit_notes_service_pb2 as notes
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionChange
from tools.client import Client


async def leave_what_was_credited(client: Client) -> None:
    """A part by another note, and then for the same once more: there is a bill that the rest can be taken off."""
    listed = await client.subscriptions.ListCustomers(pb.ListCustomersRequest(page_size=1000))
    (customer_id,) = [each.id for each in listed.customers if each.external_id == "less"]
    (left,) = (
        await client.subscriptions.ListSubscriptions(pb.ListSubscriptionsRequest(customer_id=customer_id))
    ).subscriptions
    request = invoicing_service_pb2.ListInvoicesRequest(customer_id=customer_id)
    (invoice,) = (await client.invoicing.ListInvoices(request)).invoices
    part = notes.LineItemToCredit(
        line_item_id=invoice.line_items[0].id, amount=Money(currency_code=invoice.total.currency_code, units=9)
    )
    await client.credit_notes.CreateCreditNote(
        notes.CreateCreditNoteRequest(
            invoice_id=invoice.id, line_items=[part], reason=credit_note_pb2.CreditNote.ORDER_CHANGE
        )
    )
    await client.subscriptions.CancelSubscription(
        pb.CancelSubscriptionRequest(
            id=left.id, timing=pb.CancelSubscriptionRequest.NOW, unused=SubscriptionChange.CREDIT
        )
    )
    plans = (await client.catalog.ListPlans(catalog.ListPlansRequest(page_size=100))).plans
    (plan_id,) = [each.id for each in plans if each.code == "studio"]
    await client.subscriptions.CreateSubscription(
        pb.CreateSubscriptionRequest(customer_id=customer_id, plan_id=plan_id)
    )
    await quiet(client.operations)
