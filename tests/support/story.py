"""Knows one small story with a little of everything, and the figures it must end with, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.type.decimal_pb2 import Decimal

from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign, DunningStep
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.metering.v1.quota_service_pb2 import CommitQuotaRequest
from saldo.payments.v1.payment_pb2 import PaymentAttempt
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tests.support.sandbox import Sandbox, flat, per_unit, text, usage

JANUARY_15: Final = datetime(2026, 1, 15, tzinfo=UTC)
THE_END: Final = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Figures:
    """How one customer stands at the end."""

    invoices: tuple[str, ...]
    attempts: tuple[str, ...]
    campaigns: tuple[str, ...]
    subscription: str


EXPECTED: Final = {
    "ann": Figures(
        invoices=("2026-01-01 20.00 EUR PAID", "2026-02-01 27.00 EUR PAID", "2026-03-01 20.00 EUR PAID"),
        attempts=("SUCCEEDED", "SUCCEEDED", "SUCCEEDED"),
        campaigns=(),
        subscription="ACTIVE",
    ),
    "bob": Figures(
        invoices=("2026-01-01 20.00 EUR PAID", "2026-02-01 22.50 EUR PAID", "2026-03-01 20.00 EUR PAID"),
        attempts=("FAILED SUCCEEDED", "SUCCEEDED", "SUCCEEDED"),
        campaigns=("RECOVERED",),
        subscription="ACTIVE",
    ),
    "eve": Figures(
        invoices=("2026-01-01 20.00 EUR OPEN", "2026-01-07 0.00 EUR PAID"),
        attempts=("FAILED FAILED FAILED",),
        campaigns=("EXHAUSTED after RETRY_PAYMENT RETRY_PAYMENT GIVE_UP",),
        subscription="CANCELLED",
    ),
}
"""One who pays, one whose card is refused once, one who never pays; 3.5 and 1.25 m³ at 2.00, some of it sent twice, and
one m³ of the first out of a quota.
The last invoice of who never pays says that no water was used until service ended."""


async def _nothing() -> None:
    pass


async def tell(sandbox: Sandbox, *, meanwhile: Callable[[], Awaitable[None]] = _nothing) -> dict[str, Figures]:
    """The story, with `meanwhile` in the middle of it."""
    await sandbox.meter("water")
    plan = await sandbox.plan("basic", flat("fee", "20.00"), per_unit("m3", "2.00", meter="water"))
    await sandbox.policy(1, 3, final_action=DunningPolicy.CANCEL_SUBSCRIPTION)
    ann = await sandbox.customer("ann", token="sim:ok")
    bob = await sandbox.customer("bob", token="sim:decline,ok")
    eve = await sandbox.customer("eve", token="sim:decline")
    for customer in (ann, bob, eve):
        await sandbox.subscribe(customer, plan)
    await sandbox.travel(JANUARY_15)
    await meanwhile()
    await sandbox.quota(ann, "pool", meter="water", granted="10")
    reservation = await sandbox.acquire(ann, "pool", "2")
    await sandbox.client.quotas.CommitQuota(CommitQuotaRequest(id=reservation.id, quantity=Decimal(value="1")))
    readings = [
        usage(ann, "water", JANUARY_15, "2.5", event_id="ann-1"),
        usage(bob, "water", JANUARY_15, "1.25", event_id="bob-1"),
    ]
    answer = await sandbox.use(*readings, *readings)
    assert answer.rejected_count == 0, answer
    await sandbox.use(*readings)
    await sandbox.travel(THE_END)
    return {customer.external_id: await _figures(sandbox, customer) for customer in (ann, bob, eve)}


async def _figures(sandbox: Sandbox, customer: Customer) -> Figures:
    (subscription,) = await sandbox.subscriptions(customer)
    return Figures(
        invoices=tuple(_invoice(invoice) for invoice in await sandbox.invoices(customer)),
        attempts=tuple(
            " ".join(PaymentAttempt.State.Name(attempt.state) for attempt in payment.attempts)
            for payment in await sandbox.payments(customer)
        ),
        campaigns=tuple(_campaign(campaign) for campaign in await sandbox.campaigns(customer)),
        subscription=Subscription.State.Name(subscription.state),
    )


def _invoice(invoice: Invoice) -> str:
    date = invoice.invoice_date
    state = Invoice.State.Name(invoice.state)
    return f"{date.year}-{date.month:02}-{date.day:02} {text(invoice.total)} {state}"


def _campaign(campaign: DunningCampaign) -> str:
    state = DunningCampaign.State.Name(campaign.state)
    if campaign.state == DunningCampaign.RECOVERED:
        return state  # money that comes in before its step is written down leaves none
    return f"{state} after {' '.join(DunningStep.Action.Name(step.action) for step in campaign.steps)}"
