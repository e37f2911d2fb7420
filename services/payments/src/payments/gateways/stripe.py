"""Stripe, through its own SDK: one PaymentIntent per attempt, created and confirmed in one call under the attempt's id.

Stripe remembers an idempotency key for 24 hours. After that, and whenever an answer was lost, an attempt is found by
the id in the metadata of its PaymentIntent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import stripe

from common.errors import InvalidArgument
from common.money import Money, minor_units
from payments.domain import decline
from payments.gateways import Captured, CaptureOrder, Declined, GatewayUnavailable, GatewayUnknown, Outcome

if TYPE_CHECKING:
    from stripe.params import PaymentIntentCreateParams, PaymentIntentListParams

ATTEMPT: Final = "saldo_attempt"
PAGE_SIZE: Final = 100
PAGES_MAX: Final = 10
CLOCK_SKEW: Final = timedelta(minutes=5)
AMOUNT_NOT_CHARGEABLE: Final = "amount_not_chargeable"
AUTHENTICATION_REQUIRED: Final = "authentication_required"

# What Stripe does not count in hundredths; ISK and UGX it does, though they have none.
WHOLE_UNITS: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)
THREE_DECIMALS_STEP: Final = 10
_POWERS: Final = (1, 10, 100, 1_000, 10_000)


class AmountNotChargeable(Exception):
    """Stripe cannot express this amount of this currency, and money is not rounded to please a gateway."""


class StripeGateway:
    name: Final = "stripe"
    processing_max: Final = timedelta(minutes=10)
    # An hour less than Stripe promises: a call made at the last moment must still find its key.
    key_lifetime: Final = timedelta(hours=23)
    simulated: Final = False

    def __init__(self, api_key: str, *, api_base: str = "", timeout_seconds: float) -> None:
        """`api_base` is for another address than Stripe's own."""
        self.moves_real_money = not api_key.startswith(("sk_test_", "rk_test_"))
        self._http = stripe.HTTPXClient(timeout=timeout_seconds)
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base} if api_base else {},
            http_client=self._http,
            # Trying again is for the job that settles attempts, which knows what it has tried.
            max_network_retries=0,
        )

    def check_token(self, token: str) -> None:
        if not _PAYMENT_METHOD.fullmatch(token):
            raise InvalidArgument("must be the id of a PaymentMethod at Stripe, which begins with pm_", field="token")

    async def capture(self, order: CaptureOrder) -> Outcome:
        try:
            amount = stripe_amount(order.amount)
        except AmountNotChargeable:
            return Declined(code=AMOUNT_NOT_CHARGEABLE, retryable=False)
        try:
            with _errors():
                intent = await self._create(order, amount)
        except stripe.CardError as error:
            return _declined(getattr(error.error, "decline_code", None) or error.code)
        except stripe.InvalidRequestError as error:
            # Nothing was charged, and the same request will be as wrong the next time.
            return Declined(code=error.code or "invalid_request", retryable=False)
        outcome = await self._outcome(intent)
        if outcome is None:
            raise GatewayUnknown("the payment intent was not confirmed")
        return outcome

    async def find(self, order: CaptureOrder) -> Outcome | None:
        try:
            with _errors():
                intent = await self._intent(order)
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            raise GatewayUnknown("the payment intents could not be listed") from error
        return None if intent is None else await self._outcome(intent)

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call] # the SDK leaves it so

    async def _create(self, order: CaptureOrder, amount: int) -> stripe.PaymentIntent:
        intent: PaymentIntentCreateParams = {
            "amount": amount,
            "currency": order.amount.currency.lower(),
            "payment_method": order.token,
            "confirm": True,
            "off_session": True,
            "metadata": {ATTEMPT: order.attempt_id, "saldo_invoice": order.invoice_id},
        }
        if customer := await self._customer(order.token):
            intent["customer"] = customer
        return await self._client.v1.payment_intents.create_async(intent, {"idempotency_key": order.attempt_id})

    async def _customer(self, payment_method: str) -> str | None:
        """Whose the payment method is at Stripe, which must be said when it is used again."""
        customer = (await self._client.v1.payment_methods.retrieve_async(payment_method)).customer
        return customer.id if isinstance(customer, stripe.Customer) else customer

    async def _intent(self, order: CaptureOrder) -> stripe.PaymentIntent | None:
        since = int((order.record_time - CLOCK_SKEW).timestamp())
        query: PaymentIntentListParams = {"limit": PAGE_SIZE, "created": {"gte": since}}
        with suppress(stripe.InvalidRequestError):  # a payment method that is not there has no customer either
            if customer := await self._customer(order.token):
                query["customer"] = customer
        for _ in range(PAGES_MAX):
            page = await self._client.v1.payment_intents.list_async(query)
            for intent in page.data:
                if intent.metadata.to_dict().get(ATTEMPT) == order.attempt_id:
                    return intent
            if not page.has_more:
                return None
            query["starting_after"] = page.data[-1].id
        # Having looked at much is not having looked at all.
        raise GatewayUnknown(f"not among the newest {PAGES_MAX * PAGE_SIZE} payment intents")

    async def _outcome(self, intent: stripe.PaymentIntent) -> Outcome | None:
        match intent.status:
            case "succeeded":
                return Captured(intent.id)
            case "requires_payment_method":
                error = getattr(intent, "last_payment_error", None)
                if error is None:
                    return None  # it has not been tried yet, which is not a refusal
                return _declined(getattr(error, "decline_code", None) or getattr(error, "code", None))
            case "requires_action":
                return await self._cancel(intent)
            case "canceled":
                return Declined(code=AUTHENTICATION_REQUIRED, retryable=False)
            case "requires_confirmation":
                return None
            case status:
                raise GatewayUnknown(f"the payment intent is {status}")

    async def _cancel(self, intent: stripe.PaymentIntent) -> Outcome:
        """The customer would have to be there. Left open, it could be paid later, beside another attempt."""
        try:
            with _errors():
                await self._client.v1.payment_intents.cancel_async(intent.id)
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            raise GatewayUnknown("the payment intent could not be cancelled") from error
        return Declined(code=AUTHENTICATION_REQUIRED, retryable=False)


def stripe_amount(amount: Money) -> int:
    """The amount as Stripe counts it: hundredths, but whole units or thousandths of some currencies."""
    places = minor_units(amount.currency)
    scale = 0 if amount.currency in WHOLE_UNITS else max(places, 2)
    if scale > 3:
        raise AmountNotChargeable(f"{amount.currency} has {scale} decimals")
    whole, rest = divmod(amount.minor * _POWERS[scale], _POWERS[places])
    if rest or (scale == 3 and whole % THREE_DECIMALS_STEP):
        raise AmountNotChargeable(f"{amount} is too fine for Stripe")
    return whole


def _declined(code: str | None) -> Declined:
    return Declined(code=code or "card_declined", retryable=decline.retryable(code or "card_declined"))


@contextmanager
def _errors() -> Iterator[None]:
    """What the SDK raises, in the words of payments; refusals pass."""
    try:
        yield
    except (stripe.CardError, stripe.InvalidRequestError):
        raise
    except (stripe.RateLimitError, stripe.AuthenticationError, stripe.PermissionError) as error:
        raise GatewayUnavailable(f"Stripe refused to look at it: {type(error).__name__}") from error
    except stripe.StripeError as error:
        # No connection, no answer in time, a conflict, or an error on their side: anything may have happened.
        raise GatewayUnknown(f"no answer from Stripe: {type(error).__name__}") from error


_PAYMENT_METHOD: Final = re.compile(r"(?:pm|src|card)_[A-Za-z0-9_]{1,250}")
