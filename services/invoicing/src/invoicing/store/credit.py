"""Knows how credit is kept: wallets that are locked, changed and saved, many at once, and the questions about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, Text, any_, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from common.money import Money
from common.telemetry import traceparent
from invoicing.domain.credit import (
    Applied,
    Grant,
    GrantId,
    GrantKind,
    Holding,
    HoldingKey,
    Movement,
    MovementKind,
    Recorded,
    Scope,
    Source,
    Wallet,
)
from invoicing.domain.errors import CreditGrantNotFound
from invoicing.store.credit_tables import credit_grants, credit_holdings, credit_movements
from invoicing.store.many import insert_rows, update_rows
from invoicing.store.merged import hold_customer, merged_into

GRANTS_EXPIRING: Final = select(
    credit_grants.c.seller_id,
    credit_grants.c.id,
    credit_grants.c.expire_time.label("due_time"),
    credit_grants.c.traceparent,
).where(credit_grants.c.expire_time.is_not(None), credit_grants.c.remaining_minor > credit_grants.c.reserved_minor)

_OPEN: Final = credit_grants.c.remaining_minor > 0


class GrantFilter(NamedTuple):
    """Which grants are asked for; what is empty does not matter."""

    customer_id: str = ""
    open_only: bool = False


# Locking and saving


async def add_holding(tx: Tx, key: HoldingKey) -> None:
    """Unless there is one. Nobody merges the customer meanwhile without seeing it."""
    known = select(credit_holdings.c.id).where(
        credit_holdings.c.seller_id == tx.seller_id,
        credit_holdings.c.customer_id == key.customer_id,
        credit_holdings.c.currency == key.currency,
    )
    if (await tx.execute(known)).first() is not None:
        return
    await hold_customer(tx, key.customer_id)
    holding = Holding(id=tx.new_id("chol"), key=key, merged_into_id=await merged_into(tx, key.customer_id))
    await tx.execute(insert(credit_holdings).values(_holding_row(tx, holding)).on_conflict_do_nothing())


async def lock_wallets(
    tx: Tx, customer_ids: Collection[str], *, grant_ids: Collection[GrantId] = ()
) -> dict[HoldingKey, Wallet]:
    """All that some customers have; of their grants also those named of which nothing is left.

    In all currencies, and in one order: who locks one wallet of a customer never waits for another one of it.
    """
    holdings = [_holding(row) for row in await tx.execute(_holdings(tx, customer_ids).with_for_update())]
    # Read by a second statement: only then is what the one before us did sure to be there.
    return await _wallets(tx, holdings, grant_ids)


async def look_at_wallets(tx: Tx, customer_ids: Collection[str]) -> dict[HoldingKey, Wallet]:
    """The same as they are now, and anybody may change them."""
    holdings = [_holding(row) for row in await tx.execute(_holdings(tx, customer_ids))]
    return await _wallets(tx, holdings, ())


async def save_wallets(tx: Tx, wallets: Iterable[Wallet]) -> None:
    """What was done with them since they were locked, in at most three statements."""
    movements = [movement for wallet in wallets for movement in wallet.movements]
    moved = {movement.grant.id for movement in movements}
    new = {movement.grant.id for movement in movements if movement.kind is MovementKind.GRANTED}
    changed = [grant for wallet in wallets for grant in wallet.grants if grant.id in moved]
    await insert_rows(tx, credit_grants, [_grant_row(tx, grant) for grant in changed if grant.id in new])
    kept = [_changing(grant) | {"seller_id": tx.seller_id} for grant in changed if grant.id not in new]
    await update_rows(tx, credit_grants, kept, key="id")
    await insert_rows(tx, credit_movements, [_movement_row(tx, movement) for movement in movements])


async def save_holding(tx: Tx, holding: Holding) -> None:
    await tx.execute(
        update(credit_holdings)
        .where(credit_holdings.c.seller_id == tx.seller_id, credit_holdings.c.id == holding.id)
        .values(_holding_row(tx, holding))
    )


# Asking


async def list_wallets(tx: Tx, *, customer_id: str, after: HoldingKey | None, limit: int) -> list[Wallet]:
    """In order of customers and currencies."""
    query = select(credit_holdings).where(credit_holdings.c.seller_id == tx.seller_id)
    if customer_id:
        query = query.where(credit_holdings.c.customer_id == customer_id)
    if after is not None:
        place = tuple_(credit_holdings.c.customer_id, credit_holdings.c.currency)
        query = query.where(place > tuple_(literal(after.customer_id), literal(after.currency)))
    query = query.order_by(credit_holdings.c.customer_id, credit_holdings.c.currency).limit(limit)
    holdings = [_holding(row) for row in await tx.execute(query)]
    return list((await _wallets(tx, holdings, ())).values())


async def credit_grant(tx: Tx, grant_id: GrantId) -> Grant:
    query = select(credit_grants).where(credit_grants.c.seller_id == tx.seller_id, credit_grants.c.id == grant_id)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise CreditGrantNotFound(f"there is no grant {grant_id}", grant=grant_id)
    return _grant(row)


async def list_grants(tx: Tx, wanted: GrantFilter, *, after: str, limit: int) -> list[Grant]:
    """Oldest first."""
    query = select(credit_grants).where(credit_grants.c.seller_id == tx.seller_id, credit_grants.c.id > after)
    if wanted.customer_id:
        query = query.where(credit_grants.c.customer_id == wanted.customer_id)
    if wanted.open_only:
        query = query.where(_OPEN)
    return [_grant(row) for row in await tx.execute(query.order_by(credit_grants.c.id).limit(limit))]


async def list_movements(tx: Tx, *, customer_id: str, grant_id: str, after: str, limit: int) -> list[Recorded]:
    """Oldest first."""
    moves = credit_movements.c
    query = select(credit_movements).where(moves.seller_id == tx.seller_id, moves.id > after)
    if customer_id:
        query = query.where(moves.customer_id == customer_id)
    if grant_id:
        query = query.where(moves.grant_id == grant_id)
    return [_recorded(row) for row in await tx.execute(query.order_by(moves.id).limit(limit))]


async def owners_of(tx: Tx, grant_ids: Collection[str]) -> set[str]:
    """Whose grants they are."""
    query = select(credit_grants.c.customer_id).where(
        credit_grants.c.seller_id == tx.seller_id, credit_grants.c.id == any_(literal(sorted(grant_ids), ARRAY(Text)))
    )
    return set((await tx.execute(query)).scalars())


async def applied_to(tx: Tx, document_ids: Collection[str]) -> dict[str, list[Applied]]:
    """What documents have taken up of grants and not given back, by document: in the order in which they did."""
    return await _parts(tx, document_ids, more=MovementKind.APPLIED, less=(MovementKind.RETURNED,))


async def reserved_by(tx: Tx, document_ids: Collection[str]) -> dict[str, list[Applied]]:
    """What reservations have set aside of grants and neither used nor let go of, by reservation: in order."""
    less = (MovementKind.RELEASED, MovementKind.COMMITTED)
    return await _parts(tx, document_ids, more=MovementKind.RESERVED, less=less)


async def _parts(
    tx: Tx, document_ids: Collection[str], *, more: MovementKind, less: Sequence[MovementKind]
) -> dict[str, list[Applied]]:
    moves = credit_movements.c
    query = (
        select(credit_movements)
        .where(
            moves.seller_id == tx.seller_id,
            moves.document_id == any_(literal(sorted(document_ids), ARRAY(Text))),
            moves.kind.in_([more.name, *(kind.name for kind in less)]),
        )
        .order_by(moves.id)
    )
    found: dict[tuple[str, GrantId], Applied] = {}
    for row in await tx.execute(query):
        place = (row.document_id, GrantId(row.grant_id))
        amount = Money(row.amount_minor, row.currency)
        if row.kind == more.name:
            found[place] = Applied(place[1], amount, row.create_time)
        else:
            found[place] = found[place]._replace(amount=found[place].amount - amount)
    by_document: dict[str, list[Applied]] = defaultdict(list)
    for (document_id, _), part in found.items():
        if part.amount.minor:
            by_document[document_id].append(part)
    return by_document


def _holdings(tx: Tx, customer_ids: Collection[str]) -> Select[Any]:  # Any: the columns of `credit_holdings`
    return (
        select(credit_holdings)
        .where(
            credit_holdings.c.seller_id == tx.seller_id,
            credit_holdings.c.customer_id == any_(literal(sorted(customer_ids), ARRAY(Text))),
        )
        .order_by(credit_holdings.c.customer_id, credit_holdings.c.currency)
    )


async def _wallets(tx: Tx, holdings: Sequence[Holding], grant_ids: Collection[GrantId]) -> dict[HoldingKey, Wallet]:
    if not holdings:
        return {}
    customer_ids = sorted({holding.key.customer_id for holding in holdings})
    query = select(credit_grants).where(
        credit_grants.c.seller_id == tx.seller_id,
        credit_grants.c.customer_id == any_(literal(customer_ids, ARRAY(Text))),
        or_(_OPEN, credit_grants.c.id == any_(literal(sorted(grant_ids), ARRAY(Text)))) if grant_ids else _OPEN,
    )
    grants: dict[HoldingKey, list[Grant]] = defaultdict(list)
    for row in await tx.execute(query):
        grants[HoldingKey(row.customer_id, row.currency)].append(_grant(row))
    return {holding.key: Wallet.open(holding, grants[holding.key], at=tx.now) for holding in holdings}


def _holding(row: Row[Any]) -> Holding:  # Any: a row of `credit_holdings`
    return Holding(
        id=row.id,
        key=HoldingKey(row.customer_id, row.currency),
        low_threshold=_amount(row.low_threshold_minor, row.currency),
        is_low=row.is_low,
        low_count=row.low_count,
        top_up_threshold=_amount(row.top_up_threshold_minor, row.currency),
        merged_into_id=row.merged_into_id,
        revision=row.revision,
    )


def _holding_row(tx: Tx, holding: Holding) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "customer_id": holding.key.customer_id,
        "currency": holding.key.currency,
        "id": holding.id,
        "low_threshold_minor": None if holding.low_threshold is None else holding.low_threshold.minor,
        "is_low": holding.is_low,
        "low_count": holding.low_count,
        "top_up_threshold_minor": None if holding.top_up_threshold is None else holding.top_up_threshold.minor,
        "merged_into_id": holding.merged_into_id,
        "revision": holding.revision,
    }


def _grant(row: Row[Any]) -> Grant:  # Any: a row of `credit_grants`
    return Grant(
        id=GrantId(row.id),
        customer_id=row.customer_id,
        amount=Money(row.amount_minor, row.currency),
        kind=GrantKind[row.kind],
        priority=row.priority,
        effective_time=row.effective_time,
        expire_time=row.expire_time,
        scope=_scope(row.scope),
        source=Source[row.source],
        document_id=row.document_id,
        note=row.note,
        remaining=Money(row.remaining_minor, row.currency),
        reserved=Money(row.reserved_minor, row.currency),
        expired_time=row.expired_time,
        expire_count=row.expire_count,
        revoked_time=row.revoked_time,
        revision=row.revision,
        create_time=row.create_time,
    )


def _grant_row(tx: Tx, grant: Grant) -> dict[str, object]:
    return _changing(grant) | {
        "seller_id": tx.seller_id,
        "customer_id": grant.customer_id,
        "currency": grant.amount.currency,
        "amount_minor": grant.amount.minor,
        "kind": grant.kind.name,
        "priority": grant.priority,
        "effective_time": grant.effective_time,
        "scope": _scope_row(grant.scope),
        "source": grant.source.name,
        "document_id": grant.document_id,
        "note": grant.note,
        "create_time": grant.create_time,
        "traceparent": traceparent(),
    }


def _changing(grant: Grant) -> dict[str, object]:
    return {
        "id": grant.id,
        "expire_time": grant.expire_time,
        "remaining_minor": grant.remaining.minor,
        "reserved_minor": grant.reserved.minor,
        "expired_time": grant.expired_time,
        "expire_count": grant.expire_count,
        "revoked_time": grant.revoked_time,
        "revision": grant.revision,
    }


_SCOPES: Final = ("product_ids", "price_ids", "meters", "subscription_ids")


def _scope_row(scope: Scope) -> dict[str, list[str]]:
    """What is not named is left out."""
    return {name: sorted(getattr(scope, name)) for name in _SCOPES if getattr(scope, name)}


def _scope(stored: Mapping[str, Sequence[str]]) -> Scope:
    return Scope(**{name: frozenset(stored[name]) for name in _SCOPES if name in stored})


def _movement_row(tx: Tx, movement: Movement) -> dict[str, object]:
    grant = movement.grant
    return {
        "seller_id": tx.seller_id,
        "grant_id": grant.id,
        "ordinal": movement.ordinal,
        "id": tx.new_id("cmov"),
        "customer_id": grant.customer_id,
        "currency": grant.amount.currency,
        "kind": movement.kind.name,
        "amount_minor": movement.amount.minor,
        "remaining_minor": grant.remaining.minor,
        "reserved_minor": grant.reserved.minor,
        "document_id": movement.document_id,
        "create_time": tx.now,
    }


def _recorded(row: Row[Any]) -> Recorded:  # Any: a row of `credit_movements`
    return Recorded(
        id=row.id,
        grant_id=GrantId(row.grant_id),
        customer_id=row.customer_id,
        kind=MovementKind[row.kind],
        amount=Money(row.amount_minor, row.currency),
        remaining=Money(row.remaining_minor, row.currency),
        reserved=Money(row.reserved_minor, row.currency),
        document_id=row.document_id,
        ordinal=row.ordinal,
        create_time=row.create_time,
    )


def _amount(minor: int | None, currency: str) -> Money | None:
    return None if minor is None else Money(minor, currency)
