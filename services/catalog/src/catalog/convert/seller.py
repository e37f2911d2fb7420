"""Knows how a seller looks on the wire."""

from __future__ import annotations

from google.type import postal_address_pb2

from catalog.convert.limits import NAME_LENGTH_MAX
from catalog.domain.seller import InvoiceNumbering, Seller
from common import wire
from common.errors import InvalidArgument
from saldo.catalog.v1 import seller_pb2


def seller_to_proto(seller: Seller) -> seller_pb2.Seller:
    return seller_pb2.Seller(
        id=seller.id,
        mode=seller_pb2.Seller.Mode.Value(seller.mode.name),
        display_name=seller.display_name,
        address=postal_address_pb2.PostalAddress.FromString(seller.address),
        tax_id=seller.tax_id,
        email=seller.email,
        payment_instructions=seller.payment_instructions,
        invoice_number_prefix=seller.invoice_number_prefix,
        invoice_numbering=seller_pb2.Seller.InvoiceNumbering.Value(seller.invoice_numbering.name),
        revision=seller.revision,
        create_time=wire.timestamp(seller.create_time),
        update_time=wire.timestamp(seller.update_time),
    )


def numbering_from_proto(numbering: seller_pb2.Seller.InvoiceNumbering.ValueType) -> InvoiceNumbering | None:
    """None when nothing is said."""
    if not numbering:
        return None
    return InvoiceNumbering[wire.enum_name(seller_pb2.Seller.InvoiceNumbering, numbering, field="invoice_numbering")]


def address_bytes(proto: postal_address_pb2.PostalAddress, *, field: str = "address") -> bytes:
    """An address as it is stored and printed; each part is checked as text."""
    if len(proto.region_code) != 2 or not proto.region_code.isascii() or not proto.region_code.isupper():
        raise InvalidArgument("must be a two-letter country code (ISO 3166)", field=f"{field}.region_code")
    for part in ("postal_code", "locality", "administrative_area", "organization", "sorting_code", "sublocality"):
        wire.text(getattr(proto, part), field=f"{field}.{part}", max_length=NAME_LENGTH_MAX, required=False)
    for part in ("address_lines", "recipients"):
        lines = getattr(proto, part)
        if len(lines) > 10:
            raise InvalidArgument("must have at most 10 lines", field=f"{field}.{part}")
        for n, line in enumerate(lines):
            wire.text(line, field=f"{field}.{part}[{n}]", max_length=NAME_LENGTH_MAX)
    return proto.SerializeToString(deterministic=True)
