"""Creates and changes sellers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from catalog import store
from catalog.convert import seller_to_proto
from catalog.domain.seller import InvoiceNumbering, Mode, Seller
from common import ids
from common.db import Tx
from common.ids import SellerId
from saldo.catalog.v1 import events_pb2 as events


@dataclass(frozen=True, slots=True, kw_only=True)
class Imprint:
    """What is printed about a seller; None leaves it as it is."""

    display_name: str | None
    address: bytes | None
    tax_id: str | None
    email: str | None
    payment_instructions: str | None
    invoice_numbering: InvoiceNumbering | None


async def create_seller(
    tx: Tx, *, imprint: Imprint, invoice_number_prefix: str, sandbox_start: datetime | None
) -> Seller:
    """A new tenant. The id of a sandbox carries the instant at which its clock begins."""
    sandbox = sandbox_start is not None
    seller_id = SellerId(ids.mint(ids.SANDBOX, sandbox_start) if sandbox_start else tx.new_id(ids.SELLER))
    own = await tx.for_seller(seller_id)
    seller = Seller(
        id=seller_id,
        mode=Mode.SANDBOX if sandbox else Mode.LIVE,
        display_name=imprint.display_name or "",
        address=imprint.address or b"",
        tax_id=imprint.tax_id or "",
        email=imprint.email or "",
        payment_instructions=imprint.payment_instructions or "",
        invoice_number_prefix=invoice_number_prefix,
        invoice_numbering=imprint.invoice_numbering or InvoiceNumbering.CONTINUOUS,
        revision=1,
        create_time=own.now,
        update_time=own.now,
    )
    await store.add_seller(own, seller)
    await own.emit(events.SellerCreated(seller=seller_to_proto(seller)))
    return seller


async def get_seller(tx: Tx, seller_id: SellerId) -> Seller:
    return await store.seller(tx, seller_id)


async def update_seller(tx: Tx, imprint: Imprint) -> Seller:
    old = await store.seller(tx, tx.seller_id, lock=True)
    seller = replace(
        old,
        display_name=old.display_name if imprint.display_name is None else imprint.display_name,
        address=old.address if imprint.address is None else imprint.address,
        tax_id=old.tax_id if imprint.tax_id is None else imprint.tax_id,
        email=old.email if imprint.email is None else imprint.email,
        payment_instructions=(
            old.payment_instructions if imprint.payment_instructions is None else imprint.payment_instructions
        ),
        invoice_numbering=imprint.invoice_numbering or old.invoice_numbering,
        revision=old.revision + 1,
        update_time=tx.now,
    )
    await store.save_seller(tx, seller)
    await tx.emit(events.SellerUpdated(seller=seller_to_proto(seller)))
    return seller
