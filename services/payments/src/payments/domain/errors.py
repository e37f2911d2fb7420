"""Every rule of payments that a caller can break; the class name is the reason."""

from __future__ import annotations

from common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class UnknownGateway(InvalidArgument):
    """There is no such gateway here; one without credentials counts as not there."""


class CardNumberRefused(InvalidArgument):
    """What came looks like a card number. Only a gateway may hold one; it has not been stored."""


class SimulatedGatewayInLive(FailedPrecondition):
    """The gateway is simulated or has test credentials: a live seller would be told of money that never moved."""


class RealMoneyInSandbox(FailedPrecondition):
    """The gateway would move real money, which a sandbox must never do."""


class PaymentNotFound(NotFound):
    """There is no such payment at this seller, or none for this invoice."""


class PaymentNotFailed(FailedPrecondition):
    """Another try is only for a payment that failed: this one is under way or cancelled, or the money is in."""


class PaymentNotRetryable(FailedPrecondition):
    """The payment method was refused for good, or was tried often enough; a new one has to be attached first."""


class AttemptUnsettled(FailedPrecondition):
    """The outcome of an attempt is not known yet, so there must not be another."""


class AttemptSettled(FailedPrecondition):
    """The outcome of the attempt is known already and does not change."""


class CapturedAfterFailure(FailedPrecondition):
    """The gateway says that it captured for an attempt on record as failed: for people to refund or to book."""


class GatewayNotConfigured(FailedPrecondition):
    """The payment method belongs to a gateway that is no longer configured here."""


class InvoiceNotFound(NotFound):
    """There is no such invoice at this seller."""


class InvoiceNotIssued(FailedPrecondition):
    """Nothing is owed for a draft yet."""


class InvoiceInAnotherCurrency(FailedPrecondition):
    """What came in is in another currency than what is owed; what that is worth is for people to say."""


class PaymentAlreadyRecorded(AlreadyExists):
    """Other money for the same invoice is on record under the reference."""
