"""How a contract begins: with the first payment or not at all, and after a trial, whoever can pay or cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import BillablePeriod, Subscription
from tests.support.changes import Billed, all_billed
from tests.support.sandbox import Sandbox, flat, text


def day(month: int, of_month: int) -> datetime:
    return datetime(2026, month, of_month, tzinfo=UTC)


async def _agree(sandbox: Sandbox, customer: Customer, **more: Any) -> Subscription:  # Any: fields of the request
    """To 30 a month."""
    plan = await sandbox.plan("suite", flat("fee", "30"))
    return await sandbox.client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan.id, **more)
    )


async def test_a_first_payment_in_time(sandbox: Sandbox) -> None:
    """Not served before it is paid for, and billed from its start all the same: the month is the month of the start."""
    await sandbox.travel(day(6, 10))
    ada = await sandbox.customer("ada", token="sim:ok")
    agreed = await _agree(sandbox, ada, activation=Subscription.ON_FIRST_PAYMENT, activation_hours=72)
    assert agreed.state == Subscription.PENDING
    await sandbox.travel(day(6, 12))

    (active,) = await sandbox.subscriptions(ada)
    assert active.state == Subscription.ACTIVE
    await sandbox.travel(day(7, 12))
    (still,) = await sandbox.subscriptions(ada)
    assert still.state == Subscription.ACTIVE
    invoices = await sandbox.invoices(ada)
    assert [invoice.state for invoice in invoices] == [Invoice.PAID] * 2
    assert all_billed(invoices) == [
        Billed("2026-06-10", "2026-07-10", "1", "1/1", "30.00 EUR"),
        Billed("2026-07-10", "2026-08-10", "1", "1/1", "30.00 EUR"),
    ]


async def test_what_is_free_begins_without_a_document(sandbox: Sandbox) -> None:
    """Nothing is to be paid, so it is paid; nobody collects or reminds, and the numbers are those of who pays."""
    await sandbox.client.invoicing.SetIssuingPolicy(
        invoicing.SetIssuingPolicyRequest(
            policy=invoicing.IssuingPolicy(zero_invoices=invoicing.IssuingPolicy.WITHOUT_NUMBER)
        )
    )
    await sandbox.travel(day(6, 10))
    free, paying = await sandbox.customer("free", token="sim:decline"), await sandbox.customer("paying", token="sim:ok")
    nothing = await sandbox.plan("free", flat("nothing", "0"))
    await sandbox.client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=free.id,
            plan_id=nothing.id,
            activation=Subscription.ON_FIRST_PAYMENT,
            activation_hours=72,
        )
    )
    await _agree(sandbox, paying)
    await sandbox.travel(day(8, 1))
    (active,) = await sandbox.subscriptions(free)
    assert active.state == Subscription.ACTIVE
    assert [(each.state, each.number) for each in await sandbox.invoices(free)] == [(Invoice.PAID, "")] * 2
    numbers = [each.number for each in await sandbox.invoices(paying)]
    assert len(numbers) == 2
    assert all(number.endswith(f"-{n:06d}") for n, number in enumerate(sorted(numbers), start=1))
    assert await sandbox.payments(free) == []
    assert await sandbox.campaigns(free) == []


async def test_a_first_payment_that_does_not_come_in_time(sandbox: Sandbox) -> None:
    """The card is refused until the third day is over: what was billed is credited, and nothing is billed any more."""
    await sandbox.travel(day(6, 10))
    eve = await sandbox.customer("eve", token="sim:decline")
    await _agree(sandbox, eve, activation=Subscription.ON_FIRST_PAYMENT, activation_hours=72)
    await sandbox.travel(day(6, 12))
    (waiting,) = await sandbox.subscriptions(eve)
    assert waiting.state == Subscription.PENDING
    await sandbox.travel(day(8, 1))

    (ended,) = await sandbox.subscriptions(eve)
    assert (ended.state, ended.end_reason) == (Subscription.CANCELLED, Subscription.NOT_ACTIVATED)
    assert (ended.end_time.ToDatetime(UTC), ended.update_time.ToDatetime(UTC)) == (day(6, 10), day(6, 13))
    schedule = await sandbox.client.subscriptions.ListBillablePeriods(
        subscriptions.ListBillablePeriodsRequest(customer_ids=[eve.id], through_time=ended.update_time)
    )
    periods = schedule.schedules[0].periods
    assert [each.kind for each in periods] == [BillablePeriod.OWED, BillablePeriod.CREDIT]
    assert periods[0].period == periods[1].period == periods[1].full_period
    # What is owed back waits for an invoice that it can be taken off; what is open stays open.
    (invoice,) = await sandbox.invoices(eve)
    assert (invoice.state, text(invoice.total)) == (Invoice.OPEN, "30.00 EUR")


@pytest.mark.parametrize("with_card", [True, False], ids=["with a card", "without a card"])
async def test_a_trial_that_is_followed_by_billing_in_any_case(sandbox: Sandbox, with_card: bool) -> None:
    """CONTINUE: service goes on, and who has no card has an invoice to pay."""
    await sandbox.travel(day(6, 1))
    ada = await sandbox.customer("ada", token="sim:ok" if with_card else "")
    await _agree(sandbox, ada, trial_days=10, trial_end=Subscription.CONTINUE)
    await sandbox.travel(day(6, 12))

    (after,) = await sandbox.subscriptions(ada)
    (invoice,) = await sandbox.invoices(ada)
    assert all_billed([invoice]) == [Billed("2026-06-11", "2026-07-11", "1", "1/1", "30.00 EUR")]
    assert invoice.state == (Invoice.PAID if with_card else Invoice.OPEN)
    assert after.state == (Subscription.ACTIVE if with_card else Subscription.PAST_DUE)


async def test_a_trial_that_is_paused_until_there_is_a_card(sandbox: Sandbox) -> None:
    """PAUSE: nothing is served or billed from 11 June; the card comes on the 21st, and with it the first bill.

    The periods are those of the 11th: 20 of the 30 days up to 11 July are left.
    """
    await sandbox.travel(day(6, 1))
    ada = await sandbox.customer("ada")
    agreed = await _agree(sandbox, ada, trial_days=10, trial_end=Subscription.PAUSE)
    await sandbox.travel(day(6, 20))
    (paused,) = await sandbox.subscriptions(ada)
    assert paused.state == Subscription.PAUSED
    assert await sandbox.invoices(ada) == []
    await sandbox.travel(day(6, 21))
    await sandbox.card(ada, "sim:ok")
    await sandbox.client.subscriptions.ResumeSubscription(subscriptions.ResumeSubscriptionRequest(id=agreed.id))
    await sandbox.travel(day(7, 12))

    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-21", "2026-07-11", "1", "2/3", "20.00 EUR"),
        Billed("2026-07-11", "2026-08-11", "1", "1/1", "30.00 EUR"),
    ]


@pytest.mark.parametrize("trial_end", [Subscription.PAUSE, Subscription.CANCEL])
async def test_a_trial_in_doubt_goes_on_with_a_card(
    sandbox: Sandbox, trial_end: Subscription.TrialEnd.ValueType
) -> None:
    """The card may come on the last day of the trial: from its end on it is billed as if there had been no doubt."""
    await sandbox.travel(day(6, 1))
    ada = await sandbox.customer("ada")
    await _agree(sandbox, ada, trial_days=10, trial_end=trial_end)
    await sandbox.travel(day(6, 10))
    await sandbox.card(ada, "sim:ok")
    await sandbox.travel(day(7, 12))

    (after,) = await sandbox.subscriptions(ada)
    assert after.state == Subscription.ACTIVE
    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-11", "2026-07-11", "1", "1/1", "30.00 EUR"),
        Billed("2026-07-11", "2026-08-11", "1", "1/1", "30.00 EUR"),
    ]


async def test_a_trial_that_ends_the_contract(sandbox: Sandbox) -> None:
    """CANCEL: who never gave a card never owes anything."""
    await sandbox.travel(day(6, 1))
    ada = await sandbox.customer("ada")
    await _agree(sandbox, ada, trial_days=10, trial_end=Subscription.CANCEL)
    await sandbox.travel(day(8, 1))

    (after,) = await sandbox.subscriptions(ada)
    assert (after.state, after.end_reason) == (Subscription.CANCELLED, Subscription.NO_PAYMENT_METHOD)
    assert after.end_time.ToDatetime(UTC) == day(6, 11)
    assert await sandbox.invoices(ada) == []
