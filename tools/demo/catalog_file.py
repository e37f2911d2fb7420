"""Knows how seller.yaml and catalog.yaml are written: who sells, what, and for how much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from tools.demo.document import Value, gathered
from tools.demo.example import Address, Catalog, Meter, Plan, Price, Product, Seller, Tier
from tools.demo.faults import Fault, Malformed

UNITS: Final = ("DAY", "WEEK", "MONTH", "YEAR")
TIMINGS: Final = ("IN_ADVANCE", "IN_ARREARS")
AGGREGATIONS: Final = ("SUM", "COUNT")
TIERS_MAX: Final = 100
PRICES_MAX: Final = 100

_PREFIX: Final = re.compile(r"[A-Z0-9-]{1,16}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


def parse_seller(document: Value) -> Seller:
    fields = document.fields(
        required=["display_name", "address"],
        optional=["tax_id", "email", "payment_instructions", "invoice_number_prefix"],
    )
    return Seller(
        display_name=fields["display_name"].text(),
        address=parse_address(fields["address"]),
        tax_id=_text(fields, "tax_id"),
        email=_text(fields, "email"),
        payment_instructions=fields["payment_instructions"].text(max_length=1_000, multiline=True)
        if "payment_instructions" in fields
        else "",
        invoice_number_prefix=_prefix(fields["invoice_number_prefix"]) if "invoice_number_prefix" in fields else "",
    )


def parse_address(value: Value) -> Address:
    fields = value.fields(
        required=["region_code"], optional=["postal_code", "locality", "administrative_area", "address_lines"]
    )
    lines = fields["address_lines"].each(lambda line: line.text()) if "address_lines" in fields else []
    return Address(
        region_code=_country(fields["region_code"]),
        postal_code=_text(fields, "postal_code"),
        locality=_text(fields, "locality"),
        administrative_area=_text(fields, "administrative_area"),
        address_lines=tuple(lines),
    )


def _prefix(value: Value) -> str:
    written = value.text()
    if not _PREFIX.fullmatch(written):
        raise value.fault("must be 1 to 16 of A-Z, 0-9 and -")
    return written


def _country(value: Value) -> str:
    written = value.text(max_length=2)
    if not _COUNTRY.fullmatch(written):
        raise value.fault("must be a country's code of two letters, such as GB")
    return written


def parse_catalog(document: Value) -> Catalog:
    fields = document.fields(required=["products", "plans"], optional=["meters"])
    products = fields["products"].each(_product)
    meters = fields["meters"].each(_meter) if "meters" in fields else []
    check_unique(fields["products"].items(), [product.code for product in products], "product")
    if "meters" in fields:
        check_unique(fields["meters"].items(), [meter.code for meter in meters], "meter")
    product_codes = {product.code for product in products}
    meter_codes = {meter.code for meter in meters}
    plans = fields["plans"].each(lambda plan: _plan(plan, product_codes, meter_codes))
    check_unique(fields["plans"].items(), [plan.code for plan in plans], "plan")
    return Catalog(products=tuple(products), meters=tuple(meters), plans=tuple(plans))


def check_unique(values: Sequence[Value], names: Iterable[str], what: str) -> None:
    """Every name once; the second of two is at fault."""
    seen: set[str] = set()
    faults: list[Fault] = []
    for value, name in zip(values, names, strict=True):
        if name in seen:
            faults += value.fault(f"there are two of {what} {name}").faults
        seen.add(name)
    if faults:
        raise Malformed(faults)


def _product(value: Value) -> Product:
    fields = value.fields(required=["code", "display_name"], optional=["description", "unit_label"])
    return Product(
        code=fields["code"].code(),
        display_name=fields["display_name"].text(),
        description=_text(fields, "description", max_length=1_000),
        unit_label=_text(fields, "unit_label", max_length=32),
    )


def _meter(value: Value) -> Meter:
    fields = value.fields(required=["code", "aggregation"], optional=["display_name", "unit_label"])
    code = fields["code"].code()
    return Meter(
        code=code,
        display_name=_text(fields, "display_name") or code,
        aggregation=fields["aggregation"].choice(AGGREGATIONS),
        unit_label=_text(fields, "unit_label", max_length=32),
    )


def _plan(value: Value, products: set[str], meters: set[str]) -> Plan:
    fields = value.fields(required=["code", "display_name", "prices"])
    entries = fields["prices"].items()
    if not 1 <= len(entries) <= PRICES_MAX:
        raise fields["prices"].fault(f"must be 1 to {PRICES_MAX} prices")
    prices = gathered(entries, lambda price: _price(price, products, meters))
    check_unique(entries, [price.code for price in prices], "price")
    return Plan(code=fields["code"].code(), display_name=fields["display_name"].text(), prices=tuple(prices))


def _price(value: Value, products: set[str], meters: set[str]) -> Price:
    fields = value.fields(
        required=["code", "product", "currency"],
        optional=["every", "timing", "meter", "flat", "per_unit", "graduated"],
    )
    models = [name for name in ("flat", "per_unit", "graduated") if name in fields]
    if len(models) != 1:
        raise value.fault("must have exactly one of flat, per_unit and graduated")
    unit, count = _interval(fields["every"]) if "every" in fields else ("MONTH", 1)
    meter = fields["meter"].reference(meters, "meter") if "meter" in fields else ""
    timing = fields["timing"].choice(TIMINGS) if "timing" in fields else "IN_ARREARS"
    if meter and timing == "IN_ADVANCE":
        raise fields["timing"].fault("must be IN_ARREARS for a metered price: nobody knows in advance")
    return Price(
        code=fields["code"].code(),
        product=fields["product"].reference(products, "product"),
        currency=fields["currency"].currency(),
        interval_unit=unit,
        interval_count=count,
        timing=timing,
        meter=meter,
        flat=fields["flat"].decimal() if "flat" in fields else None,
        unit_price=fields["per_unit"].decimal() if "per_unit" in fields else None,
        tiers=_tiers(fields["graduated"]) if "graduated" in fields else (),
    )


def _interval(value: Value) -> tuple[str, int]:
    """`MONTH`, or `{unit: MONTH, count: 3}`."""
    try:
        return value.choice(UNITS), 1
    except Malformed:
        fields = value.fields(required=["unit"], optional=["count"])
    count = fields["count"].whole(1, 366) if "count" in fields else 1
    return fields["unit"].choice(UNITS), count


def _tiers(value: Value) -> tuple[Tier, ...]:
    entries = value.items()
    if not 1 <= len(entries) <= TIERS_MAX:
        raise value.fault(f"must be 1 to {TIERS_MAX} tiers")
    tiers = gathered(entries, _tier)
    for entry, tier, before in zip(entries, tiers, [None, *tiers], strict=False):
        last = entry is entries[-1]
        if (tier.up_to is None) != last:
            raise entry.fault("the last tier, and only the last, has no up_to")
        if tier.up_to is not None and tier.up_to <= (before.up_to or 0 if before else 0):
            raise entry.fault("up_to must be more than that of the tier before")
    return tuple(tiers)


def _tier(value: Value) -> Tier:
    fields = value.fields(required=["unit_price"], optional=["up_to", "flat_amount"])
    return Tier(
        up_to=fields["up_to"].decimal() if "up_to" in fields else None,
        unit_price=fields["unit_price"].decimal(),
        flat_amount=fields["flat_amount"].decimal() if "flat_amount" in fields else Decimal(0),
    )


def _text(fields: dict[str, Value], name: str, *, max_length: int = 200) -> str:
    return fields[name].text(max_length=max_length) if name in fields else ""
