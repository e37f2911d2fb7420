"""Knows what differs between a document and the catalog as it is stored, and what cannot be made the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from catalog.document.changes import Action, Change, differences
from catalog.document.entries import (
    Catalog,
    CouponEntry,
    Entry,
    FeatureEntry,
    PlanEntry,
    coupon_entry,
    feature_entry,
    plan_entry,
    product_entry,
    tax_code_entry,
)
from catalog.document.parse import Placed, Reading
from catalog.document.references import Named, Section
from catalog.document.tree import tree_of
from catalog.document.versions import CLOSED, Versions
from catalog.domain import coupon as coupons
from catalog.domain.feature import Feature, FeatureId, check_fit
from catalog.domain.plan import Plan, State
from catalog.domain.product import Product, ProductId, TaxCode
from common.document import Faults
from common.errors import InvalidArgument

PRODUCT: Final = "product"
TAX_CODE: Final = "tax_code"
FEATURE: Final = "feature"
COUPON: Final = "coupon"


EntryT = TypeVar("EntryT", bound=Entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Of each plan the versions that are open or will be, the draft, and the last one that was published."""

    tax_codes: tuple[TaxCode, ...] = ()
    products: tuple[Product, ...] = ()
    features: tuple[Feature, ...] = ()
    plans: tuple[Plan, ...] = ()
    coupons: tuple[coupons.Coupon, ...] = ()

    @property
    def product_codes(self) -> dict[ProductId, str]:
        return {product.id: product.code for product in self.products}

    @property
    def named(self) -> set[Named]:
        """What a document can refer to without having it as an entry."""
        found = {(Section.TAX_CODES, each.code) for each in self.tax_codes}
        found |= {(Section.PRODUCTS, each.code) for each in self.products}
        found |= {(Section.FEATURES, each.code) for each in self.features}
        return found | {(Section.PLANS, each.code) for each in self.plans}

    def versions(self) -> dict[str, list[Plan]]:
        """By code, the first one first."""
        found: dict[str, list[Plan]] = defaultdict(list)
        for plan in sorted(self.plans, key=lambda each: each.version):
            found[plan.code].append(plan)
        return found

    def catalog(self, *, at: datetime) -> Catalog:
        """As a document says it. A plan that nobody can subscribe to any more is told by its last version."""
        products = self.product_codes
        told = [plan for versions in self.versions().values() for plan in _told(versions, at=at)]
        return Catalog(
            tax_codes=tuple(map(tax_code_entry, self.tax_codes)),
            products=tuple(map(product_entry, self.products)),
            features=tuple(map(feature_entry, self.features)),
            plans=tuple(plan_entry(plan, products, at=at) for plan in told),
            coupons=tuple(map(coupon_entry, self.coupons)),
        )


def changes(reading: Reading, stored: Stored, *, prune: bool, at: datetime) -> list[Change]:
    """In the order in which they are to be made. Fails with Malformed, naming every place that is wrong."""
    comparison = _Comparison(reading, stored, at=at)
    found = comparison.changes()
    if prune:
        found += comparison.not_named()
    comparison.faults.check()
    return found


class _Comparison:
    def __init__(self, reading: Reading, stored: Stored, *, at: datetime) -> None:
        self.faults = Faults()
        self.faults.found += reading.faults
        self._reading = reading
        self._stored = stored
        self._at = at

    def changes(self) -> list[Change]:
        self._check_references()
        stored = self._stored
        found = self._unchangeable(TAX_CODE, self._reading.tax_codes, map(tax_code_entry, stored.tax_codes))
        found += self._products()
        found += self._unchangeable(FEATURE, self._reading.features, map(feature_entry, stored.features))
        found += self._plans()
        return found + self._coupons()

    def not_named(self) -> list[Change]:
        """What can be closed and does not stand in the document."""
        found: list[Change] = []
        named = {each.entry.code for each in self._reading.plans}
        products = self._stored.product_codes
        for code, versions in sorted(self._stored.versions().items()):
            if code not in named:
                plan = Versions(code, versions, products, at=self._at)
                plan.archive()
                found += plan.changes
        named = {each.entry.code for each in self._reading.coupons}
        for coupon in sorted(self._stored.coupons, key=lambda each: each.terms.code):
            if coupon.terms.code not in named and coupon.state is coupons.State.ACTIVE:
                found.append(_closing(coupon))
        return found

    def _check_references(self) -> None:
        known = self._reading.declared | self._stored.named
        for reference in self._reading.references:
            if reference.named not in known:
                what, code = reference.section.singular, reference.value.written
                with self.faults.kept():
                    raise reference.value.fault(f"there is no {what} {code[:64]!a}")

    def _unchangeable(self, resource: str, wanted: Sequence[Placed[EntryT]], stored: Iterable[EntryT]) -> list[Change]:
        """What is created once and for all."""
        known = {each.code: each for each in stored}
        found: list[Change] = []
        for placed in wanted:
            entry = placed.entry
            if entry.code not in known:
                found.append(Change(action=Action.CREATE, resource=resource, code=entry.code, entry=entry))
                continue
            with self.faults.kept():
                _check_same(placed, known[entry.code])
        return found

    def _products(self) -> list[Change]:
        known = {each.code: each for each in self._stored.products}
        found: list[Change] = []
        for placed in self._reading.products:
            entry = placed.entry
            product = known.get(entry.code)
            if product is None:
                found.append(Change(action=Action.CREATE, resource=PRODUCT, code=entry.code, entry=entry))
            elif fields := tuple(differences(tree_of(product_entry(product)), tree_of(entry))):
                found.append(
                    Change(
                        action=Action.UPDATE,
                        resource=PRODUCT,
                        code=entry.code,
                        fields=fields,
                        entry=entry,
                        ids=(product.id,),
                    )
                )
        return found

    def _plans(self) -> list[Change]:
        features = {each.code: each for each in self._stored.features}
        features |= {each.entry.code: _as_stored(each.entry, self._at) for each in self._reading.features}
        wanted: dict[str, list[Placed[PlanEntry]]] = defaultdict(list)
        for placed in self._reading.plans:
            wanted[placed.entry.code].append(placed)
            with self.faults.kept():
                _check_entitlements(placed, features)
        stored, products = self._stored.versions(), self._stored.product_codes
        found: list[Change] = []
        for code, entries in wanted.items():
            with self.faults.kept():
                plan = Versions(code, stored.get(code, []), products, at=self._at)
                plan.make(entries)
                found += plan.changes
        return found

    def _coupons(self) -> list[Change]:
        known = {each.terms.code: each for each in self._stored.coupons}
        found: list[Change] = []
        for placed in self._reading.coupons:
            entry = placed.entry
            coupon = known.get(entry.code)
            if coupon is None:
                found.append(Change(action=Action.CREATE, resource=COUPON, code=entry.code, entry=entry))
                if entry.state is coupons.State.ARCHIVED:
                    found.append(
                        Change(action=Action.ARCHIVE, resource=COUPON, code=entry.code, fields=(CLOSED,), entry=entry)
                    )
                continue
            with self.faults.kept():
                if coupon.state is coupons.State.ARCHIVED and entry.state is coupons.State.ACTIVE:
                    raise (placed.value.get("state") or placed.value).fault(
                        f"coupon {entry.code} is ARCHIVED for good: offer another one"
                    )
                _check_same(placed, CouponEntry(terms=coupon.terms, state=entry.state))
            if coupon.state is not entry.state:
                found.append(_closing(coupon))
        return found


def _told(versions: Sequence[Plan], *, at: datetime) -> list[Plan]:
    """The versions of a plan that a document tells."""
    open_ones = [each for each in versions if each.state is State.ACTIVE and not each.is_superseded(at)]
    drafts = [each for each in versions if each.state is State.DRAFT]
    closed = [each for each in versions if each not in drafts]
    return [*(open_ones or (replace(each, state=State.ARCHIVED) for each in closed[-1:])), *drafts]


def _closing(coupon: coupons.Coupon) -> Change:
    return Change(action=Action.ARCHIVE, resource=COUPON, code=coupon.terms.code, fields=(CLOSED,), ids=(coupon.id,))


def _check_same(placed: Placed[EntryT], stored: EntryT) -> None:
    """What differs is at fault where it stands; what is missing, where the entry begins."""
    faults = Faults()
    for field in differences(tree_of(stored), tree_of(placed.entry)):
        key = field.path.partition(".")[0]
        with faults.kept():
            where = placed.value.get(key) or placed.value
            raise where.fault(f"{field.path} cannot change: it is {field.before or 'absent'}")
    faults.check()


def _check_entitlements(placed: Placed[PlanEntry], features: Mapping[str, Feature]) -> None:
    """Those of features that there are."""
    faults = Faults()
    for entitlement in placed.entry.terms.entitlements:
        if entitlement.feature in features:
            with faults.kept():
                try:
                    check_fit((entitlement,), features, field="")
                except InvalidArgument as error:
                    grants = placed.value.get("entitlements") or placed.value
                    raise (grants.get(entitlement.feature) or grants).fault(error.message) from None
    faults.check()


def _as_stored(entry: FeatureEntry, at: datetime) -> Feature:
    """A feature as it would be, to see what can be granted of it."""
    return Feature(
        id=FeatureId(""),
        code=entry.code,
        display_name=entry.display_name,
        kind=entry.kind,
        meter=entry.meter,
        unit_label=entry.unit_label,
        create_time=at,
    )
