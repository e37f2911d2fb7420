"""Knows what has come of the story, as the services tell it: invoices, their documents, what was collected and how."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.type.money_pb2 import Money

from common import wire
from common.money import Money as Amount
from common.money import sum_money
from saldo.dunning.v1 import dunning_campaign_pb2, dunning_service_pb2
from saldo.invoicing.v1 import invoice_pb2, invoicing_service_pb2
from saldo.metering.v1 import metering_service_pb2
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.payments.v1 import payment_pb2, payments_service_pb2
from saldo.subscriptions.v1 import subscription_pb2, subscriptions_service_pb2
from tools.client import Client, pages

PAGE_SIZE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one currency comes to."""

    currency: str
    invoiced: Amount
    paid: Amount
    open: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything that was asked for at the end."""

    customers: Mapping[str, str]
    """External ids, by id."""
    invoices: Sequence[invoice_pb2.Invoice]
    """In order of number; drafts are not in it."""
    payments: Mapping[str, payment_pb2.Payment]
    """By invoice."""
    campaigns: Mapping[str, dunning_campaign_pb2.DunningCampaign]
    """By invoice."""
    subscriptions: Sequence[subscription_pb2.Subscription]

    @property
    def collected(self) -> list[Collected]:
        by_currency: dict[str, list[invoice_pb2.Invoice]] = defaultdict(list)
        for invoice in self.invoices:
            by_currency[invoice.total.currency_code].append(invoice)
        return [
            Collected(
                currency=currency,
                invoiced=_sum((each.total for each in by_currency[currency]), currency),
                paid=_sum((each.amount_paid for each in by_currency[currency]), currency),
                open=_sum((each.amount_remaining for each in by_currency[currency]), currency),
            )
            for currency in sorted(by_currency)
        ]

    @property
    def corrections(self) -> list[tuple[invoice_pb2.Invoice, invoice_pb2.LineItem]]:
        return [(invoice, line) for invoice in self.invoices for line in invoice.line_items if line.correction]


async def ask_for_account(client: Client, *, customers: Mapping[str, str]) -> Account:
    """`customers` are ids by external id."""
    invoices: list[invoice_pb2.Invoice] = []
    wanted = invoicing_service_pb2.ListInvoicesRequest(page_size=PAGE_SIZE)
    async for invoice_page in pages(client.invoicing.ListInvoices, wanted, invoicing_service_pb2.ListInvoicesResponse):
        invoices += [invoice for invoice in invoice_page.invoices if invoice.number]
    payments: list[payment_pb2.Payment] = []
    async for payment_page in pages(
        client.payments.ListPayments,
        payments_service_pb2.ListPaymentsRequest(page_size=PAGE_SIZE),
        payments_service_pb2.ListPaymentsResponse,
    ):
        payments += payment_page.payments
    campaigns: list[dunning_campaign_pb2.DunningCampaign] = []
    async for campaign_page in pages(
        client.dunning.ListDunningCampaigns,
        dunning_service_pb2.ListDunningCampaignsRequest(page_size=PAGE_SIZE),
        dunning_service_pb2.ListDunningCampaignsResponse,
    ):
        campaigns += campaign_page.dunning_campaigns
    subscriptions: list[subscription_pb2.Subscription] = []
    async for subscription_page in pages(
        client.subscriptions.ListSubscriptions,
        subscriptions_service_pb2.ListSubscriptionsRequest(page_size=PAGE_SIZE),
        subscriptions_service_pb2.ListSubscriptionsResponse,
    ):
        subscriptions += subscription_page.subscriptions
    return Account(
        customers={customer_id: name for name, customer_id in customers.items()},
        invoices=sorted(invoices, key=lambda invoice: invoice.number),
        payments={payment.invoice_id: payment for payment in payments},
        campaigns={campaign.invoice_id: campaign for campaign in campaigns},
        subscriptions=subscriptions,
    )


async def ask_for_event(client: Client, account: Account, line: invoice_pb2.LineItem) -> UsageEvent | None:
    """The first of the usage events behind a line."""
    customer_id = next(each.customer_id for each in account.subscriptions if each.id == line.subscription_id)
    query = metering_service_pb2.UsageQuery(
        customer_id=customer_id,
        external_id=account.customers[customer_id],
        meter=line.usage.meter,
        period=line.period,
    )
    answer = await client.metering.ListEvents(metering_service_pb2.ListEventsRequest(query=query, page_size=1))
    return answer.events[0] if answer.events else None


async def write_documents(client: Client, invoices: Iterable[invoice_pb2.Invoice], folder: Path) -> list[Path]:
    """Every invoice as the PDF that its customer gets."""
    written: list[Path] = []
    for invoice in invoices:
        request = invoicing_service_pb2.GetInvoiceDocumentRequest(id=invoice.id)
        document = await client.invoicing.GetInvoiceDocument(request)
        path = folder / Path(document.file_name).name
        _write(path, document.content)
        written.append(path)
    return written


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def amount(message: Money) -> Amount:
    return wire.parse_money(message, field="amount")


def _sum(amounts: Iterable[Money], currency: str) -> Amount:
    return sum_money((amount(each) for each in amounts), currency)
