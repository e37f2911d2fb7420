"""Knows how products and their tax codes are stored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select, update

from catalog.domain.errors import ProductCodeTaken, ProductNotFound, TaxCodeNotFound, TaxCodeTaken
from catalog.domain.product import Product, ProductId, TaxCode, TaxCodeId
from catalog.store.rows import inserted
from catalog.store.tables import products, tax_codes
from common.db import Tx


async def add_product(tx: Tx, product: Product) -> None:
    if not await inserted(tx, products, _product_row(tx, product)):
        raise ProductCodeTaken(f"there is a product {product.code} already", code=product.code)


async def save_product(tx: Tx, product: Product) -> None:
    await tx.execute(
        update(products)
        .where(products.c.seller_id == tx.seller_id, products.c.id == product.id)
        .values(_product_row(tx, product))
    )


async def product(tx: Tx, product_id: ProductId, *, lock: bool = False) -> Product:
    query = select(products).where(products.c.seller_id == tx.seller_id, products.c.id == product_id)
    # Its key never changes: prices that refer to it can be written meanwhile.
    row = (await tx.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    if row is None:
        raise ProductNotFound(f"there is no product {product_id}", product=product_id)
    return _product(row)


async def products_by_id(tx: Tx, product_ids: Collection[ProductId]) -> dict[ProductId, Product]:
    """Those that exist."""
    query = select(products).where(products.c.seller_id == tx.seller_id, products.c.id.in_(product_ids))
    return {ProductId(row.id): _product(row) for row in await tx.execute(query)}


async def list_products(tx: Tx, *, after: str, limit: int) -> list[Product]:
    query = (
        select(products)
        .where(products.c.seller_id == tx.seller_id, products.c.id > after)
        .order_by(products.c.id)
        .limit(limit)
    )
    return [_product(row) for row in await tx.execute(query)]


async def add_tax_code(tx: Tx, tax_code: TaxCode) -> None:
    values = {
        "seller_id": tx.seller_id,
        "id": tax_code.id,
        "code": tax_code.code,
        "display_name": tax_code.display_name,
        "description": tax_code.description,
        "create_time": tax_code.create_time,
    }
    if not await inserted(tx, tax_codes, values):
        raise TaxCodeTaken(f"there is a tax code {tax_code.code} already", code=tax_code.code)


async def check_tax_code(tx: Tx, code: str) -> None:
    """TAX_CODE_NOT_FOUND unless there is one of this code."""
    query = select(tax_codes.c.id).where(tax_codes.c.seller_id == tx.seller_id, tax_codes.c.code == code)
    if (await tx.execute(query)).one_or_none() is None:
        raise TaxCodeNotFound(f"there is no tax code {code}", code=code)


async def list_tax_codes(tx: Tx, *, after: str, limit: int) -> list[TaxCode]:
    query = (
        select(tax_codes)
        .where(tax_codes.c.seller_id == tx.seller_id, tax_codes.c.id > after)
        .order_by(tax_codes.c.id)
        .limit(limit)
    )
    return [
        TaxCode(
            id=TaxCodeId(row.id),
            code=row.code,
            display_name=row.display_name,
            description=row.description,
            create_time=row.create_time,
        )
        for row in await tx.execute(query)
    ]


def _product_row(tx: Tx, product: Product) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": product.id,
        "code": product.code,
        "display_name": product.display_name,
        "description": product.description,
        "unit_label": product.unit_label,
        "tax_code": product.tax_code,
        "revision": product.revision,
        "create_time": product.create_time,
    }


def _product(row: Row[Any]) -> Product:  # Any: a row of `products`
    return Product(
        id=ProductId(row.id),
        code=row.code,
        display_name=row.display_name,
        description=row.description,
        unit_label=row.unit_label,
        tax_code=row.tax_code,
        revision=row.revision,
        create_time=row.create_time,
    )
