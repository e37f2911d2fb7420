"""Knows which rates apply to what: by rules, each from an instant on, of which the most specific wins.

    CUSTOMER   everything that a customer is billed
    TAX_CODE   the products with a tax code
    DEFAULT    everything else the seller bills

A rule never changes. One that is set takes the place of the one before it in its scope from its own start on, and the
end of a rule leaves its scope without one. So what was billed for an instant can be told from the rules for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple, NewType

from common.period import civil_date
from invoicing.domain.errors import TaxRuleEnded, TaxRuleRetroactive
from invoicing.domain.party import Customer
from invoicing.domain.tax import TaxRate, TaxRateId

TaxRuleId = NewType("TaxRuleId", str)

RULES_MAX: Final = 1_000
"""Of a seller, for tax codes and by default, also those that have ended."""

CUSTOMER_RULES_MAX: Final = 100
"""Of one customer, as above."""


class Scope(Enum):
    """What a rule is about."""

    DEFAULT = "DEFAULT"
    TAX_CODE = "TAX_CODE"
    CUSTOMER = "CUSTOMER"


class ScopeKey(NamedTuple):
    """The scope, and in it the tax code or the customer's id; empty for the default."""

    scope: Scope
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRule:
    """That rates apply to something from an instant on."""

    id: TaxRuleId
    scope: ScopeKey
    rate_ids: tuple[TaxRateId, ...]
    start_time: datetime
    end_time: datetime | None = None
    """From when on its scope has no rule; None until somebody ends it. Before its start: it never was."""
    create_time: datetime

    def end(self, at: datetime) -> TaxRule:
        """Leave its scope without a rule; what has not begun is as if it had never been set."""
        if self.end_time is not None:
            raise TaxRuleEnded(f"tax rule {self.id} has ended", tax_rule=self.id)
        return replace(self, end_time=max(at, self.start_time))

    @property
    def was_ever(self) -> bool:
        return self.end_time is None or self.end_time > self.start_time


def check_start(start: datetime, *, now: datetime, others: Iterable[TaxRule]) -> None:
    """Only the first rule of a scope may begin in the past: nothing else was said of it before."""
    if start < now and any(others):
        raise TaxRuleRetroactive(
            f"{start.isoformat()} is in the past, for which there is a rule",
            start_time=start.isoformat(),
            now=now.isoformat(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxTerms:
    """All that decides about the taxes of some customers, as it was known at an instant."""

    rules: Mapping[ScopeKey, tuple[TaxRule, ...]] = field(default_factory=dict)
    """Of each scope in order of their start."""
    rates: Mapping[str, TaxRate] = field(default_factory=dict)
    as_of: datetime

    @classmethod
    def of(cls, rules: Iterable[TaxRule], rates: Mapping[str, TaxRate], *, as_of: datetime) -> TaxTerms:
        by_scope: dict[ScopeKey, list[TaxRule]] = defaultdict(list)
        for rule in sorted(rules, key=lambda rule: (rule.start_time, rule.id)):
            if rule.was_ever:
                by_scope[rule.scope].append(rule)
        return cls(rules={scope: tuple(found) for scope, found in by_scope.items()}, rates=rates, as_of=as_of)

    def rates_for(self, customer: Customer | None, tax_code: str, at: datetime) -> tuple[TaxRate, ...]:
        """What applies to one thing: by the most specific rule, less what the customer is exempt from."""
        scopes = [ScopeKey(Scope.DEFAULT)]
        if tax_code:
            scopes.insert(0, ScopeKey(Scope.TAX_CODE, tax_code))
        if customer is not None:
            scopes.insert(0, ScopeKey(Scope.CUSTOMER, customer.party.id))
        for scope in scopes:
            rule = self._rule(scope, at)
            if rule is not None:
                rates = [self.rates[rate_id] for rate_id in rule.rate_ids]
                return tuple(rate if customer is None else _less_exemption(rate, customer, at) for rate in rates)
        return ()

    def _rule(self, scope: ScopeKey, at: datetime) -> TaxRule | None:
        begun = [rule for rule in self.rules.get(scope, ()) if rule.start_time <= at]
        if not begun or (begun[-1].end_time is not None and begun[-1].end_time <= at):
            return None
        return begun[-1]


def _less_exemption(rate: TaxRate, customer: Customer, at: datetime) -> TaxRate:
    """An exemption holds where the rate is due; a rate that does not say where is due where the customer is."""
    if not customer.tax_exemptions:
        return rate
    address = customer.party.address
    country, region = rate.country, rate.region
    if not country and address is not None:
        country, region = address.region_code, address.administrative_area
    on = civil_date(at, customer.time_zone)
    for exemption in customer.tax_exemptions:
        if exemption.holds(country=country, region=region, on=on):
            return rate.exempted(exemption.reason_code)
    return rate
