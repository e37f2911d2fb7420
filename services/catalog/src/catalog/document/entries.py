"""Knows what a document says about each thing of the catalog, by codes and without ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from catalog.domain import coupon as coupons
from catalog.domain.feature import Feature, Kind
from catalog.domain.plan import Plan, State, Terms
from catalog.domain.price import Price
from catalog.domain.product import Product, ProductId, TaxCode

ENTRIES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxCodeEntry:
    code: str
    display_name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductEntry:
    code: str
    display_name: str
    description: str
    unit_label: str
    tax_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEntry:
    code: str
    display_name: str
    kind: Kind
    meter: str
    unit_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceEntry:
    """A price that has no id yet, of a product that is named by its code."""

    product: str
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEntry:
    """One version of a plan. `terms` has no prices: they are `prices`."""

    code: str
    state: State
    effective: datetime | None
    """From when on it can be subscribed to; None for at once."""
    terms: Terms
    prices: tuple[PriceEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponEntry:
    terms: coupons.Terms
    state: coupons.State

    @property
    def code(self) -> str:
        return self.terms.code


Entry = TaxCodeEntry | ProductEntry | FeatureEntry | PlanEntry | CouponEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything in a document, each section in the order in which it stands there."""

    tax_codes: tuple[TaxCodeEntry, ...] = ()
    products: tuple[ProductEntry, ...] = ()
    features: tuple[FeatureEntry, ...] = ()
    plans: tuple[PlanEntry, ...] = ()
    coupons: tuple[CouponEntry, ...] = ()

    @property
    def entry_count(self) -> int:
        """Of all sections together, every price counted."""
        prices = sum(len(plan.prices) for plan in self.plans)
        sections = (self.tax_codes, self.products, self.features, self.plans, self.coupons)
        return prices + sum(map(len, sections))


def tax_code_entry(tax_code: TaxCode) -> TaxCodeEntry:
    return TaxCodeEntry(code=tax_code.code, display_name=tax_code.display_name, description=tax_code.description)


def product_entry(product: Product) -> ProductEntry:
    return ProductEntry(
        code=product.code,
        display_name=product.display_name,
        description=product.description,
        unit_label=product.unit_label,
        tax_code=product.tax_code,
    )


def feature_entry(feature: Feature) -> FeatureEntry:
    return FeatureEntry(
        code=feature.code,
        display_name=feature.display_name,
        kind=feature.kind,
        meter=feature.meter,
        unit_label=feature.unit_label,
    )


def plan_entry(plan: Plan, product_codes: Mapping[ProductId, str], *, at: datetime) -> PlanEntry:
    """What a version says at an instant: that it took effect in the past is no longer worth saying."""
    return PlanEntry(
        code=plan.code,
        state=plan.state,
        effective=plan.effective_time if plan.state is State.ACTIVE and plan.takes_effect_after(at) else None,
        terms=replace(plan.terms, prices=()),
        prices=tuple(PriceEntry(product=product_codes[price.product_id], price=price) for price in plan.prices),
    )


def coupon_entry(coupon: coupons.Coupon) -> CouponEntry:
    return CouponEntry(terms=coupon.terms, state=coupon.state)
