"""Campaigns with real payments and subscriptions around; only invoicing is told from here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.caller import Role
from common.testing import SANDBOX_START, Suite, refused
from dunning.domain.campaign import Refusal
from saldo.dunning.v1 import dunning_service_pb2 as pb
from saldo.dunning.v1 import events_pb2
from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign, DunningStep
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.dunning.v1.dunning_service_pb2_grpc import DunningServiceStub
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1 import invoice_pb2
from saldo.payments.v1 import events_pb2 as payment_events
from saldo.payments.v1 import payment_method_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import Subscription

from .conftest import DAY, World, invoice, paid

ACTIVE, PAST_DUE = Subscription.ACTIVE, Subscription.PAST_DUE
PAUSED, CANCELLED = Subscription.PAUSED, Subscription.CANCELLED


async def set_policy(
    dunning: Any, *waits: int, final: int, action: DunningPolicy.FinalAction.ValueType
) -> DunningPolicy:
    policy: DunningPolicy = await dunning.CreateDunningPolicy(
        pb.CreateDunningPolicyRequest(
            display_name="Firm", retry_wait_days=waits, final_wait_days=final, final_action=action
        )
    )
    return policy


def actions(campaign: DunningCampaign) -> list[str]:
    return [DunningStep.Action.Name(step.action) for step in campaign.steps]


def days(campaign: DunningCampaign) -> list[int]:
    """How many days after its start the steps were taken."""
    start = wire.parse_timestamp(campaign.start_time, field="start_time")
    return [(wire.parse_timestamp(step.time, field="time") - start).days for step in campaign.steps]


async def test_who_never_pays_is_cancelled(world: World) -> None:
    """The main job, to its bitter end: every retry on its day, then the subscriptions, then everyone hears of it."""
    policy = await set_policy(world.dunning, 1, 2, final=3, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    begun = await world.overdue(owed)
    assert begun.state == DunningCampaign.ACTIVE
    assert begun.policy == policy
    assert begun.amount == owed.amount_remaining
    assert tuple(begun.subscription_ids) == world.subscription_ids
    await world.suite.travel(SANDBOX_START + 5 * DAY)
    assert await world.subscription_states() == [PAST_DUE, PAST_DUE]
    await world.suite.travel(SANDBOX_START + 10 * DAY)
    ended = await world.campaign(owed)
    assert ended.state == DunningCampaign.EXHAUSTED
    assert actions(ended) == ["RETRY_PAYMENT", "RETRY_PAYMENT", "GIVE_UP"]
    assert days(ended) == [1, 3, 6]
    assert not ended.HasField("next_step_time")
    assert await world.attempts(owed) == 3
    assert await world.subscription_states() == [CANCELLED, CANCELLED]
    announced = world.suite.announced
    assert [each.dunning_campaign for each in announced(events_pb2.DunningCampaignStarted)] == [begun]
    assert [each.dunning_campaign for each in announced(events_pb2.DunningCampaignExhausted)] == [ended]
    assert not announced(events_pb2.DunningCampaignRecovered)


async def test_who_pays_at_a_retry_has_recovered(world: World) -> None:
    """The reason why there are retries: nobody is bothered any further."""
    await set_policy(world.dunning, 1, 2, 3, final=3, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline,decline,ok")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 3 * DAY)
    await world.settle(owed)
    recovered = await world.campaign(owed)
    assert recovered.state == DunningCampaign.RECOVERED
    assert actions(recovered) == ["RETRY_PAYMENT", "RETRY_PAYMENT"]
    await world.suite.travel(SANDBOX_START + 30 * DAY)
    assert await world.campaign(owed) == recovered
    assert await world.attempts(owed) == 3
    assert await world.subscription_states() == [ACTIVE, ACTIVE]
    announced = world.suite.announced(events_pb2.DunningCampaignRecovered)
    assert [each.dunning_campaign for each in announced] == [recovered]


async def test_a_real_invoice_is_recovered(whole_world: World) -> None:
    """With all six services: billed in advance, declined, overdue, declined again, and paid at the second retry."""
    world = whole_world
    await set_policy(world.dunning, 1, 2, final=3, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.suite.travel(SANDBOX_START + 20 * DAY)
    found = await world.dunning.ListDunningCampaigns(pb.ListDunningCampaignsRequest())
    [recovered] = found.dunning_campaigns
    assert (recovered.customer_id, recovered.state) == (world.customer_id, DunningCampaign.RECOVERED)
    assert (actions(recovered), days(recovered)) == (["RETRY_PAYMENT", "RETRY_PAYMENT"], [1, 3])
    assert tuple(recovered.subscription_ids) == world.subscription_ids
    [paid_invoice] = [each.invoice for each in world.suite.announced(invoicing.InvoicePaid)]
    assert paid_invoice.id == recovered.invoice_id
    assert await world.attempts(paid_invoice) == 3
    assert await world.subscription_states() == [ACTIVE]


async def test_without_a_policy_nobody_is_cut_off(world: World) -> None:
    """Retries after 1, 3, 5 and 7 days, and then it is over."""
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 20 * DAY)
    ended = await world.campaign(owed)
    assert (actions(ended), days(ended)) == (["RETRY_PAYMENT"] * 4 + ["GIVE_UP"], [1, 4, 9, 16, 17])
    assert ended.policy.id == ""
    assert await world.subscription_states() == [ACTIVE, ACTIVE]


async def test_a_campaign_keeps_the_policy_it_began_with(world: World) -> None:
    """Whoever was promised three weeks has three weeks; the newest policy holds for the next one."""
    await set_policy(world.dunning, 5, final=5, action=DunningPolicy.NONE)
    first = await world.overdue(invoice(customer_id=world.customer_id))
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.PAUSE_SUBSCRIPTION)
    second = await world.overdue(invoice(customer_id=world.customer_id))
    assert list(first.policy.retry_wait_days) == [5]
    assert list(second.policy.retry_wait_days) == [1]
    assert (await world.campaign(invoice_pb2.Invoice(id=first.invoice_id))).policy == first.policy


async def test_after_a_hard_decline_only_a_new_payment_method_helps(world: World) -> None:
    """Trying a stolen card again costs fees and trust: the turn passes. A new card is tried as soon as it is there."""
    await set_policy(world.dunning, 1, 1, final=5, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline=stolen_card")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 1 * DAY)
    assert await world.attempts(owed) == 1
    await world.pay_with("sim:ok")
    await world.suite.quiet()
    campaign = await world.campaign(owed)
    assert actions(campaign) == ["SKIP_RETRY", "NEW_PAYMENT_METHOD", "RETRY_PAYMENT"]
    assert days(campaign) == [1, 1, 1]
    assert campaign.steps[0].note == Refusal.PAYMENT_NOT_RETRYABLE.value
    assert await world.attempts(owed) == 2


@pytest.mark.parametrize("token", ["sim:decline", "sim:decline=stolen_card"])
async def test_a_new_card_on_the_last_day_is_tried_before_anyone_is_cut_off(world: World, token: str) -> None:
    """All retries have had their turn; whoever heeds the last warning must not lose the service with a good card."""
    await set_policy(world.dunning, 1, final=2, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with(token)
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 2 * DAY)
    await world.pay_with("sim:decline,ok#another")
    await world.suite.quiet()
    await world.suite.travel(SANDBOX_START + 3 * DAY)
    await world.pay_with("sim:ok#third")
    await world.suite.quiet()
    await world.suite.travel(SANDBOX_START + 4 * DAY)
    campaign = await world.campaign(owed)
    assert actions(campaign)[1:] == ["NEW_PAYMENT_METHOD", "RETRY_PAYMENT"] * 2
    assert campaign.state == DunningCampaign.ACTIVE
    await world.settle(owed)
    assert (await world.campaign(owed)).state == DunningCampaign.RECOVERED
    assert await world.subscription_states() == [ACTIVE, ACTIVE]


async def test_a_payment_method_of_somebody_else_changes_nothing(world: World) -> None:
    """Nor does one that was attached before the campaign began: its retries find it there."""
    await set_policy(world.dunning, 5, final=5, action=DunningPolicy.NONE)
    owed = invoice(customer_id=ids.mint("cus", SANDBOX_START))
    begun = await world.overdue(owed)
    await world.pay_with("sim:ok#new")
    await world.suite.quiet()
    assert await world.campaign(owed) == begun
    early = payment_method_pb2.PaymentMethod(
        id=ids.mint("pmeth", SANDBOX_START),
        customer_id=begun.customer_id,
        create_time=wire.timestamp(SANDBOX_START - timedelta(seconds=1)),
    )
    await world.suite.announce(payment_events.PaymentMethodAttached(payment_method=early), source="payments")
    await world.suite.quiet()
    assert await world.campaign(owed) == begun


async def test_who_pays_by_hand_is_not_tried_but_paused(world: World) -> None:
    """Payments knows nothing of such an invoice; the campaign goes on to its end all the same."""
    await set_policy(world.dunning, 1, final=2, action=DunningPolicy.PAUSE_SUBSCRIPTION)
    owed = await world.finalize(collection_method=invoice_pb2.Invoice.SEND_INVOICE)
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 3 * DAY)
    ended = await world.campaign(owed)
    assert actions(ended) == ["SKIP_RETRY", "GIVE_UP"]
    assert [step.note for step in ended.steps] == [Refusal.PAYMENT_NOT_FOUND.value, "2 subscriptions paused"]
    assert await world.subscription_states() == [PAUSED, PAUSED]


@pytest.mark.parametrize("action", [DunningPolicy.PAUSE_SUBSCRIPTION, DunningPolicy.CANCEL_SUBSCRIPTION])
async def test_what_was_stopped_before_counts_as_stopped(
    world: World, action: DunningPolicy.FinalAction.ValueType
) -> None:
    """The customer has left already: the campaign ends as it would have."""
    await set_policy(world.dunning, final=2, action=action)
    owed = await world.finalize(collection_method=invoice_pb2.Invoice.SEND_INVOICE)
    await world.overdue(owed)
    await world.subscriptions.CancelSubscription(
        subscriptions.CancelSubscriptionRequest(
            id=world.subscription_ids[0], timing=subscriptions.CancelSubscriptionRequest.NOW
        )
    )
    await world.suite.travel(SANDBOX_START + 3 * DAY)
    assert (await world.campaign(owed)).state == DunningCampaign.EXHAUSTED
    second = PAUSED if action == DunningPolicy.PAUSE_SUBSCRIPTION else CANCELLED
    assert await world.subscription_states() == [CANCELLED, second]


async def test_an_invoice_has_one_campaign(suite: Suite, dunning: Any) -> None:
    """However often it is said to be overdue, also after the campaign is over."""
    owed = invoice(customer_id=ids.mint("cus", SANDBOX_START))
    for _ in range(2):
        await suite.announce(invoicing.InvoiceOverdue(invoice=owed), source="invoicing")
    await suite.quiet()
    for _ in range(2):
        await suite.announce(invoicing.InvoicePaid(invoice=paid(owed)), source="invoicing")
    await suite.announce(invoicing.InvoiceOverdue(invoice=owed), source="invoicing")
    await suite.quiet()
    [campaign] = (await dunning.ListDunningCampaigns(pb.ListDunningCampaignsRequest())).dunning_campaigns
    assert (campaign.state, campaign.revision) == (DunningCampaign.RECOVERED, 2)
    assert len(suite.announced(events_pb2.DunningCampaignStarted)) == 1
    assert len(suite.announced(events_pb2.DunningCampaignRecovered)) == 1


async def test_campaigns_are_found_by_either_key_and_listed(suite: Suite, dunning: Any) -> None:
    """Support looks for a customer, finance for an invoice."""
    anna, bob = ids.mint("cus", SANDBOX_START), ids.mint("cus", SANDBOX_START)
    owed = [invoice(customer_id=customer) for customer in (anna, bob, anna, anna)]
    for each in owed:
        await suite.announce(invoicing.InvoiceOverdue(invoice=each), source="invoicing")
    await suite.quiet()
    everyone = await dunning.ListDunningCampaigns(pb.ListDunningCampaignsRequest())
    assert [each.invoice_id for each in everyone.dunning_campaigns] == [each.id for each in owed]
    first = everyone.dunning_campaigns[0]
    assert await dunning.GetDunningCampaign(pb.GetDunningCampaignRequest(id=first.id)) == first
    assert await dunning.GetDunningCampaign(pb.GetDunningCampaignRequest(invoice_id=owed[0].id)) == first
    request = pb.ListDunningCampaignsRequest(customer_id=anna, page_size=2)
    page = await dunning.ListDunningCampaigns(request)
    request.page_token = page.next_page_token
    rest = await dunning.ListDunningCampaigns(request)
    found = [each.invoice_id for each in (*page.dunning_campaigns, *rest.dunning_campaigns)]
    assert found == [owed[0].id, owed[2].id, owed[3].id]
    assert not rest.next_page_token


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetDunningCampaignRequest(), "id"),
        (pb.GetDunningCampaignRequest(id=ids.mint("dcam", SANDBOX_START), invoice_id="inv_x"), "id"),
        (pb.GetDunningCampaignRequest(id=ids.mint("inv", SANDBOX_START)), "id"),
        (pb.GetDunningCampaignRequest(invoice_id="'; DROP TABLE campaigns"), "invoice_id"),
    ],
)
async def test_a_campaign_is_named_by_one_key(dunning: Any, request_: pb.GetDunningCampaignRequest, field: str) -> None:
    """Two keys could name two campaigns, and no key names none."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await dunning.GetDunningCampaign(request_)
    assert refusal.field == field


async def test_another_seller_sees_no_campaign(suite: Suite, dunning: Any) -> None:
    """Who owes whom is nobody else's business; a viewer of the seller may look."""
    owed = invoice(customer_id=ids.mint("cus", SANDBOX_START))
    await suite.announce(invoicing.InvoiceOverdue(invoice=owed), source="invoicing")
    await suite.quiet()
    viewer = suite.stub(DunningServiceStub, "dunning", role=Role.VIEWER)
    campaign = await viewer.GetDunningCampaign(pb.GetDunningCampaignRequest(invoice_id=owed.id))
    other = ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START))
    stranger = suite.stub(DunningServiceStub, "dunning", seller=other)
    for request in (
        pb.GetDunningCampaignRequest(invoice_id=owed.id),
        pb.GetDunningCampaignRequest(id=campaign.id),
    ):
        with refused("DUNNING_CAMPAIGN_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await stranger.GetDunningCampaign(request)
    assert not (await stranger.ListDunningCampaigns(pb.ListDunningCampaignsRequest())).dunning_campaigns
    with refused("INVALID_ARGUMENT") as refusal:
        await dunning.ListDunningCampaigns(pb.ListDunningCampaignsRequest(customer_id="anna"))
    assert refusal.field == "customer_id"


@pytest.mark.parametrize("event", [invoicing.InvoiceVoided, invoicing.InvoiceMarkedUncollectible])
async def test_what_is_annulled_or_given_up_is_not_followed_up(world: World, event: Any) -> None:
    """Any: a class of message. The campaign ends without an outcome, and service goes on; none begins afterwards."""
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    assert (await world.overdue(owed)).state == DunningCampaign.ACTIVE
    await world.suite.announce(event(invoice=owed), source="invoicing")
    await world.suite.quiet()
    ended = await world.campaign(owed)
    assert (ended.state, actions(ended)) == (DunningCampaign.CANCELLED, [])
    announced = world.suite.announced(events_pb2.DunningCampaignCancelled)
    assert [each.dunning_campaign for each in announced] == [ended]
    await world.suite.travel(SANDBOX_START + 10 * DAY)
    assert await world.subscription_states() == [ACTIVE, ACTIVE]
    other = await world.finalize()
    await world.suite.announce(event(invoice=other), source="invoicing")
    await world.suite.quiet()
    with refused("DUNNING_CAMPAIGN_NOT_FOUND"):
        await world.overdue(other)
