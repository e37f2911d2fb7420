"""Rates, rules and terms for tests of taxes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from common.money import Money
from common.period import Period
from invoicing.domain.line import Line, LineKind
from invoicing.domain.party import Address, CollectionMethod, Customer, Party, TaxExemption
from invoicing.domain.tax import TaxRate, TaxRateId
from invoicing.domain.tax_rules import Scope, ScopeKey, TaxRule, TaxRuleId, TaxTerms

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def rate(percent: str, name: str = "VAT", category: str = "", **more: Any) -> TaxRate:  # Any: fields of a rate
    category = category or ("S" if Decimal(percent) else "Z")
    told = {"id": TaxRateId(f"{name} {category} {percent}"), **more}
    return TaxRate(name=name, category=category, percent=Decimal(percent), **told)


def rule(
    *rates: TaxRate,
    scope: ScopeKey = ScopeKey(Scope.DEFAULT),  # noqa: B008 # immutable
    start: datetime = JANUARY,
    end: datetime | None = None,
) -> TaxRule:
    return TaxRule(
        id=TaxRuleId(f"taxrule {scope} {start}"),
        scope=scope,
        rate_ids=tuple(each.id for each in rates),
        start_time=start,
        end_time=end,
        create_time=JANUARY,
    )


def terms(rules: list[TaxRule], *rates: TaxRate) -> TaxTerms:
    return TaxTerms.of(rules, {each.id: each for each in rates}, as_of=MARCH)


def customer(*exemptions: TaxExemption, region_code: str = "FR", area: str = "") -> Customer:
    return Customer(
        party=Party(id="cus_1", display_name="Ada", address=Address(region_code=region_code, administrative_area=area)),
        external_id="",
        currency="EUR",
        time_zone="Europe/Paris",
        net_terms_days=0,
        collection_method=CollectionMethod.SEND_INVOICE,
        tax_exemptions=exemptions,
    )


def line(minor: int, *, tax_code: str = "", kind: LineKind = LineKind.OWED, correction: int = 0) -> Line:
    period = Period(JANUARY, FEBRUARY)
    return Line(
        id="",
        description="Seats",
        subscription_id="sub_1",
        item_id="subi_1",
        price_id="price_1",
        period=period,
        full_period=period,
        quantity=Decimal(1),
        unit_label="",
        amount=eur(minor),
        steps=(),
        exact_amount=eur(minor).amount,
        proration=Fraction(1),
        usage=None,
        correction=correction,
        kind=kind,
        tax_code=tax_code,
    )
