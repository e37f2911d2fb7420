"""Every rule of the catalog that a caller can break; the class name is the reason."""

from __future__ import annotations

from common.errors import AlreadyExists, FailedPrecondition, NotFound


class SellerNotFound(NotFound):
    """There is no such seller, or it is not the caller's."""


class ProductNotFound(NotFound):
    """There is no such product at this seller."""


class ProductCodeTaken(AlreadyExists):
    """Another product of the seller has this code."""


class TaxCodeNotFound(NotFound):
    """There is no such tax code at this seller."""


class TaxCodeTaken(AlreadyExists):
    """Another tax code of the seller has this code."""


class FeatureNotFound(NotFound):
    """There is no such feature at this seller."""


class FeatureCodeTaken(AlreadyExists):
    """Another feature of the seller has this code."""


class PlanNotFound(NotFound):
    """There is no such plan at this seller."""


class PlanCodeTaken(AlreadyExists):
    """Another plan of the seller has this code."""


class PlanHasDraft(FailedPrecondition):
    """The last version of the plan is a draft: it is to be published before there can be another."""


class PlanEffectiveTooEarly(FailedPrecondition):
    """A version takes effect after the version before it, or nobody could say which one is sold."""


class PlanNotDraft(FailedPrecondition):
    """The plan has been published, so its prices can no longer change."""


class PlanNotActive(FailedPrecondition):
    """Only a plan that is open to subscriptions can be closed to them, or have prices negotiated."""


class PlanEmpty(FailedPrecondition):
    """A plan without a price sells nothing, so it cannot be published."""


class PriceCodeTaken(AlreadyExists):
    """Another price of the plan has this code."""


class PriceNotFound(NotFound):
    """There are no such prices at this seller; `ids` names them."""


class PriceNotOfList(FailedPrecondition):
    """A negotiated price takes the place of one that a plan offers to everyone, not of another or a discarded one."""


class TooManyPrices(FailedPrecondition):
    """A plan has at most 100 prices."""


class CatalogTooLarge(FailedPrecondition):
    """The catalog has grown beyond what fits into a document."""


class CouponNotFound(NotFound):
    """There is no such coupon at this seller."""


class CouponCodeTaken(AlreadyExists):
    """Another coupon of the seller has this key."""


class CouponNotActive(FailedPrecondition):
    """The coupon has been archived: nobody redeems it any more."""


class CouponNotYetValid(FailedPrecondition):
    """The coupon can be redeemed later, not now."""


class CouponExpired(FailedPrecondition):
    """The time in which the coupon could be redeemed is over."""


class CouponUsedUp(FailedPrecondition):
    """The coupon, or the code that was typed in, has been redeemed as often as it can be."""


class CouponUsedUpByCustomer(FailedPrecondition):
    """This customer has redeemed the coupon as often as one customer can."""


class RedemptionCodeNotFound(NotFound):
    """No coupon of the seller is redeemed by what was typed in."""


class RedemptionCodeTaken(AlreadyExists):
    """The seller has such a code already, for this coupon or another."""


class RedemptionCodeOfAnotherCustomer(FailedPrecondition):
    """The code was made for one customer, and this is another."""


class RedemptionNotFound(NotFound):
    """There is no such redemption at this seller."""
