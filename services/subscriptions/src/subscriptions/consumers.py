"""Knows what subscriptions hears: which invoices are followed up or paid, and who can pay."""

from __future__ import annotations

from common.consumer import Handlers
from common.db import Tx
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import events_pb2 as dunning
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.payments.v1 import events_pb2 as payments
from subscriptions import store
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.terms import SubscriptionId
from subscriptions.usecases import advance, subscriptions

CampaignEvent = (
    dunning.DunningCampaignStarted
    | dunning.DunningCampaignRecovered
    | dunning.DunningCampaignExhausted
    | dunning.DunningCampaignCancelled
)


async def on_dunning_campaign(tx: Tx, event: CampaignEvent) -> None:
    """Whichever event it is: the campaign in it says how things stand."""
    campaign = event.dunning_campaign
    # In one order for everybody, so that two campaigns never wait for each other's subscriptions.
    for subscription_id in sorted(campaign.subscription_ids):
        await advance.follow_dunning(
            tx,
            SubscriptionId(subscription_id),
            campaign_id=campaign.id,
            revision=campaign.revision,
            is_open=campaign.state == dunning_campaign_pb2.DunningCampaign.ACTIVE,
        )


async def on_invoice_paid(tx: Tx, event: invoicing.InvoicePaid) -> None:
    """The first payment begins what waited for it."""
    named = {line.subscription_id for line in event.invoice.line_items if line.subscription_id}
    await subscriptions.activate_paid(tx, [SubscriptionId(each) for each in named])


async def on_payment_method_attached(tx: Tx, event: payments.PaymentMethodAttached) -> None:
    await store.record_payment_method(tx, CustomerId(event.payment_method.customer_id))


HANDLERS: Handlers = {
    dunning.DunningCampaignStarted: on_dunning_campaign,
    dunning.DunningCampaignRecovered: on_dunning_campaign,
    dunning.DunningCampaignExhausted: on_dunning_campaign,
    dunning.DunningCampaignCancelled: on_dunning_campaign,
    invoicing.InvoicePaid: on_invoice_paid,
    payments.PaymentMethodAttached: on_payment_method_attached,
}
