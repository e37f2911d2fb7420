"""Knows what subscriptions hears: which invoices are being followed up, and which no longer are."""

from __future__ import annotations

from common.consumer import Handlers
from common.db import Tx
from saldo.dunning.v1 import dunning_campaign_pb2
from saldo.dunning.v1 import events_pb2 as dunning
from subscriptions import usecases
from subscriptions.domain.subscription import SubscriptionId

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
        await usecases.follow_dunning(
            tx,
            SubscriptionId(subscription_id),
            campaign_id=campaign.id,
            revision=campaign.revision,
            is_open=campaign.state == dunning_campaign_pb2.DunningCampaign.ACTIVE,
        )


HANDLERS: Handlers = {
    dunning.DunningCampaignStarted: on_dunning_campaign,
    dunning.DunningCampaignRecovered: on_dunning_campaign,
    dunning.DunningCampaignExhausted: on_dunning_campaign,
    dunning.DunningCampaignCancelled: on_dunning_campaign,
}
