"""Knows how the rules are kept by which credit is bought, and what was bought by them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from common.money import Money
from common.telemetry import traceparent
from invoicing.domain.credit import HoldingKey
from invoicing.domain.errors import CreditTopUpRuleNotFound
from invoicing.domain.invoice import State
from invoicing.domain.top_ups import Calendar, RuleId, TopUpRule
from invoicing.store.credit_tables import credit_holdings, credit_top_up_rules
from invoicing.store.tables import invoices

TOP_UPS_DUE: Final = select(
    credit_top_up_rules.c.seller_id,
    credit_top_up_rules.c.id,
    credit_top_up_rules.c.next_time.label("due_time"),
    credit_top_up_rules.c.traceparent,
).where(credit_top_up_rules.c.next_time.is_not(None))


async def top_up_rule(tx: Tx, rule_id: RuleId, *, lock: bool = False) -> TopUpRule:
    """Also one that was deleted."""
    rules = credit_top_up_rules
    query = select(rules).where(rules.c.seller_id == tx.seller_id, rules.c.id == rule_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise CreditTopUpRuleNotFound(f"there is no rule {rule_id}", rule=rule_id)
    return _rule(row)


async def find_top_up_rule(tx: Tx, key: HoldingKey, *, lock: bool = False) -> TopUpRule | None:
    """The one that counts."""
    rules = credit_top_up_rules
    query = select(rules).where(
        rules.c.seller_id == tx.seller_id,
        rules.c.customer_id == key.customer_id,
        rules.c.currency == key.currency,
        rules.c.delete_time.is_(None),
    )
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _rule(row)


async def list_top_up_rules(tx: Tx, *, after: str, limit: int) -> list[TopUpRule]:
    """Oldest first."""
    rules = credit_top_up_rules
    query = select(rules).where(rules.c.seller_id == tx.seller_id, rules.c.id > after, rules.c.delete_time.is_(None))
    return [_rule(row) for row in await tx.execute(query.order_by(rules.c.id).limit(limit))]


async def save_top_up_rule(tx: Tx, rule: TopUpRule) -> None:
    """As it is, whether there was one or not; and what the wallet has to know of it. That is locked."""
    row = _row(tx, rule)
    saving = insert(credit_top_up_rules).values(row)
    await tx.execute(saving.on_conflict_do_update(index_elements=["seller_id", "id"], set_=row))
    threshold = None if rule.threshold is None or rule.delete_time is not None else rule.threshold.minor
    await tx.execute(
        update(credit_holdings)
        .where(
            credit_holdings.c.seller_id == tx.seller_id,
            credit_holdings.c.customer_id == rule.customer_id,
            credit_holdings.c.currency == rule.amount.currency,
        )
        .values(top_up_threshold_minor=threshold)
    )


async def want_top_ups(tx: Tx, keys: Collection[HoldingKey]) -> None:
    """Have the rules of some wallets, which are locked, looked at now."""
    rules = credit_top_up_rules
    await tx.execute(
        update(rules)
        .where(
            rules.c.seller_id == tx.seller_id,
            tuple_(rules.c.customer_id, rules.c.currency).in_([tuple(key) for key in keys]),
            rules.c.delete_time.is_(None),
            rules.c.threshold_minor.is_not(None),
            rules.c.next_time.is_(None),
        )
        .values(next_time=tx.now, traceparent=traceparent())
    )


async def has_open_top_up(tx: Tx, key: HoldingKey) -> bool:
    """By whichever rule."""
    query = _top_ups(tx, key).where(invoices.c.state == State.OPEN.name)
    return (await tx.execute(query)).first() is not None


async def count_top_ups(tx: Tx, rule: TopUpRule) -> int:
    """How often the rule has bought."""
    bought = _top_ups(tx, rule.key).where(invoices.c.top_up_rule_id == rule.id).subquery()
    return int((await tx.execute(select(func.count()).select_from(bought))).scalar_one())


async def bought_since(tx: Tx, key: HoldingKey, since: datetime, *, limit: int) -> list[datetime]:
    """When there were the last so many top-ups after a time, by whichever rule."""
    query = _top_ups(tx, key).where(invoices.c.create_time > since).order_by(invoices.c.create_time.desc())
    return list((await tx.execute(query.limit(limit))).scalars())


def _top_ups(tx: Tx, key: HoldingKey) -> Select[tuple[datetime]]:
    return select(invoices.c.create_time).where(
        invoices.c.seller_id == tx.seller_id,
        invoices.c.customer_id == key.customer_id,
        invoices.c.currency == key.currency,
        invoices.c.top_up_rule_id != "",
    )


def _row(tx: Tx, rule: TopUpRule) -> dict[str, object]:
    calendar = rule.trigger if isinstance(rule.trigger, Calendar) else None
    return {
        "seller_id": tx.seller_id,
        "id": rule.id,
        "customer_id": rule.customer_id,
        "currency": rule.amount.currency,
        "amount_minor": rule.amount.minor,
        "threshold_minor": None if rule.threshold is None else rule.threshold.minor,
        "start_time": None if calendar is None else calendar.start_time,
        "months": None if calendar is None else calendar.months,
        "time_zone": rule.time_zone,
        "priority": rule.priority,
        "expires_after_days": rule.expires_after_days,
        "per_day_max": rule.per_day_max,
        "next_time": rule.next_time,
        "delete_time": rule.delete_time,
        "revision": rule.revision,
        "create_time": rule.create_time,
        "traceparent": traceparent(),
    }


def _rule(row: Row[Any]) -> TopUpRule:  # Any: a row of `credit_top_up_rules`
    trigger = (
        Calendar(row.start_time, row.months)
        if row.threshold_minor is None
        else Money(row.threshold_minor, row.currency)
    )
    return TopUpRule(
        id=RuleId(row.id),
        customer_id=row.customer_id,
        amount=Money(row.amount_minor, row.currency),
        trigger=trigger,
        time_zone=row.time_zone,
        priority=row.priority,
        expires_after_days=row.expires_after_days,
        per_day_max=row.per_day_max,
        next_time=row.next_time,
        delete_time=row.delete_time,
        revision=row.revision,
        create_time=row.create_time,
    )
