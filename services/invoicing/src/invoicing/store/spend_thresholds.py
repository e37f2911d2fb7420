"""Knows spend thresholds, when to look at what customers have spent, and what was billed early."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, Text, and_, any_, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from common.money import Money
from common.period import Period
from common.telemetry import traceparent
from invoicing.domain.consolidation_policy import Scope
from invoicing.domain.errors import SpendThresholdNotFound
from invoicing.domain.line import LineKey, LineKind
from invoicing.domain.spend_threshold import EarlyLine, SpendThreshold, ThresholdId, Thresholds
from invoicing.store.many import insert_rows
from invoicing.store.spend_tables import early_lines, spend_looks, spend_thresholds
from invoicing.store.tables import billing, invoice_lines

SPEND_LOOKS_DUE: Final = select(
    spend_looks.c.seller_id,
    spend_looks.c.customer_id.label("id"),
    spend_looks.c.look_time.label("due_time"),
    spend_looks.c.traceparent,
)

OPEN_AFTER: Final = timedelta(days=62)
"""How long after a period was to be billed it may still be found to be another one than was billed early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLook:
    """When to look at a customer next."""

    customer_id: str
    time: datetime | None
    """None where there is nothing to look at."""
    is_reached: bool = False
    """Whether it is to be billed, because a threshold is reached."""


async def threshold(tx: Tx, threshold_id: ThresholdId) -> SpendThreshold:
    query = select(spend_thresholds).where(
        spend_thresholds.c.seller_id == tx.seller_id, spend_thresholds.c.id == threshold_id
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise _not_found(threshold_id)
    return _threshold_of(row)


async def list_thresholds(tx: Tx, *, scope: Scope | None, after: str, limit: int) -> list[SpendThreshold]:
    """Those that count."""
    query = select(spend_thresholds).where(
        spend_thresholds.c.seller_id == tx.seller_id,
        spend_thresholds.c.end_time.is_(None),
        spend_thresholds.c.id > after,
    )
    if scope is not None:
        query = query.where(spend_thresholds.c.scope == scope.name)
    return [_threshold_of(row) for row in await tx.execute(query.order_by(spend_thresholds.c.id).limit(limit))]


async def thresholds_for(tx: Tx, *, customer_ids: Collection[str], subscription_ids: Collection[str]) -> Thresholds:
    """All that can count for these subscriptions of these customers."""
    wanted = {Scope.SELLER: {""}, Scope.CUSTOMER: set(customer_ids), Scope.SUBSCRIPTION: set(subscription_ids)}
    query = select(spend_thresholds).where(
        spend_thresholds.c.seller_id == tx.seller_id,
        spend_thresholds.c.end_time.is_(None),
        or_(
            *(
                and_(
                    spend_thresholds.c.scope == scope.name,
                    spend_thresholds.c.scope_id == any_(literal(sorted(scope_ids), ARRAY(Text))),
                )
                for scope, scope_ids in wanted.items()
            )
        ),
    )
    found = [_threshold_of(row) for row in await tx.execute(query)]
    return Thresholds(declared={(each.scope, each.scope_id, each.amount.currency): each for each in found})


async def declare_threshold(tx: Tx, new: SpendThreshold) -> SpendThreshold:
    """In place of the one in its currency there, which stays on record; that one, if it is of the same amount."""
    # Whoever declares one for the same waits here: there is no row yet that could be locked.
    place = f"spend threshold {tx.seller_id} {new.scope.name} {new.scope_id} {new.amount.currency}"
    await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(place, 0))))
    counting = and_(
        spend_thresholds.c.seller_id == tx.seller_id,
        spend_thresholds.c.scope == new.scope.name,
        spend_thresholds.c.scope_id == new.scope_id,
        spend_thresholds.c.currency == new.amount.currency,
        spend_thresholds.c.end_time.is_(None),
    )
    row = (await tx.execute(select(spend_thresholds).where(counting))).one_or_none()
    if row is not None and row.amount_minor == new.amount.minor:
        return _threshold_of(row)
    await tx.execute(update(spend_thresholds).where(counting).values(end_time=tx.now))
    values = {
        "seller_id": tx.seller_id,
        "id": new.id,
        "scope": new.scope.name,
        "scope_id": new.scope_id,
        "currency": new.amount.currency,
        "amount_minor": new.amount.minor,
        "create_time": new.create_time,
    }
    await tx.execute(insert(spend_thresholds).values(values))
    return new


async def end_threshold(tx: Tx, threshold_id: ThresholdId) -> SpendThreshold:
    """As it is then. Fails with SPEND_THRESHOLD_NOT_FOUND, also when it has ended."""
    ended = (
        update(spend_thresholds)
        .where(
            spend_thresholds.c.seller_id == tx.seller_id,
            spend_thresholds.c.id == threshold_id,
            spend_thresholds.c.end_time.is_(None),
        )
        .values(end_time=tx.now)
    )
    row = (await tx.execute(ended.returning(spend_thresholds))).one_or_none()
    if row is None:
        raise _not_found(threshold_id)
    return _threshold_of(row)


async def look_now(tx: Tx, customer_id: str) -> None:
    """Have what a customer spent looked at."""
    row = {"seller_id": tx.seller_id, "customer_id": customer_id, "look_time": tx.now, "is_reached": False}
    await _look(tx, insert(spend_looks).values(**row, traceparent=traceparent()))


async def look_at_all_now(tx: Tx) -> None:
    """Have what all customers of the seller spent looked at."""
    everybody = select(
        billing.c.seller_id, billing.c.customer_id, literal(tx.now), literal(False), literal(traceparent())
    ).where(billing.c.seller_id == tx.seller_id)
    names = ["seller_id", "customer_id", "look_time", "is_reached", "traceparent"]
    await _look(tx, insert(spend_looks).from_select(names, everybody.order_by(billing.c.customer_id)))


async def due_for_look(tx: Tx, customer_ids: Collection[str]) -> list[str]:
    query = select(spend_looks.c.customer_id).where(
        spend_looks.c.seller_id == tx.seller_id,
        spend_looks.c.customer_id == any_(literal(sorted(customer_ids), ARRAY(Text))),
        spend_looks.c.look_time <= tx.now,
    )
    return sorted((await tx.execute(query)).scalars())


async def reached_among(tx: Tx, customer_ids: Collection[str]) -> set[str]:
    """Those of whom something had reached its threshold when they were looked at last."""
    query = select(spend_looks.c.customer_id).where(
        spend_looks.c.seller_id == tx.seller_id,
        spend_looks.c.customer_id == any_(literal(sorted(customer_ids), ARRAY(Text))),
        spend_looks.c.is_reached,
    )
    return set((await tx.execute(query)).scalars())


async def plan_looks(tx: Tx, looks: Sequence[SpendLook]) -> None:
    """In the order in which everybody holds them."""
    ordered = sorted(looks, key=lambda each: each.customer_id)
    rows = [
        {
            "seller_id": tx.seller_id,
            "customer_id": each.customer_id,
            "look_time": each.time,
            "is_reached": each.is_reached,
            "traceparent": "",
        }
        for each in ordered
        if each.time is not None
    ]
    if rows:
        new = insert(spend_looks).values(rows)
        planned = {name: new.excluded[name] for name in ("look_time", "is_reached", "traceparent")}
        await tx.execute(new.on_conflict_do_update(index_elements=["seller_id", "customer_id"], set_=planned))
    ended = [each.customer_id for each in ordered if each.time is None]
    if ended:
        await tx.execute(
            delete(spend_looks).where(
                spend_looks.c.seller_id == tx.seller_id,
                spend_looks.c.customer_id == any_(literal(ended, ARRAY(Text))),
            )
        )


async def add_early_lines(tx: Tx, lines: Sequence[EarlyLine]) -> None:
    await insert_rows(tx, early_lines, [{**_row(each), "seller_id": tx.seller_id} for each in lines])


async def early_lines_of(tx: Tx, *, customer_ids: Collection[str], keys: Collection[LineKey]) -> list[EarlyLine]:
    """What was billed early of these periods, by whomever used them, or of those of some customers that may still be
    under way; also what was annulled.
    """
    of_keys = and_(
        early_lines.c.item_id == any_(literal(sorted({key.item_id for key in keys}), ARRAY(Text))),
        early_lines.c.period_start >= min((key.period_start for key in keys), default=tx.now),
        early_lines.c.period_start <= max((key.period_start for key in keys), default=tx.now),
    )
    of_customers = and_(
        early_lines.c.customer_id == any_(literal(sorted(customer_ids), ARRAY(Text))),
        early_lines.c.bill_time >= tx.now - OPEN_AFTER,
    )
    query = (
        select(early_lines)
        .where(early_lines.c.seller_id == tx.seller_id, or_(of_keys, of_customers))
        .order_by(early_lines.c.create_time, early_lines.c.line_id)
    )
    return [_early_line_of(row) for row in await tx.execute(query)]


async def list_early_lines(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[EarlyLine]:
    query = select(early_lines).where(early_lines.c.seller_id == tx.seller_id, early_lines.c.line_id > after)
    if customer_id:
        query = query.where(early_lines.c.customer_id == customer_id)
    return [_early_line_of(row) for row in await tx.execute(query.order_by(early_lines.c.line_id).limit(limit))]


async def standing_early_lines(tx: Tx, key: LineKey) -> list[EarlyLine]:
    """What was billed early of a period and counts, in the order in which it was billed."""
    query = (
        select(early_lines)
        .join(
            invoice_lines,
            and_(invoice_lines.c.seller_id == early_lines.c.seller_id, invoice_lines.c.id == early_lines.c.line_id),
        )
        .where(
            early_lines.c.seller_id == tx.seller_id,
            early_lines.c.item_id == key.item_id,
            early_lines.c.price_id == key.price_id,
            early_lines.c.period_start == key.period_start,
            early_lines.c.change_id == key.change_id,
            ~invoice_lines.c.voided,
        )
        .order_by(early_lines.c.correction)
    )
    return [_early_line_of(row) for row in await tx.execute(query)]


async def _look(tx: Tx, new: Any) -> None:  # Any: an insert, of values or of what a query finds
    sooner = func.least(spend_looks.c.look_time, new.excluded.look_time)
    # In a sandbox whose clock stands only the trace tells one wish from the other.
    asked = {"look_time": sooner, "traceparent": new.excluded.traceparent}
    await tx.execute(new.on_conflict_do_update(index_elements=["seller_id", "customer_id"], set_=asked))


def _threshold_of(row: Row[Any]) -> SpendThreshold:  # Any: a row of `spend_thresholds`
    return SpendThreshold(
        id=ThresholdId(row.id),
        scope=Scope[row.scope],
        scope_id=row.scope_id,
        amount=Money(row.amount_minor, row.currency),
        create_time=row.create_time,
        end_time=row.end_time,
    )


def _early_line_of(row: Row[Any]) -> EarlyLine:  # Any: a row of `early_lines`
    return EarlyLine(
        key=LineKey(row.item_id, row.price_id, row.period_start, LineKind.OWED, row.change_id),
        line_id=row.line_id,
        invoice_id=row.invoice_id,
        customer_id=row.customer_id,
        subscription_id=row.subscription_id,
        period=Period(row.period_start, row.period_end),
        correction=row.correction,
        bill_time=row.bill_time,
        spend=Money(row.spend_minor, row.currency),
        threshold_id=row.threshold_id,
        create_time=row.create_time,
    )


def _row(line: EarlyLine) -> dict[str, object]:
    return {
        "line_id": line.line_id,
        "invoice_id": line.invoice_id,
        "customer_id": line.customer_id,
        "subscription_id": line.subscription_id,
        "item_id": line.key.item_id,
        "price_id": line.key.price_id,
        "period_start": line.period.start,
        "period_end": line.period.end,
        "change_id": line.key.change_id,
        "correction": line.correction,
        "bill_time": line.bill_time,
        "currency": line.spend.currency,
        "spend_minor": line.spend.minor,
        "threshold_id": line.threshold_id,
        "create_time": line.create_time,
    }


def _not_found(threshold_id: ThresholdId) -> SpendThresholdNotFound:
    return SpendThresholdNotFound(f"there is no spend threshold {threshold_id}", threshold=threshold_id)
