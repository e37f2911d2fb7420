"""A card that is refused: dunning gets the money in, or the service stops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign, DunningStep
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.payments.v1.payment_pb2 import Payment, PaymentAttempt
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tests.support.sandbox import Sandbox, flat, text

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_declined_card_is_tried_again_and_pays(sandbox: Sandbox) -> None:
    """Most declines are about the moment: three days later the same card works, and all is as if it always had."""
    await sandbox.policy(3, 5, final_action=DunningPolicy.CANCEL_SUBSCRIPTION)
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    bob = await sandbox.customer("bob", token="sim:decline,ok")
    await sandbox.subscribe(bob, plan)
    await sandbox.travel(JANUARY + timedelta(days=2))
    (overdue,) = await sandbox.subscriptions(bob)
    assert overdue.state == Subscription.PAST_DUE
    await sandbox.travel(JANUARY + timedelta(days=10))

    (invoice,) = await sandbox.invoices(bob)
    assert (invoice.state, text(invoice.amount_paid)) == (Invoice.PAID, "20.00 EUR")
    (payment,) = await sandbox.payments(bob)
    assert [attempt.state for attempt in payment.attempts] == [PaymentAttempt.FAILED, PaymentAttempt.SUCCEEDED]
    (campaign,) = await sandbox.campaigns(bob)
    assert campaign.state == DunningCampaign.RECOVERED
    assert [step.action for step in campaign.steps] == [DunningStep.RETRY_PAYMENT]
    (subscription,) = await sandbox.subscriptions(bob)
    assert subscription.state == Subscription.ACTIVE


async def test_who_never_pays_is_cancelled_and_billed_no_more(sandbox: Sandbox) -> None:
    """After the last retry and a last wait service ends: nobody is served for nothing, nobody is billed for none."""
    await sandbox.policy(1, 3, final_action=DunningPolicy.CANCEL_SUBSCRIPTION, final_wait_days=2)
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    eve = await sandbox.customer("eve", token="sim:decline")
    await sandbox.subscribe(eve, plan)
    await sandbox.travel(datetime(2026, 4, 1, tzinfo=UTC))

    (subscription,) = await sandbox.subscriptions(eve)
    assert subscription.state == Subscription.CANCELLED
    (invoice,) = await sandbox.invoices(eve)
    assert (invoice.state, text(invoice.amount_remaining)) == (Invoice.OPEN, "20.00 EUR")
    (payment,) = await sandbox.payments(eve)
    assert (payment.state, len(payment.attempts)) == (Payment.FAILED, 3)
    (campaign,) = await sandbox.campaigns(eve)
    assert campaign.state == DunningCampaign.EXHAUSTED
    began = campaign.start_time.ToDatetime(UTC)
    assert subscription.end_time.ToDatetime(UTC) == began + timedelta(days=1 + 3 + 2)
    actions = [step.action for step in campaign.steps]
    assert actions == [DunningStep.RETRY_PAYMENT, DunningStep.RETRY_PAYMENT, DunningStep.GIVE_UP]


async def test_a_card_reported_stolen_is_not_tried_again(sandbox: Sandbox) -> None:
    """A hard decline says that this card never pays; trying it again only looks like fraud. A new one does."""
    await sandbox.policy(2, 2, 2, final_action=DunningPolicy.PAUSE_SUBSCRIPTION)
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    kim = await sandbox.customer("kim", token="sim:decline=stolen_card")
    await sandbox.subscribe(kim, plan)
    await sandbox.travel(JANUARY + timedelta(days=3))
    (payment,) = await sandbox.payments(kim)
    assert (len(payment.attempts), payment.retryable) == (1, False)

    await sandbox.card(kim, "sim:ok")
    await sandbox.travel(JANUARY + timedelta(days=5))
    (invoice,) = await sandbox.invoices(kim)
    assert invoice.state == Invoice.PAID
    (campaign,) = await sandbox.campaigns(kim)
    assert campaign.state == DunningCampaign.RECOVERED
    actions = [step.action for step in campaign.steps]
    assert actions == [DunningStep.SKIP_RETRY, DunningStep.NEW_PAYMENT_METHOD, DunningStep.RETRY_PAYMENT]
