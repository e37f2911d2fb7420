"""Knows how tax ids are stored: numbers sealed under the customer's key, and told apart by a digest made with it."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.vault import DataKey
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import PersonalDataErased, TaxIdNotFound, TaxIdTaken
from subscriptions.domain.tax_id import State, TaxId, TaxIdId, TaxNumber
from subscriptions.store.personal_data import data_key, find_data_key
from subscriptions.store.tables import tax_ids

LABEL: Final = "tax id"

TAX_IDS_DUE: Final = select(
    tax_ids.c.seller_id, tax_ids.c.id, tax_ids.c.next_try_time.label("due_time")
).where(tax_ids.c.next_try_time.is_not(None))  # fmt: skip


async def add_tax_id(tx: Tx, tax_id: TaxId) -> None:
    """The customer's row is locked."""
    key = await data_key(tx, tax_id.customer_id)
    # The kind is part of it: two authorities may have given out the same digits.
    told_apart = f"{tax_id.number.kind} {tax_id.number.value}".encode()
    new = insert(tax_ids).values(
        {
            "seller_id": tx.seller_id,
            "id": tax_id.id,
            "customer_id": tax_id.customer_id,
            "kind": tax_id.number.kind,
            "country": tax_id.number.country,
            "sealed_value": key.seal(tax_id.number.value.encode(), label=_label(tax_id.id)),
            "value_digest": key.digest(told_apart, label=LABEL),
            "create_time": tax_id.create_time,
            **_changing(tax_id),
        }
    )
    if not (await tx.execute(new.on_conflict_do_nothing())).rowcount:
        raise TaxIdTaken(
            f"customer {tax_id.customer_id} has this tax id already",
            customer=tax_id.customer_id,
            kind=tax_id.number.kind,
        )


async def count_tax_ids(tx: Tx, customer_id: CustomerId) -> int:
    query = select(func.count()).where(tax_ids.c.seller_id == tx.seller_id, tax_ids.c.customer_id == customer_id)
    return int((await tx.execute(query)).scalar_one())


async def tax_id(tx: Tx, tax_id_id: TaxIdId, *, lock: bool = False) -> TaxId:
    found = await find_tax_id(tx, tax_id_id, lock=lock)
    if found is None:
        raise TaxIdNotFound(f"there is no tax id {tax_id_id}", tax_id=tax_id_id)
    return found


async def find_tax_id(tx: Tx, tax_id_id: TaxIdId, *, lock: bool = False) -> TaxId | None:
    query = select(tax_ids).where(tax_ids.c.seller_id == tx.seller_id, tax_ids.c.id == tax_id_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        return None
    return _tax_id(row, await _key(tx, CustomerId(row.customer_id)))


async def list_tax_ids(tx: Tx, customer_id: CustomerId, *, after: str, limit: int, lock: bool = False) -> list[TaxId]:
    query = (
        select(tax_ids)
        .where(tax_ids.c.seller_id == tx.seller_id, tax_ids.c.customer_id == customer_id, tax_ids.c.id > after)
        .order_by(tax_ids.c.id)
        .limit(limit)
    )
    rows = (await tx.execute(query.with_for_update() if lock else query)).all()
    if not rows:
        return []
    key = await _key(tx, customer_id)
    return [_tax_id(row, key) for row in rows]


async def save_tax_id(tx: Tx, tax_id: TaxId) -> None:
    await tx.execute(
        update(tax_ids).where(tax_ids.c.seller_id == tx.seller_id, tax_ids.c.id == tax_id.id).values(_changing(tax_id))
    )


async def remove_tax_id(tx: Tx, tax_id_id: TaxIdId) -> None:
    await tx.execute(delete(tax_ids).where(tax_ids.c.seller_id == tx.seller_id, tax_ids.c.id == tax_id_id))


async def _key(tx: Tx, customer_id: CustomerId) -> DataKey:
    key = await find_data_key(tx, customer_id)
    if key is None:  # between the two questions
        raise PersonalDataErased(f"the personal data of customer {customer_id} was erased", customer=customer_id)
    return key


def _changing(tax_id: TaxId) -> dict[str, object]:
    return {
        "state": tax_id.state.name,
        "tries": tax_id.tries,
        "next_try_time": tax_id.next_try_time,
        "check_time": tax_id.check_time,
        "revision": tax_id.revision,
    }


def _label(tax_id_id: str) -> str:
    return f"{LABEL} {tax_id_id}"


def _tax_id(row: Row[Any], key: DataKey) -> TaxId:  # Any: a row of `tax_ids`
    value = key.open(row.sealed_value, label=_label(row.id)).decode()
    return TaxId(
        id=TaxIdId(row.id),
        customer_id=CustomerId(row.customer_id),
        number=TaxNumber(kind=row.kind, country=row.country, value=value),
        state=State[row.state],
        tries=row.tries,
        next_try_time=row.next_try_time,
        check_time=row.check_time,
        revision=row.revision,
        create_time=row.create_time,
    )
