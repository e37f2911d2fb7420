"""Tells the catalog as a document, and makes it what a document says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from catalog import store
from catalog.document.changes import Action, Change
from catalog.document.diff import Stored, changes
from catalog.document.entries import (
    ENTRIES_MAX,
    CouponEntry,
    FeatureEntry,
    PlanEntry,
    ProductEntry,
    TaxCodeEntry,
)
from catalog.document.parse import NAME, parse
from catalog.document.versions import PLAN
from catalog.document.write import write
from catalog.domain.coupon import CouponId
from catalog.domain.errors import CatalogTooLarge
from catalog.domain.plan import Plan, PlanId, Terms
from catalog.domain.price import PriceId
from catalog.domain.product import ProductId
from catalog.usecases import coupons, features, plans, products
from catalog.usecases.products import ProductTexts
from common.db import Tx
from common.document import BYTES_MAX, Fault, Malformed
from common.errors import InvalidArgument, Violation

PLANS_AT_ONCE: Final = 500
"""How many versions are read at once, with all of their prices."""
TOLD_BYTES_MAX: Final = 4_000
"""Of what is wrong with a document: a refusal travels in metadata, which gRPC bounds at 8 kilobytes."""


async def export_catalog(tx: Tx) -> str:
    stored = await _stored(tx)
    document = await asyncio.to_thread(lambda: write(stored.catalog(at=tx.now)))
    if len(document.encode()) > BYTES_MAX:
        raise CatalogTooLarge(f"the document would be larger than {BYTES_MAX} bytes")
    return document


async def apply_catalog(tx: Tx, document: str, *, validate_only: bool, prune: bool) -> list[Change]:
    """The changes in the order in which they were made, or would be."""
    # A large document takes seconds to read: in a thread, and before anybody has to wait for this transaction.
    reading = await asyncio.to_thread(parse, document)
    await store.lock_catalog(tx)
    stored = await _stored(tx)
    try:
        found = await asyncio.to_thread(changes, reading, stored, prune=prune, at=tx.now)
    except Malformed as error:
        raise _refusal(error.faults) from None
    if not validate_only:
        await _Work(tx, stored).carry_out(found)
    return found


class _Work:
    """Changes on their way into the catalog, each by the use case that does it by hand."""

    def __init__(self, tx: Tx, stored: Stored) -> None:
        self._tx = tx
        self._products = {product.code: product.id for product in stored.products}
        self._made: dict[tuple[str, str], str] = {}
        """The draft of a plan, or the coupon, by resource and code."""

    async def carry_out(self, found: list[Change]) -> None:
        for change in found:
            match change.entry:
                case TaxCodeEntry() as entry:
                    await self._create_tax_code(entry)
                case ProductEntry() as entry:
                    await self._make_product(change, entry)
                case FeatureEntry() as entry:
                    await self._create_feature(entry)
                case PlanEntry() as entry:
                    await self._make_plan(change, entry)
                case CouponEntry() as entry:
                    await self._make_coupon(change, entry)
                case None:
                    await self._archive(change)

    async def _create_tax_code(self, entry: TaxCodeEntry) -> None:
        await products.create_tax_code(
            self._tx, code=entry.code, display_name=entry.display_name, description=entry.description
        )

    async def _make_product(self, change: Change, entry: ProductEntry) -> None:
        if change.action is Action.CREATE:
            product = await products.create_product(
                self._tx,
                code=entry.code,
                display_name=entry.display_name,
                description=entry.description,
                unit_label=entry.unit_label,
                tax_code=entry.tax_code,
            )
            self._products[entry.code] = product.id
            return
        texts = ProductTexts(
            display_name=entry.display_name,
            description=entry.description,
            unit_label=entry.unit_label,
            tax_code=entry.tax_code,
        )
        await products.update_product(self._tx, ProductId(self._id(change)), texts)

    async def _create_feature(self, entry: FeatureEntry) -> None:
        await features.create_feature(
            self._tx,
            code=entry.code,
            display_name=entry.display_name,
            kind=entry.kind,
            meter=entry.meter,
            unit_label=entry.unit_label,
        )

    async def _make_plan(self, change: Change, entry: PlanEntry) -> None:
        match change.action:
            case Action.CREATE:
                plan = await plans.create_plan(self._tx, code=entry.code, terms=self._terms(entry))
                self._note(change, plan.id)
            case Action.CREATE_VERSION:
                plan = await plans.create_plan_version(self._tx, entry.code)
                if change.fields:
                    await plans.update_plan(self._tx, plan.id, self._terms(entry))
                self._note(change, plan.id)
            case Action.UPDATE:
                await plans.update_plan(self._tx, PlanId(self._id(change)), self._terms(entry))
            case Action.PUBLISH:
                later = entry.effective is not None and entry.effective > self._tx.now
                await plans.publish_plan(
                    self._tx, PlanId(self._id(change)), effective_time=entry.effective if later else None
                )
            case Action.ARCHIVE:
                await self._archive(change)

    async def _make_coupon(self, change: Change, entry: CouponEntry) -> None:
        if change.action is Action.CREATE:
            self._note(change, (await coupons.create_coupon(self._tx, entry.terms)).id)
        else:
            await self._archive(change)

    async def _archive(self, change: Change) -> None:
        for each in self._ids(change):
            if change.resource == PLAN:
                await plans.archive_plan(self._tx, PlanId(each))
            else:
                await coupons.archive_coupon(self._tx, CouponId(each))

    def _terms(self, entry: PlanEntry) -> Terms:
        prices = (
            replace(
                each.price,
                id=PriceId(self._tx.new_id("price")),
                product_id=self._products[each.product],
                create_time=self._tx.now,
            )
            for each in entry.prices
        )
        return replace(entry.terms, prices=tuple(prices))

    def _note(self, change: Change, made: str) -> None:
        self._made[change.resource, change.code] = made

    def _ids(self, change: Change) -> tuple[str, ...]:
        return change.ids or (self._made[change.resource, change.code],)

    def _id(self, change: Change) -> str:
        (only,) = self._ids(change)
        return only


async def _stored(tx: Tx) -> Stored:
    room = ENTRIES_MAX
    found = Stored(
        tax_codes=tuple(await store.list_tax_codes(tx, after="", limit=room + 1)),
        products=tuple(await store.list_products(tx, after="", limit=room + 1)),
        features=tuple(await store.list_features(tx, after="", limit=room + 1)),
        coupons=tuple(await store.list_coupons(tx, after="", limit=room + 1)),
    )
    versions: list[Plan] = []
    after = ("", 0)
    room -= len(found.tax_codes) + len(found.products) + len(found.features) + len(found.coupons)
    while room >= 0:
        page = await store.standing_versions(tx, after=after, limit=PLANS_AT_ONCE)
        versions += page
        room -= sum(1 + len(plan.prices) for plan in page)
        if len(page) < PLANS_AT_ONCE:
            break
        after = page[-1].code, page[-1].version
    if room < 0:
        raise CatalogTooLarge(f"the catalog has more than {ENTRIES_MAX} entries, prices included")
    return replace(found, plans=tuple(versions))


def _refusal(faults: Sequence[Fault]) -> InvalidArgument:
    """As many of the faults as can travel, the first ones first, and how many there are beside them."""
    violations: list[Violation] = []
    room = TOLD_BYTES_MAX
    for fault in faults:
        violation = Violation(fault.place, fault.reason)
        room -= len(violation.field.encode()) + len(violation.description.encode())
        if room < 0:
            left = len(faults) - len(violations)
            violations.append(Violation(fault.place, f"here and further on, {left} more places are wrong"))
            break
        violations.append(violation)
    error = InvalidArgument(f"the document is wrong in {len(faults)} places, first at {faults[0]}", field=NAME)
    error.violations = tuple(violations)
    return error
