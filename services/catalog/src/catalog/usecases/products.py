"""Creates and changes products, and the codes of how they are taxed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from catalog import store
from catalog.convert import product_to_proto, tax_code_to_proto
from catalog.domain.product import Product, ProductId, TaxCode, TaxCodeId
from common.db import Tx
from saldo.catalog.v1 import events_pb2 as events


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductTexts:
    """What is said about a product; None leaves it as it is."""

    display_name: str | None
    description: str | None
    unit_label: str | None
    tax_code: str | None


async def create_product(
    tx: Tx, *, code: str, display_name: str, description: str, unit_label: str, tax_code: str
) -> Product:
    product = Product(
        id=ProductId(tx.new_id("prod")),
        code=code,
        display_name=display_name,
        description=description,
        unit_label=unit_label,
        tax_code=tax_code,
        revision=1,
        create_time=tx.now,
    )
    if tax_code:
        await store.check_tax_code(tx, tax_code)
    await store.add_product(tx, product)
    await tx.emit(events.ProductCreated(product=product_to_proto(product)))
    return product


async def update_product(tx: Tx, product_id: ProductId, texts: ProductTexts) -> Product:
    old = await store.product(tx, product_id, lock=True)
    if texts.tax_code:
        await store.check_tax_code(tx, texts.tax_code)
    product = replace(
        old,
        display_name=old.display_name if texts.display_name is None else texts.display_name,
        description=old.description if texts.description is None else texts.description,
        unit_label=old.unit_label if texts.unit_label is None else texts.unit_label,
        tax_code=old.tax_code if texts.tax_code is None else texts.tax_code,
        revision=old.revision + 1,
    )
    await store.save_product(tx, product)
    await tx.emit(events.ProductUpdated(product=product_to_proto(product)))
    return product


async def create_tax_code(tx: Tx, *, code: str, display_name: str, description: str) -> TaxCode:
    tax_code = TaxCode(
        id=TaxCodeId(tx.new_id("taxcode")),
        code=code,
        display_name=display_name,
        description=description,
        create_time=tx.now,
    )
    await store.add_tax_code(tx, tax_code)
    await tx.emit(events.TaxCodeCreated(tax_code=tax_code_to_proto(tax_code)))
    return tax_code
