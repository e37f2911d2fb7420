"""Says what taxes apply, by whoever knows: rates given by hand, or later an engine that knows countries.

Asked before the transaction in which something is billed, as all neighbours are. If there is no answer, nothing is
written: what is due stays due, a draft stays a draft, and is never issued without its taxes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Final, Protocol

from common.db import Tx
from common.rpc import Desk
from invoicing import clients
from invoicing.domain.document_totals import Document, DocumentTotals, TaxChoice, document_totals
from invoicing.domain.errors import TaxCodeNotFound, TaxRateNotFound, TaxUnavailable, TooManyTaxRules
from invoicing.domain.party import Customer
from invoicing.domain.tax import TaxRate, TaxRateId, check_rates
from invoicing.domain.tax_rules import (
    CUSTOMER_RULES_MAX,
    RULES_MAX,
    Scope,
    ScopeKey,
    TaxRule,
    TaxRuleId,
    TaxTerms,
    check_start,
)
from invoicing.store import tax as store

ANSWER_SECONDS: Final = 10
"""How long whoever knows the taxes may take, for all customers of one question."""


class TaxProvider(Protocol):
    """Knows what taxes apply."""

    async def terms(self, desk: Desk, customers: Collection[Customer], *, tax_codes: Collection[str]) -> TaxTerms:
        """All that decides about the taxes of these customers, on products of these tax codes and of none, at any time
        up to now and at the next bill time. What they come to is computed from it, by the rounding of EN 16931.
        """
        ...


class RatesByHand:
    """Knows the rates that the seller declared, and the rules about them."""

    async def terms(self, desk: Desk, customers: Collection[Customer], *, tax_codes: Collection[str]) -> TaxTerms:
        async with desk.transaction() as tx:
            rules = await store.tax_rules_for(tx, [customer.party.id for customer in customers])
            named = {rate_id for rule in rules for rate_id in rule.rate_ids}
            rates = await store.tax_rates_named(tx, named) if named else {}
            return TaxTerms.of(rules, rates, as_of=tx.now)


async def tax_terms(
    desk: Desk, provider: TaxProvider, customers: Collection[Customer], *, tax_codes: Collection[str]
) -> TaxTerms:
    """Fails with TAX_UNAVAILABLE when there is no answer in time; whoever waits for it tries again."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await provider.terms(desk, customers, tax_codes=tax_codes)
    except (TimeoutError, ConnectionError) as error:
        raise TaxUnavailable(f"the taxes are not known: {type(error).__name__}") from error


async def calculate(
    desk: Desk, provider: TaxProvider, document: Document, *, customer_id: str, at: datetime | None
) -> DocumentTotals:
    """What a document comes to, by the rules of an instant, now unless another is said. Nothing is stored."""
    choices = [line.tax for line in document.lines] + [each.tax for each in document.adjustments]
    named = {rate_id for choice in choices for rate_id in choice.rate_ids}
    customer = await clients.customer(desk, customer_id) if customer_id else None
    tax_codes = {choice.tax_code for choice in choices if not (choice.rate_ids or choice.rates)}
    terms = await tax_terms(desk, provider, [] if customer is None else [customer], tax_codes=tax_codes)
    declared: dict[str, TaxRate] = {}
    if named:
        async with desk.transaction() as tx:
            declared = await _rates(tx, named)
    when = terms.as_of if at is None else at

    def rates_of(choice: TaxChoice) -> tuple[TaxRate, ...]:
        if choice.rate_ids or choice.rates:
            return (*(declared[rate_id] for rate_id in choice.rate_ids), *choice.rates)
        return terms.rates_for(customer, choice.tax_code, when)

    return document_totals(document, rates_of)


async def create_tax_rate(tx: Tx, rate: TaxRate) -> TaxRate:
    rate.check()
    await store.add_tax_rate(tx, rate)
    return rate


async def archive_tax_rate(tx: Tx, rate_id: TaxRateId) -> TaxRate:
    found = await store.tax_rate(tx, rate_id, lock=True)
    archived = found.archive(tx.now)
    if archived != found:
        await store.save_archived(tx, archived)
    return archived


async def check_scope(desk: Desk, scope: ScopeKey) -> None:
    """A rule about something that does not exist would never apply, and nobody would notice."""
    if scope.scope is Scope.CUSTOMER:
        await clients.customer(desk, scope.key)
    elif scope.scope is Scope.TAX_CODE and not await clients.has_tax_code(desk, scope.key):
        raise TaxCodeNotFound(f"there is no tax code {scope.key}", tax_code=scope.key)


async def set_tax_rule(
    tx: Tx, scope: ScopeKey, rate_ids: tuple[TaxRateId, ...], *, start_time: datetime | None
) -> TaxRule:
    """From an instant on, now unless another is said."""
    rates = await _rates(tx, rate_ids)
    for rate in rates.values():
        rate.check_usable()
    check_rates(list(rates.values()), field="tax_rate_ids")
    await store.lock_tax_rules(tx)
    others = await store.tax_rules_of_scope(tx, scope)
    start = tx.now if start_time is None else start_time
    check_start(start, now=tx.now, others=others)
    if scope.scope is Scope.CUSTOMER:
        count, limit = len(others), CUSTOMER_RULES_MAX
    else:
        count, limit = await store.count_general_tax_rules(tx), RULES_MAX
    if count >= limit:
        raise TooManyTaxRules(f"there are {limit} rules already", limit=limit)
    rule = TaxRule(
        id=TaxRuleId(tx.new_id("taxrule")), scope=scope, rate_ids=rate_ids, start_time=start, create_time=tx.now
    )
    await store.add_tax_rule(tx, rule)
    return rule


async def delete_tax_rule(tx: Tx, rule_id: TaxRuleId) -> TaxRule:
    """From now on its scope has no rule. What it taxed stays as it is."""
    rule = (await store.tax_rule(tx, rule_id, lock=True)).end(tx.now)
    await store.save_ended(tx, rule)
    return rule


async def _rates(tx: Tx, rate_ids: Collection[TaxRateId]) -> dict[str, TaxRate]:
    found = await store.tax_rates_named(tx, rate_ids)
    for rate_id in rate_ids:
        if rate_id not in found:
            raise TaxRateNotFound(f"there is no tax rate {rate_id}", tax_rate=rate_id)
    return found
