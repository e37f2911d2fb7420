"""Knows how sellers are stored."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from catalog.domain.errors import SellerNotFound
from catalog.domain.seller import InvoiceNumbering, Mode, Seller
from catalog.store.tables import sellers
from common.db import Tx
from common.ids import SellerId


async def add_seller(tx: Tx, seller: Seller) -> None:
    await tx.execute(insert(sellers).values(_seller_row(seller)))


async def seller(tx: Tx, seller_id: SellerId, *, lock: bool = False) -> Seller:
    query = select(sellers).where(sellers.c.seller_id == seller_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise SellerNotFound(f"there is no seller {seller_id}", seller=seller_id)
    return Seller(
        id=SellerId(row.seller_id),
        mode=Mode[row.mode],
        display_name=row.display_name,
        address=row.address,
        tax_id=row.tax_id,
        email=row.email,
        payment_instructions=row.payment_instructions,
        invoice_number_prefix=row.invoice_number_prefix,
        invoice_numbering=InvoiceNumbering[row.invoice_numbering],
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )


async def save_seller(tx: Tx, seller: Seller) -> None:
    await tx.execute(update(sellers).where(sellers.c.seller_id == seller.id).values(_seller_row(seller)))


def _seller_row(seller: Seller) -> dict[str, object]:
    return {
        "seller_id": seller.id,
        "mode": seller.mode.name,
        "display_name": seller.display_name,
        "address": seller.address,
        "tax_id": seller.tax_id,
        "email": seller.email,
        "payment_instructions": seller.payment_instructions,
        "invoice_number_prefix": seller.invoice_number_prefix,
        "invoice_numbering": seller.invoice_numbering.name,
        "revision": seller.revision,
        "create_time": seller.create_time,
        "update_time": seller.update_time,
    }
