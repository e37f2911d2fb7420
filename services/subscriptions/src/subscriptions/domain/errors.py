"""Every rule of subscriptions that a caller can break; the class name is the reason."""

from __future__ import annotations

from common.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable


class CustomerNotFound(NotFound):
    """There are no such customers at this seller; the metadata names them."""


class ExternalIdTaken(AlreadyExists):
    """Another customer of the seller has this external id, or has it as an alias."""


class CustomerMerged(FailedPrecondition):
    """The customer is part of another one now, which the metadata names; nothing about it changes any more."""


class AliasTaken(AlreadyExists):
    """The key is the external id of a customer of the seller, or an alias of another one."""


class AliasNotFound(NotFound):
    """The customer has no such alias."""


class TooManyAliases(FailedPrecondition):
    """A customer has at most 20 aliases, and with those of merged customers and their ids at most 100 names."""


class HierarchyLoop(FailedPrecondition):
    """A customer cannot be under itself, nor under one that is below it."""


class HierarchyTooDeep(FailedPrecondition):
    """A hierarchy has at most 8 levels."""


class HierarchyTooLarge(FailedPrecondition):
    """At most 10,000 customers hang together in a hierarchy."""


class PayerHasPayer(FailedPrecondition):
    """Who pays for others gets its own invoices itself."""


class MergeTooLarge(FailedPrecondition):
    """At most 1,000 customers may be directly below the one that is merged, or paid for by it."""


class ContactNotFound(NotFound):
    """The customer has no such contact."""


class TooManyContacts(FailedPrecondition):
    """A customer has at most 20 contacts."""


class TaxExemptionNotFound(NotFound):
    """The customer has no such tax exemption."""


class TooManyTaxExemptions(FailedPrecondition):
    """A customer has at most 20 tax exemptions."""


class CustomerHasSubscriptions(FailedPrecondition):
    """A subscription of the customer has not ended: what it still owes could not be billed to anybody."""


class CustomerPaysForOthers(FailedPrecondition):
    """A subscription of another customer that has not ended is paid for by this one: its invoices need a name."""


class PersonalDataErased(FailedPrecondition):
    """The customer's personal data was erased; it gets none any more."""


class PersonalDataTooLarge(FailedPrecondition):
    """The customer has more subscriptions than one document can tell of."""


class TaxIdMalformed(InvalidArgument):
    """No authority ever gave out such a number; the metadata says which rule it breaks."""


class TaxIdNotFound(NotFound):
    """There is no such tax id at this seller."""


class TaxIdTaken(AlreadyExists):
    """The customer has this tax id already."""


class TooManyTaxIds(FailedPrecondition):
    """A customer has at most 10 tax ids."""


class TaxIdNotVerifiable(FailedPrecondition):
    """No authority is asked about tax ids of this kind."""


class SubscriptionNotFound(NotFound):
    """There is no such subscription at this seller."""


class PlanNotFound(NotFound):
    """The catalog knows no such plan of this seller."""


class PlanNotSubscribable(FailedPrecondition):
    """Only a published plan that is in effect and has not been archived can be subscribed to."""


class PriceNotInPlan(InvalidArgument):
    """An item names a price that the plan does not have and that was not negotiated with the customer in its place."""


class CurrencyNotOffered(FailedPrecondition):
    """The plan has no price in the currency, or the coupon takes no amount off in it."""


class CouponNotFound(NotFound):
    """The catalog knows no such coupon of this seller."""


class CouponNotActive(FailedPrecondition):
    """The coupon was archived, and the customer has not redeemed it before."""


class CouponNotYetValid(FailedPrecondition):
    """The coupon can be applied later, not now."""


class CouponExpired(FailedPrecondition):
    """The time of the coupon is over, and the customer has not redeemed it in it."""


class CouponUsedUp(FailedPrecondition):
    """The coupon was redeemed as often as it can be, and not by this customer."""


class ItemNotFound(NotFound):
    """The subscription has no such item, or no longer at that time."""


class NoItemsLeft(FailedPrecondition):
    """A change would take away the last item of a subscription, which is what CancelSubscription is for."""


class TooManyItems(FailedPrecondition):
    """A subscription has at most 100 items at a time."""


class DiscountNotApplied(FailedPrecondition):
    """The coupon is not applied to the subscription, so it cannot be taken off."""


class SubscriptionNotPending(FailedPrecondition):
    """The subscription does not wait to be activated: it has begun already, or has ended."""


class SubscriptionNotTrialing(FailedPrecondition):
    """The subscription has no trial, or it is over."""


class SubscriptionNotActive(FailedPrecondition):
    """The subscription is not being served and billed, or is paused so already."""


class SubscriptionNotPaused(FailedPrecondition):
    """Nothing of the subscription is paused."""


class SubscriptionNotChangeable(FailedPrecondition):
    """The subscription has ended: ReactivateSubscription takes it up again."""


class SubscriptionCancelled(FailedPrecondition):
    """The subscription has ended already."""


class SubscriptionNotCancelled(FailedPrecondition):
    """Only a subscription that has ended can be taken up again."""


class CancellationNotScheduled(FailedPrecondition):
    """No cancellation is decided that has not taken effect."""


class ChangeNotFound(NotFound):
    """The subscription has no such change."""


class ChangeNotScheduled(FailedPrecondition):
    """The change has taken effect, or was revoked already."""


class ChangeTooEarly(FailedPrecondition):
    """What was before the periods under way is billed, and what was before the last change stays; the metadata says
    from when on a change is possible.
    """


class ChangeAfterEnd(FailedPrecondition):
    """The subscription will have ended by then."""


class ChangeConflicts(FailedPrecondition):
    """A change that is scheduled could no longer take effect; the metadata names it, and it can be revoked."""


class PreviewOutdated(FailedPrecondition):
    """The subscription is not what it was when the preview was made, or the change is not the one previewed."""


class TooManyChanges(FailedPrecondition):
    """A subscription can be changed at most 1,000 times in its life. It can still be cancelled."""


class AddOnNotFound(NotFound):
    """The subscription has no such add-on."""


class AddOnTaken(FailedPrecondition):
    """The subscription has this add-on already."""


class SubscriptionMoved(Aborted):
    """The plan changed while the catalog was asked, or the customer while others were waited for: ask again."""


class BillingDayNotSet(FailedPrecondition):
    """Neither the request nor the customer's billing profile says on which day of the month periods begin."""


class TooManyPeriods(FailedPrecondition):
    """More periods than one answer can hold: ask for fewer customers, or for a shorter time."""


class PlanMigrationNotFound(NotFound):
    """There is no such plan migration at this seller."""


class PlanMigrationNotPreviewed(FailedPrecondition):
    """A plan migration is started once, when its preview is complete."""


class PlanMigrationNotCancellable(FailedPrecondition):
    """The plan migration is not under way, nor waits to be started."""


class PlanMigrationNotRevertible(FailedPrecondition):
    """Only a plan migration that was started and has come to its end can be taken back."""


class NotOnPlan(FailedPrecondition):
    """The subscription is not on the plan that it is to be moved from, or will not be by then."""


class ChangedSince(FailedPrecondition):
    """Something was agreed since that the plan to go back to does not have."""


class Billed(FailedPrecondition):
    """The bill time of something that the change made due has come."""


class FeatureNotFound(NotFound):
    """The catalog knows no such feature of this seller."""


class EntitlementsUnknown(Unavailable):
    """The catalog is still being asked what a plan of the customer entitles to: ask again."""


class EntitlementOverrideNotFound(NotFound):
    """Nothing about this feature was decided for the customer, or it has ended."""


class TooManyEntitlementOverrides(FailedPrecondition):
    """At most 200 features are overridden for a customer."""


class TooManySubscriptions(FailedPrecondition):
    """More subscriptions than can be looked at together; the metadata says how many that is."""


class ItemWithoutSeats(FailedPrecondition):
    """Only a licensed item has seats: the quantity of a metered one is its usage."""


class SeatNotFound(NotFound):
    """There is no such seat at this seller, or none that this token claims."""


class SeatsExhausted(FailedPrecondition):
    """Every seat of the item is assigned; the metadata says how many there are."""


class SeatHolderTaken(AlreadyExists):
    """The holder has a seat of this item already; the metadata names it."""


class SeatNotInvited(FailedPrecondition):
    """The seat was claimed already, was revoked, or its invitation has expired; the metadata says what it is."""


class SeatNotAssigned(FailedPrecondition):
    """The seat was revoked already."""


class SeatsAssigned(FailedPrecondition):
    """More seats are assigned than would be left; the metadata names the item, and how many are. Revoke some first, or
    schedule the change.
    """
