"""Knows what the entries of a document refer to by code, also those in which something else is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from common.document import Value


class Section(Enum):
    """Whose entries others refer to."""

    TAX_CODES = "tax_codes"
    PRODUCTS = "products"
    FEATURES = "features"
    METERS = "meters"
    PLANS = "plans"

    @property
    def singular(self) -> str:
        return self.value.removesuffix("s").replace("_", " ")


Named = tuple[Section, str]
"""A section, and the code of an entry in it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """That an entry with this code must exist: in the document, or else in the catalog."""

    section: Section
    value: Value

    @property
    def named(self) -> Named:
        return self.section, self.value.written


def declared_in(document: Value) -> Iterator[Named]:
    for section in Section:
        for entry in _list(document, section.value):
            if (code := entry.get("code")) is not None:
                yield section, code.written


def references_in(document: Value) -> Iterator[Reference]:
    """Meters belong to another service: whether one exists can be told only of a document that lists them."""
    for reference in _references(document):
        if reference.section is not Section.METERS or document.get("meters") is not None:
            yield reference


def _references(document: Value) -> Iterator[Reference]:
    for product in _list(document, "products"):
        yield from _to(Section.TAX_CODES, [product.get("tax_code")])
    for feature in _list(document, "features"):
        yield from _to(Section.METERS, [feature.get("meter")])
    for plan in _list(document, "plans"):
        entitlements = plan.get("entitlements")
        yield from _to(Section.FEATURES, entitlements.elements if entitlements is not None else [])
        for price in _list(plan, "prices"):
            yield from _to(Section.PRODUCTS, [price.get("product")])
            yield from _to(Section.METERS, [price.get("meter")])
            for size in _list(price, "capacity"):
                limits = size.get("limits")
                yield from _to(Section.METERS, limits.elements if limits is not None else [])
    for coupon in _list(document, "coupons"):
        free = coupon.get("free_units")
        yield from _to(
            Section.PRODUCTS, [*_list(coupon, "products"), free.get("product") if free is not None else None]
        )
        yield from _to(Section.PLANS, _list(coupon, "plans"))


def _to(section: Section, values: Iterable[Value | None]) -> Iterator[Reference]:
    # What is no code at all is a fault of its own.
    return (Reference(section, value) for value in values if value is not None and value.written)


def _list(value: Value, key: str) -> list[Value]:
    found = value.get(key)
    return found.elements if found is not None and found.is_list else []
