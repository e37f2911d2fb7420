"""Knows how seller.yaml is written, and of catalog.yaml what the other files refer to."""

from __future__ import annotations

import re
from typing import Final

from common.document import Value, parse
from tools.demo.example import Address, Catalog, Plan, Price, Seller
from tools.meters import read_meters

_PREFIX: Final = re.compile(r"[A-Z0-9-]{1,16}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


def parse_seller(document: Value) -> Seller:
    fields = document.fields(
        required=["display_name", "address"],
        optional=["tax_id", "email", "payment_instructions", "invoice_number_prefix", "invoice_numbering"],
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
        is_numbered_yearly="invoice_numbering" in fields and _is_yearly(fields["invoice_numbering"]),
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


def _is_yearly(value: Value) -> bool:
    written = value.text()
    if written not in ("CONTINUOUS", "YEARLY"):
        raise value.fault("must be CONTINUOUS or YEARLY")
    return written == "YEARLY"


def _country(value: Value) -> str:
    written = value.text(max_length=2)
    if not _COUNTRY.fullmatch(written):
        raise value.fault("must be a country's code of two letters, such as GB")
    return written


def parse_catalog(text: str, name: str) -> Catalog:
    """What the other files refer to. All else, and what is sound, is for the catalog to say when it gets the text."""
    document = parse(text, name)
    fields = document.fields(required=["products", "plans"], others=True)
    meters = [meter for meter, _ in read_meters(document)]
    codes = {meter.code for meter in meters}
    plans: dict[str, Plan] = {}
    for plan in fields["plans"].each(lambda plan: _plan(plan, codes)):
        plans.setdefault(plan.code, plan)  # what stands further on is a version of it
    return Catalog(document=text, meters=tuple(meters), plans=tuple(plans.values()))


def _plan(value: Value, meters: set[str]) -> Plan:
    fields = value.fields(required=["code"], optional=["prices"], others=True)
    prices = fields["prices"].each(lambda price: _price(price, meters)) if "prices" in fields else []
    return Plan(code=fields["code"].code(), prices=tuple(prices))


def _price(value: Value, meters: set[str]) -> Price:
    fields = value.fields(required=["code", "currency"], optional=["meter"], others=True)
    return Price(
        code=fields["code"].code(),
        currency=fields["currency"].scalar("a currency"),
        meter=fields["meter"].reference(meters, "meter") if "meter" in fields else "",
    )


def _text(fields: dict[str, Value], name: str, *, max_length: int = 200) -> str:
    return fields[name].text(max_length=max_length) if name in fields else ""
