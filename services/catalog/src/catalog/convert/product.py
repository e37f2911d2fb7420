"""Knows how products and their tax codes look on the wire."""

from __future__ import annotations

from catalog.domain.product import Product, TaxCode
from common import wire
from saldo.catalog.v1 import product_pb2


def product_to_proto(product: Product) -> product_pb2.Product:
    return product_pb2.Product(
        id=product.id,
        code=product.code,
        display_name=product.display_name,
        description=product.description,
        unit_label=product.unit_label,
        tax_code=product.tax_code,
        revision=product.revision,
        create_time=wire.timestamp(product.create_time),
    )


def tax_code_to_proto(tax_code: TaxCode) -> product_pb2.TaxCode:
    return product_pb2.TaxCode(
        id=tax_code.id,
        code=tax_code.code,
        display_name=tax_code.display_name,
        description=tax_code.description,
        create_time=wire.timestamp(tax_code.create_time),
    )
