"""Stripe through its own SDK and real HTTP, against localstripe: what is charged, what is refused, what gets lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
import stripe

from common import ids
from common.money import Money
from common.testing import SANDBOX_START, Suite
from payments.domain.payment import AttemptId
from payments.gateways import Captured, Declined, GatewayUnavailable, GatewayUnknown
from payments.gateways import stripe as adapter
from payments.gateways.stripe import ATTEMPT, StripeGateway
from saldo.payments.v1.payment_pb2 import Payment, PaymentAttempt

from .conftest import Collecting
from .localstripe import LocalStripe, answer_with, lose_the_answer
from .test_gateways import order

# The SDK hands httpx its text in a way that httpx would rather see spelt otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

KEY = "sk_test_12345"
NEEDS_AUTHENTICATION = "4000002500003155"


@pytest_asyncio.fixture
async def gateway(localstripe: LocalStripe) -> AsyncIterator[StripeGateway]:
    found = StripeGateway(KEY, api_base=localstripe.url, timeout_seconds=5)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def client(localstripe: LocalStripe) -> AsyncIterator[stripe.StripeClient]:
    """The test's own look at Stripe."""
    line = stripe.HTTPXClient()
    yield stripe.StripeClient(KEY, base_addresses={"api": localstripe.url}, http_client=line)
    await line.close_async()  # type: ignore[no-untyped-call] # the SDK leaves it so


async def intents_of(client: stripe.StripeClient, attempt_id: str) -> list[stripe.PaymentIntent]:
    page = await client.v1.payment_intents.list_async({"limit": 100})
    assert not page.has_more
    return [intent for intent in page.data if intent.metadata.to_dict().get(ATTEMPT) == attempt_id]


async def card(client: stripe.StripeClient, number: str = "4242424242424242") -> stripe.PaymentMethod:
    return await client.v1.payment_methods.create_async(
        {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2035, "cvc": "123"}}
    )


async def test_what_stripe_is_told(
    gateway: StripeGateway, client: stripe.StripeClient, localstripe: LocalStripe
) -> None:
    """The amount as Stripe counts it, our id as key and as metadata."""
    wanted = order("pm_card_visa", amount=Money(500, "ISK"))
    captured = await gateway.capture(wanted)
    [intent] = await intents_of(client, wanted.attempt_id)
    assert captured == Captured(intent.id)
    assert (intent.amount, intent.currency, intent.status) == (50_000, "isk", "succeeded")
    assert intent.metadata.to_dict() == {ATTEMPT: wanted.attempt_id, "saldo_invoice": wanted.invoice_id}
    assert localstripe.keys == [wanted.attempt_id]


async def test_the_card_of_a_customer_is_charged_for_this_customer(
    gateway: StripeGateway, client: stripe.StripeClient
) -> None:
    """Stripe insists when a payment method is used again."""
    customer = await client.v1.customers.create_async({"email": "ada@example.com"})
    method = await card(client)
    await client.v1.payment_methods.attach_async(method.id, {"customer": customer.id})
    wanted = order(method.id)
    captured = await gateway.capture(wanted)
    [intent] = await intents_of(client, wanted.attempt_id)
    assert intent.customer == customer.id
    assert await gateway.find(wanted) == captured


async def test_a_payment_that_needs_its_customer_is_refused_and_closed(
    gateway: StripeGateway, client: stripe.StripeClient
) -> None:
    """Nobody is there to authenticate; left open, it could be paid beside the next attempt."""
    wanted = order((await card(client, NEEDS_AUTHENTICATION)).id)
    declined = Declined(code="authentication_required", retryable=False)
    assert await gateway.capture(wanted) == declined
    [intent] = await intents_of(client, wanted.attempt_id)
    assert intent.status == "canceled"
    assert await gateway.find(wanted) == declined


async def test_what_can_never_be_charged_is_refused_for_good(gateway: StripeGateway, localstripe: LocalStripe) -> None:
    """A payment method that is not there, and an amount that Stripe cannot express: it is not even called."""
    missing = await gateway.capture(order("pm_there_is_none"))
    assert isinstance(missing, Declined)
    assert not missing.retryable
    fine = await gateway.capture(order("pm_card_visa", amount=Money(5124, "KWD")))
    assert fine == Declined(code="amount_not_chargeable", retryable=False)
    assert localstripe.keys == []
    assert await gateway.find(order("pm_there_is_none")) is None


@pytest.mark.parametrize("status", [409, 500, 502, 503])
async def test_an_error_on_their_side_is_unknown(gateway: StripeGateway, localstripe: LocalStripe, status: int) -> None:
    """It may have happened before or after the money moved."""
    localstripe.faults.append(answer_with(status))
    with pytest.raises(GatewayUnknown):
        await gateway.capture(order("pm_card_visa"))


async def test_what_stripe_would_not_look_at_has_not_happened(gateway: StripeGateway, localstripe: LocalStripe) -> None:
    """Too many requests, and a key that is not accepted."""
    localstripe.faults.append(answer_with(429, "rate_limit"))
    with pytest.raises(GatewayUnavailable):
        await gateway.capture(order("pm_card_visa"))
    stranger = StripeGateway("nonsense", api_base=localstripe.url, timeout_seconds=5)
    with pytest.raises(GatewayUnavailable):
        await stranger.capture(order("pm_card_visa"))
    with pytest.raises(GatewayUnavailable):
        await stranger.find(order("pm_card_visa"))
    await stranger.close()


async def test_having_looked_at_much_is_not_having_looked_at_all(
    gateway: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the last page that is read there may be the one: not found is then no answer."""
    made = [order("pm_card_visa") for _ in range(5)]
    for each in made:
        await gateway.capture(each)
    monkeypatch.setattr(adapter, "PAGE_SIZE", 1)
    monkeypatch.setattr(adapter, "PAGES_MAX", 2)
    unheard_of = order("pm_card_visa")
    with pytest.raises(GatewayUnknown):
        await gateway.find(unheard_of)
    monkeypatch.setattr(adapter, "PAGES_MAX", 1_000)
    assert await gateway.find(unheard_of) is None
    assert isinstance(await gateway.find(made[-1]), Captured)


@pytest_asyncio.fixture
async def collecting_by_stripe(suite: Suite, localstripe: LocalStripe) -> Collecting:
    return await Collecting(suite).start(stripe_api_key=KEY, stripe_api_base=localstripe.url)


async def test_an_invoice_is_collected_through_stripe(
    collecting_by_stripe: Collecting, client: stripe.StripeClient
) -> None:
    """The same story as with the simulated gateway: declined, then another card, then the money is in."""
    collecting = collecting_by_stripe
    await collecting.attach("pm_card_chargeCustomerFail", gateway="stripe")
    invoice_id = await collecting.owe()
    failed = await collecting.payment(invoice_id)
    assert (failed.state, failed.failure_code, failed.retryable) == (Payment.FAILED, "card_declined", True)
    await collecting.attach("pm_card_visa", gateway="stripe")
    await collecting.retry(invoice_id)
    payment = await collecting.payment(invoice_id)
    [intent] = await intents_of(client, payment.attempts[1].id)
    assert (payment.state, payment.attempts[1].gateway_reference) == (Payment.SUCCEEDED, intent.id)
    assert (intent.amount_received if hasattr(intent, "amount_received") else intent.amount) == 6416


async def test_a_lost_answer_of_stripe_is_found_again(
    collecting_by_stripe: Collecting, client: stripe.StripeClient, localstripe: LocalStripe
) -> None:
    """The line broke after the charge: unknown, asked five minutes later, adopted, and charged once."""
    collecting = collecting_by_stripe
    await collecting.attach("pm_card_visa", gateway="stripe")
    localstripe.faults.append(lose_the_answer)
    invoice_id = await collecting.owe()
    [attempt] = (await collecting.payment(invoice_id)).attempts
    assert attempt.state == PaymentAttempt.UNKNOWN
    await collecting.suite.travel(SANDBOX_START + timedelta(minutes=5))
    payment = await collecting.payment(invoice_id)
    [intent] = await intents_of(client, attempt.id)
    assert (payment.state, payment.attempts[0].gateway_reference) == (Payment.SUCCEEDED, intent.id)
    assert localstripe.keys == [attempt.id]


async def test_a_busy_stripe_is_called_again_under_the_same_key(
    collecting_by_stripe: Collecting, client: stripe.StripeClient, localstripe: LocalStripe
) -> None:
    """It did not look at the attempt, so there is nothing to find out: the same one is sent again, soon."""
    collecting = collecting_by_stripe
    await collecting.attach("pm_card_visa", gateway="stripe")
    localstripe.faults += [answer_with(429, "rate_limit"), answer_with(429, "rate_limit")]
    invoice_id = await collecting.owe()
    [attempt] = (await collecting.payment(invoice_id)).attempts
    assert attempt.state == PaymentAttempt.PENDING
    await collecting.suite.travel(SANDBOX_START + timedelta(minutes=1))
    assert (await collecting.payment(invoice_id)).state == Payment.PROCESSING
    await collecting.suite.travel(SANDBOX_START + timedelta(minutes=6))
    assert (await collecting.payment(invoice_id)).state == Payment.SUCCEEDED
    assert localstripe.keys == [attempt.id] * 3
    assert len(await intents_of(client, attempt.id)) == 1


async def test_what_was_charged_and_is_lost_with_a_backup_is_not_charged_again(
    suite: Suite, gateway: StripeGateway, client: stripe.StripeClient, localstripe: LocalStripe
) -> None:
    """Of a payment that has to be made again, Stripe is asked first: it forgets keys, and then would charge twice."""
    collecting = await Collecting(suite).start(
        stripe_api_key=KEY, stripe_api_base=localstripe.url, ask_gateway_first=True
    )
    await collecting.attach("pm_card_visa", gateway="stripe")
    invoice = collecting.invoice()
    payment_id = invoice.id.replace("inv_", "pay_")
    attempt_id = AttemptId(ids.derived("att", SANDBOX_START, (suite.seller, payment_id)))
    forgotten = await gateway.capture(replace(order("pm_card_visa"), attempt_id=attempt_id))
    await collecting.owe(invoice)
    payment = await collecting.payment(invoice.id)
    assert (payment.id, payment.state) == (payment_id, Payment.SUCCEEDED)
    assert forgotten == Captured(payment.attempts[0].gateway_reference)
    assert len(await intents_of(client, attempt_id)) == 1
    other = await collecting.owe()
    assert (await collecting.payment(other)).state == Payment.SUCCEEDED


async def test_a_stripe_that_is_not_there_is_unknown(suite: Suite) -> None:
    """Nobody listens: the attempt stays unknown, and no other is made."""
    collecting = await Collecting(suite).start(stripe_api_key=KEY, stripe_api_base="http://127.0.0.1:1")
    await collecting.attach("pm_card_visa", gateway="stripe")
    invoice_id = await collecting.owe()
    await suite.travel(SANDBOX_START + timedelta(days=3))
    payment = await collecting.payment(invoice_id)
    assert payment.state == Payment.PROCESSING
    assert [attempt.state for attempt in payment.attempts] == [PaymentAttempt.UNKNOWN]


async def test_an_intent_that_was_not_tried_yet_is_not_refused(gateway: StripeGateway) -> None:
    """A second attempt beside one that Stripe has yet to confirm could charge twice."""
    fresh = stripe.PaymentIntent.construct_from(
        {"id": "pi_1", "status": "requires_payment_method", "last_payment_error": None}, KEY
    )
    assert await gateway._outcome(fresh) is None  # localstripe is never seen half way
