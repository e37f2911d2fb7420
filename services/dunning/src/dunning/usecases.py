"""What dunning does, one function each."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from common.crash import crashpoint, register
from common.db import Tx
from common.rpc import Desk
from dunning import clients, store
from dunning.convert import campaign_to_proto
from dunning.domain.campaign import Campaign, CampaignId, OverdueInvoice, State
from dunning.domain.policy import RETRIES_MAX, FinalAction, Policy, PolicyId, Terms, default_policy
from saldo.dunning.v1 import events_pb2 as events

STEPS_AT_ONCE_MAX: Final = RETRIES_MAX + 1

RETRY_ASKED: Final = register(
    "dunning.retry_asked", "payments was asked to try again and nothing is recorded of the answer"
)
GIVEN_UP: Final = register("dunning.given_up", "the final action was carried out and is not recorded")


async def create_policy(tx: Tx, terms: Terms) -> Policy:
    policy = Policy(id=PolicyId(tx.new_id("dpol")), terms=terms, revision=1, create_time=tx.now)
    await store.add_policy(tx, policy)
    return policy


async def start_campaign(tx: Tx, invoice: OverdueInvoice) -> None:
    """Follow an overdue invoice up, once, unless it is known to be settled or void: facts may arrive in any order."""
    if await store.is_over(tx, invoice.invoice_id):
        return
    policy = await store.newest_policy(tx) or default_policy(at=tx.now)
    campaign = Campaign.start(invoice, policy, campaign_id=CampaignId(tx.new_id("dcam")), at=tx.now)
    if await store.add_campaign(tx, campaign):
        await tx.emit(events.DunningCampaignStarted(dunning_campaign=campaign_to_proto(campaign)))


async def take_note_of_paid_invoice(tx: Tx, invoice_id: str) -> None:
    """A campaign that is under way has reached its aim; one that is yet to come must not begin."""
    await store.mark_over(tx, invoice_id)
    campaign = await store.find_campaign_of_invoice(tx, invoice_id, lock=True)
    if campaign is not None and not campaign.is_over:
        await _save(tx, campaign.recover(at=tx.now))


async def take_note_of_called_off_invoice(tx: Tx, invoice_id: str) -> None:
    """The same of one that was annulled or given up, but that is not what the campaign was for."""
    await store.mark_over(tx, invoice_id)
    campaign = await store.find_campaign_of_invoice(tx, invoice_id, lock=True)
    if campaign is not None and not campaign.is_over:
        await _save(tx, campaign.call_off(at=tx.now))


async def try_new_payment_method(tx: Tx, customer_id: str, *, attached: datetime) -> None:
    """A customer whose invoices are being followed up can be collected from anew: do not wait for the next turn.

    A campaign that began later finds the payment method there already.
    """
    for campaign in await store.active_campaigns(tx, customer_id, begun_by=attached):
        await _save(tx, campaign.try_new_payment_method(at=tx.now))


async def take_due_steps(desk: Desk, campaign_id: str) -> None:
    """Take the step that is due; where the policy does not wait in between, the next ones too."""
    for _ in range(STEPS_AT_ONCE_MAX):
        async with desk.transaction() as tx:
            campaign = await store.campaign(tx, CampaignId(campaign_id))
            due = campaign.is_due(tx.now)
        if not due:
            return
        if campaign.wants_retry:
            await _retry(desk, campaign)
        else:
            await _give_up(desk, campaign)


async def _retry(desk: Desk, campaign: Campaign) -> None:
    # The same step asks the same again. One that a new payment method has changed meanwhile is another step.
    step = len(campaign.steps) + 1
    refusal = await clients.retry_payment(desk, campaign.invoice.invoice_id, request_id=f"{campaign.id}:{step}")
    crashpoint(RETRY_ASKED)
    async with desk.transaction() as tx:
        current = await store.campaign(tx, campaign.id, lock=True)
        if current == campaign:
            await _save(tx, campaign.retry(at=tx.now) if refusal is None else campaign.skip_retry(refusal, at=tx.now))
        elif refusal is None:
            # The money was faster than we are: it is announced already, and what brought it in is still told.
            await store.save_campaign(tx, current.with_retry_that_recovered(campaign, at=tx.now))


async def _give_up(desk: Desk, campaign: Campaign) -> None:
    payment = await clients.payment_state(desk, campaign.invoice.invoice_id)
    if not payment.may_bring_money:
        await _carry_out_final_action(desk, campaign)
        crashpoint(GIVEN_UP)
    async with desk.transaction() as tx:
        if await _is_as_it_was(tx, campaign):
            postponed = payment.may_bring_money
            await _save(tx, campaign.postpone(payment, at=tx.now) if postponed else campaign.give_up(at=tx.now))


async def _carry_out_final_action(desk: Desk, campaign: Campaign) -> None:
    """Each subscription under a request_id of its own: doing it again after a crash changes nothing."""
    for subscription_id in campaign.invoice.subscription_ids:
        request_id = f"{campaign.id}:{subscription_id}"
        match campaign.policy.terms.final_action:
            case FinalAction.NONE:
                return
            case FinalAction.PAUSE_SUBSCRIPTION:
                await clients.pause_subscription(desk, subscription_id, request_id=request_id)
            case FinalAction.CANCEL_SUBSCRIPTION:
                await clients.cancel_subscription(desk, subscription_id, request_id=request_id)


async def _is_as_it_was(tx: Tx, campaign: Campaign) -> bool:
    """Locked for this transaction. If it is not, the invoice was settled while others were asked, and that stands."""
    return await store.campaign(tx, campaign.id, lock=True) == campaign


async def _save(tx: Tx, campaign: Campaign) -> None:
    await store.save_campaign(tx, campaign)
    proto = campaign_to_proto(campaign)
    match campaign.state:
        case State.RECOVERED:
            await tx.emit(events.DunningCampaignRecovered(dunning_campaign=proto))
        case State.EXHAUSTED:
            await tx.emit(events.DunningCampaignExhausted(dunning_campaign=proto))
        case State.CANCELLED:
            await tx.emit(events.DunningCampaignCancelled(dunning_campaign=proto))
        case State.ACTIVE:
            pass  # steps are for those who ask
