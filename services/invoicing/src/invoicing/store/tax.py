"""Knows how tax rates and the rules about them are stored, and the questions asked of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Row, Text, and_, any_, func, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from invoicing.domain.errors import TaxRateExists, TaxRateNotFound, TaxRuleExists, TaxRuleNotFound
from invoicing.domain.tax import TaxRate, TaxRateId
from invoicing.domain.tax_rules import Scope, ScopeKey, TaxRule, TaxRuleId
from invoicing.store.tables import tax_rates, tax_rules

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


async def add_tax_rate(tx: Tx, rate: TaxRate) -> None:
    added = await tx.execute(
        insert(tax_rates)
        .values(
            seller_id=tx.seller_id,
            id=rate.id,
            name=rate.name,
            category=rate.category,
            percent=rate.percent,
            is_inclusive=rate.is_inclusive,
            is_compound=rate.is_compound,
            exemption_reason=rate.exemption_reason,
            country=rate.country,
            region=rate.region,
            create_time=rate.create_time,
        )
        .on_conflict_do_nothing()
    )
    if not added.rowcount:
        raise TaxRateExists(f"there is a rate {rate.name} of {rate.percent:f} % that says the same", name=rate.name)


async def tax_rate(tx: Tx, rate_id: TaxRateId, *, lock: bool = False) -> TaxRate:
    query = select(tax_rates).where(tax_rates.c.seller_id == tx.seller_id, tax_rates.c.id == rate_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise TaxRateNotFound(f"there is no tax rate {rate_id}", tax_rate=rate_id)
    return _rate(row)


async def tax_rates_named(tx: Tx, rate_ids: Collection[str]) -> dict[str, TaxRate]:
    """Those of them that there are."""
    query = select(tax_rates).where(
        tax_rates.c.seller_id == tx.seller_id, tax_rates.c.id == any_(literal(sorted(set(rate_ids)), ARRAY(Text)))
    )
    return {row.id: _rate(row) for row in await tx.execute(query)}


async def list_tax_rates(tx: Tx, *, after: str, limit: int) -> list[TaxRate]:
    query = (
        select(tax_rates)
        .where(tax_rates.c.seller_id == tx.seller_id, tax_rates.c.id > after)
        .order_by(tax_rates.c.id)
        .limit(limit)
    )
    return [_rate(row) for row in await tx.execute(query)]


async def save_archived(tx: Tx, rate: TaxRate) -> None:
    await tx.execute(
        update(tax_rates)
        .where(tax_rates.c.seller_id == tx.seller_id, tax_rates.c.id == rate.id)
        .values(archive_time=rate.archive_time)
    )


async def lock_tax_rules(tx: Tx) -> None:
    """Until this transaction ends: rules are counted and compared before one is added."""
    await tx.execute(_LOCK, {"key": f"tax rules {tx.seller_id}"})


async def add_tax_rule(tx: Tx, rule: TaxRule) -> None:
    added = await tx.execute(
        insert(tax_rules)
        .values(
            seller_id=tx.seller_id,
            id=rule.id,
            scope=rule.scope.scope.name,
            scope_key=rule.scope.key,
            rate_ids=list(rule.rate_ids),
            start_time=rule.start_time,
            create_time=rule.create_time,
        )
        .on_conflict_do_nothing()
    )
    if not added.rowcount:
        raise TaxRuleExists(
            f"a rule of this scope begins at {rule.start_time.isoformat()}", start_time=rule.start_time.isoformat()
        )


async def tax_rule(tx: Tx, rule_id: TaxRuleId, *, lock: bool = False) -> TaxRule:
    query = select(tax_rules).where(tax_rules.c.seller_id == tx.seller_id, tax_rules.c.id == rule_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise TaxRuleNotFound(f"there is no tax rule {rule_id}", tax_rule=rule_id)
    return _rule(row)


async def save_ended(tx: Tx, rule: TaxRule) -> None:
    await tx.execute(
        update(tax_rules)
        .where(tax_rules.c.seller_id == tx.seller_id, tax_rules.c.id == rule.id)
        .values(end_time=rule.end_time)
    )


async def list_tax_rules(tx: Tx, *, scope: ScopeKey | None, after: str, limit: int) -> list[TaxRule]:
    """In order of their ids, which is that in which they were set; of one scope, or of all."""
    query = select(tax_rules).where(tax_rules.c.seller_id == tx.seller_id, tax_rules.c.id > after)
    if scope is not None:
        query = query.where(tax_rules.c.scope == scope.scope.name, tax_rules.c.scope_key == scope.key)
    return [_rule(row) for row in await tx.execute(query.order_by(tax_rules.c.id).limit(limit))]


async def tax_rules_of_scope(tx: Tx, scope: ScopeKey) -> list[TaxRule]:
    query = select(tax_rules).where(
        tax_rules.c.seller_id == tx.seller_id,
        tax_rules.c.scope == scope.scope.name,
        tax_rules.c.scope_key == scope.key,
    )
    return [_rule(row) for row in await tx.execute(query)]


async def count_general_tax_rules(tx: Tx) -> int:
    """All that are looked at for every invoice: not those of customers."""
    query = select(func.count()).where(tax_rules.c.seller_id == tx.seller_id, tax_rules.c.scope != Scope.CUSTOMER.name)
    return int((await tx.execute(query)).scalar_one())


async def tax_rules_for(tx: Tx, customer_ids: Collection[str]) -> list[TaxRule]:
    """All that may decide about the taxes of these customers, at whatever time."""
    customers = any_(literal(sorted(set(customer_ids)), ARRAY(Text)))
    query = select(tax_rules).where(
        tax_rules.c.seller_id == tx.seller_id,
        or_(
            tax_rules.c.scope.in_((Scope.DEFAULT.name, Scope.TAX_CODE.name)),
            and_(tax_rules.c.scope == Scope.CUSTOMER.name, tax_rules.c.scope_key == customers),
        ),
    )
    return [_rule(row) for row in await tx.execute(query)]


def _rate(row: Row[Any]) -> TaxRate:  # Any: a row of `tax_rates`
    return TaxRate(
        id=TaxRateId(row.id),
        name=row.name,
        category=row.category,
        percent=row.percent,
        is_inclusive=row.is_inclusive,
        is_compound=row.is_compound,
        exemption_reason=row.exemption_reason,
        country=row.country,
        region=row.region,
        create_time=row.create_time,
        archive_time=row.archive_time,
    )


def _rule(row: Row[Any]) -> TaxRule:  # Any: a row of `tax_rules`
    return TaxRule(
        id=TaxRuleId(row.id),
        scope=ScopeKey(Scope[row.scope], row.scope_key),
        rate_ids=tuple(TaxRateId(each) for each in row.rate_ids),
        start_time=row.start_time,
        end_time=row.end_time,
        create_time=row.create_time,
    )
