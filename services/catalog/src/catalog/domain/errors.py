"""Every rule of the catalog that a caller can break; the class name is the reason."""

from __future__ import annotations

from common.errors import AlreadyExists, FailedPrecondition, NotFound


class SellerNotFound(NotFound):
    """There is no such seller, or it is not the caller's."""


class ProductNotFound(NotFound):
    """There is no such product at this seller."""


class ProductCodeTaken(AlreadyExists):
    """Another product of the seller has this code."""


class PlanNotFound(NotFound):
    """There is no such plan at this seller."""


class PlanCodeTaken(AlreadyExists):
    """Another plan of the seller has this code."""


class PlanNotDraft(FailedPrecondition):
    """The plan has been published, so its prices can no longer change."""


class PlanNotActive(FailedPrecondition):
    """Only a plan that is open to subscriptions can be closed to them."""


class PlanEmpty(FailedPrecondition):
    """A plan without a price sells nothing, so it cannot be published."""


class PriceCodeTaken(AlreadyExists):
    """Another price of the plan has this code."""


class PriceNotFound(NotFound):
    """There are no such prices at this seller; `ids` names them."""


class TooManyPrices(FailedPrecondition):
    """A plan has at most 100 prices."""
