"""Knows how a document is read: every entry that is sound, and everything that is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from catalog.convert import NAME_LENGTH_MAX, TEXT_LENGTH_MAX, UNIT_LABEL_LENGTH_MAX
from catalog.document.coupons import read_coupon
from catalog.document.entries import (
    ENTRIES_MAX,
    Catalog,
    CouponEntry,
    Entry,
    FeatureEntry,
    PlanEntry,
    ProductEntry,
    TaxCodeEntry,
)
from catalog.document.plans import check_versions, read_plan
from catalog.document.references import Named, Reference, declared_in, references_in
from catalog.domain.feature import Kind, check_meter
from common import document
from common.document import Fault, Faults, Value, check_unique
from common.errors import InvalidArgument

NAME: Final = "document"
SECTIONS: Final = ("tax_codes", "products", "features", "meters", "plans", "coupons")

EntryT = TypeVar("EntryT", bound=Entry)


@dataclass(frozen=True, slots=True)
class Placed(Generic[EntryT]):
    """An entry, and where it stands."""

    entry: EntryT
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is sound of a document; it is all there is only when there are no faults."""

    tax_codes: tuple[Placed[TaxCodeEntry], ...] = ()
    products: tuple[Placed[ProductEntry], ...] = ()
    features: tuple[Placed[FeatureEntry], ...] = ()
    plans: tuple[Placed[PlanEntry], ...] = ()
    coupons: tuple[Placed[CouponEntry], ...] = ()
    declared: frozenset[Named] = frozenset()
    references: tuple[Reference, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def catalog(self) -> Catalog:
        return Catalog(
            tax_codes=tuple(each.entry for each in self.tax_codes),
            products=tuple(each.entry for each in self.products),
            features=tuple(each.entry for each in self.features),
            plans=tuple(each.entry for each in self.plans),
            coupons=tuple(each.entry for each in self.coupons),
        )


def parse(text: str) -> Reading:
    faults = Faults()
    reading = Reading()
    with faults.kept():
        value = document.parse(text, NAME)
        reading = _reading(value, value.fields(optional=SECTIONS), faults)
        with faults.kept():
            _check_count(value, reading.catalog)
    return replace(reading, faults=tuple(sorted(faults.found)))


def _reading(value: Value, fields: dict[str, Value], faults: Faults) -> Reading:
    def section(name: str, read: Callable[[Value], EntryT], *, unique: bool = True) -> tuple[Placed[EntryT], ...]:
        found: list[Placed[EntryT]] = []
        with faults.kept():
            for entry in fields[name].items() if name in fields else []:
                with faults.kept():
                    found.append(Placed(read(entry), entry))
        if unique:
            with faults.kept():
                check_unique([each.value for each in found], [each.entry.code for each in found], _SINGULAR[name])
        return tuple(found)

    plans: list[Placed[PlanEntry]] = []
    for versions in _by_code(section("plans", read_plan, unique=False)):
        with faults.kept():
            check_versions([(each.entry, each.value) for each in versions])
            plans += versions
    return Reading(
        tax_codes=section("tax_codes", _tax_code),
        products=section("products", _product),
        features=section("features", _feature),
        plans=tuple(plans),
        coupons=section("coupons", read_coupon),
        declared=frozenset(declared_in(value)),
        references=tuple(references_in(value)),
    )


def _by_code(plans: Iterable[Placed[PlanEntry]]) -> Iterable[list[Placed[PlanEntry]]]:
    found: dict[str, list[Placed[PlanEntry]]] = {}
    for each in plans:
        found.setdefault(each.entry.code, []).append(each)
    return found.values()


def _tax_code(value: Value) -> TaxCodeEntry:
    fields = value.fields(required=["code", "display_name"], optional=["description"])
    return TaxCodeEntry(
        code=fields["code"].code(),
        display_name=fields["display_name"].text(max_length=NAME_LENGTH_MAX),
        description=_text(fields, "description", max_length=TEXT_LENGTH_MAX),
    )


def _product(value: Value) -> ProductEntry:
    fields = value.fields(required=["code", "display_name"], optional=["description", "unit_label", "tax_code"])
    return ProductEntry(
        code=fields["code"].code(),
        display_name=fields["display_name"].text(max_length=NAME_LENGTH_MAX),
        description=_text(fields, "description", max_length=TEXT_LENGTH_MAX),
        unit_label=_text(fields, "unit_label", max_length=UNIT_LABEL_LENGTH_MAX),
        tax_code=fields["tax_code"].code() if "tax_code" in fields else "",
    )


def _feature(value: Value) -> FeatureEntry:
    fields = value.fields(required=["code", "display_name", "kind"], optional=["meter", "unit_label"])
    kind = Kind[fields["kind"].choice(Kind.__members__)]
    meter = fields["meter"].code() if "meter" in fields else ""
    try:
        check_meter(kind, meter, field="")
    except InvalidArgument as error:
        raise fields.get("meter", value).fault(f"meter {error.message}") from None
    return FeatureEntry(
        code=fields["code"].code(),
        display_name=fields["display_name"].text(max_length=NAME_LENGTH_MAX),
        kind=kind,
        meter=meter,
        unit_label=_text(fields, "unit_label", max_length=UNIT_LABEL_LENGTH_MAX),
    )


def _text(fields: dict[str, Value], name: str, *, max_length: int) -> str:
    return fields[name].text(max_length=max_length, required=False) if name in fields else ""


def _check_count(value: Value, catalog: Catalog) -> None:
    count = catalog.entry_count
    if count > ENTRIES_MAX:
        raise value.fault(f"has {count} entries, prices included, and may have {ENTRIES_MAX}")


_SINGULAR: Final = {"tax_codes": "tax code", "products": "product", "features": "feature", "coupons": "coupon"}
