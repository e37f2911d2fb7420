"""Every rule of subscriptions that a caller can break; the class name is the reason."""

from __future__ import annotations

from common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound


class CustomerNotFound(NotFound):
    """There are no such customers at this seller; the metadata names them."""


class ExternalIdTaken(AlreadyExists):
    """Another customer of the seller has this external id."""


class SubscriptionNotFound(NotFound):
    """There is no such subscription at this seller."""


class PlanNotFound(NotFound):
    """The catalog knows no such plan of this seller."""


class PlanNotSubscribable(FailedPrecondition):
    """Only a published plan that is in effect and has not been archived can be subscribed to."""


class PriceNotInPlan(InvalidArgument):
    """An item names a price that the plan does not have and that was not negotiated with the customer in its place."""


class CurrencyNotOffered(FailedPrecondition):
    """The plan has no price in the customer's currency."""


class SubscriptionNotPending(FailedPrecondition):
    """The subscription has begun already, or was cancelled before it could."""


class SubscriptionNotTrialing(FailedPrecondition):
    """The subscription has no trial, or it is over."""


class SubscriptionNotActive(FailedPrecondition):
    """The subscription is not being served and billed, so there is nothing to pause or to be late for."""


class SubscriptionNotPastDue(FailedPrecondition):
    """No invoice of the subscription is being followed up."""


class SubscriptionNotPaused(FailedPrecondition):
    """Only a paused subscription can be resumed."""


class SubscriptionCancelled(FailedPrecondition):
    """The subscription has ended; nothing follows."""


class TooManyPauses(FailedPrecondition):
    """A subscription can be paused at most 1,000 times in its life."""


class TooManyPeriods(FailedPrecondition):
    """More periods than one answer can hold: ask for fewer customers, or for a shorter time."""
