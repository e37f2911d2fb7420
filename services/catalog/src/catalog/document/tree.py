"""Knows the one way in which each thing is said in a document: as keys with values, without what goes unsaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import assert_never

from catalog.document.entries import (
    CouponEntry,
    Entry,
    FeatureEntry,
    PlanEntry,
    PriceEntry,
    ProductEntry,
    TaxCodeEntry,
)
from catalog.domain import coupon as coupons
from catalog.domain.capacity import Capacity, CapacityTier
from catalog.domain.feature import Enabled, Entitlement, Limit, Quota, Unlimited
from catalog.domain.matrix import Matrix
from catalog.domain.model import Dynamic, Flat, Model, Percentage
from catalog.domain.operators import Operators, UnitConversion
from catalog.domain.plan import Kind, State
from catalog.domain.tariff import Graduated, Package, PerUnit, Tariff, Volume
from catalog.domain.tier import Tier
from common import wire
from common.money import Money
from common.period import Interval, Unit


class Literal(str):
    """A number, an instant, true or false, or a word of ours: never in quotes."""

    __slots__ = ()


Tree = str | Sequence["Tree"] | Mapping[str, "Tree"]
"""A text, a list, or keys with values."""


def tree_of(entry: Entry) -> dict[str, Tree]:
    match entry:
        case TaxCodeEntry():
            return _present(code=entry.code, display_name=entry.display_name, description=entry.description)
        case ProductEntry():
            return _present(
                code=entry.code,
                display_name=entry.display_name,
                description=entry.description,
                unit_label=entry.unit_label,
                tax_code=entry.tax_code,
            )
        case FeatureEntry():
            return _present(
                code=entry.code,
                display_name=entry.display_name,
                kind=Literal(entry.kind.name),
                meter=entry.meter,
                unit_label=entry.unit_label,
            )
        case PlanEntry():
            return _plan(entry)
        case CouponEntry():
            return _coupon(entry)


def _plan(entry: PlanEntry) -> dict[str, Tree]:
    terms = entry.terms
    return _present(
        code=entry.code,
        display_name=terms.display_name,
        state="" if entry.state is State.ACTIVE else Literal(entry.state.name),
        effective=instant(entry.effective),
        kind="" if terms.kind is Kind.BASE else Literal(terms.kind.name),
        trial_days=Literal(terms.trial_days or ""),
        entitlements={each.feature: _grant(each) for each in sorted(terms.entitlements, key=lambda each: each.feature)},
        prices=[_price(price) for price in entry.prices],
    )


def _grant(entitlement: Entitlement) -> Tree:
    every: dict[str, Tree] = {}
    if entitlement.reset_interval is not None:
        every = {"every": _every(entitlement.reset_interval)}
    match entitlement.grant:
        case Enabled(enabled=enabled):
            return _boolean(enabled)
        case Limit(limit=limit):
            return _number(limit)
        case Quota(quota=quota):
            return {"quota": _number(quota)} | every
        case Unlimited():
            return {"quota": Literal("unlimited")} | every if every else Literal("unlimited")
        case _ as unreachable:
            assert_never(unreachable)


def _price(entry: PriceEntry) -> dict[str, Tree]:
    price = entry.price
    return (
        _present(
            code=price.code,
            product=entry.product,
            currency=Literal(price.currency),
            every=Literal("ONCE") if price.interval is None else _every(price.interval),
            timing=Literal(price.timing.name),
            meter=price.meter,
        )
        | _model(price.model)
        | _operators(price.operators)
    )


def _model(model: Model) -> dict[str, Tree]:
    match model:
        case Flat(amount=amount):
            return {"flat": _number(amount)}
        case Percentage():
            return {
                "percentage": _present(
                    percent=_number(model.percent),
                    fixed_fee=_number(model.fixed_fee),
                    free_transactions=Literal(model.free_transactions or ""),
                    free_amount=_number(model.free_amount),
                    transaction_minimum=_number(model.transaction_minimum),
                    transaction_maximum=_number(model.transaction_maximum),
                )
            }
        case Matrix():
            return {
                "matrix": {
                    "dimensions": list(model.dimensions),
                    "cells": [{"values": list(cell.values), **_tariff(cell.tariff)} for cell in model.cells],
                    "default": _tariff(model.default_tariff),
                }
            }
        case Dynamic(multiplier=None):
            return {"dynamic": Literal("true")}
        case Dynamic(multiplier=multiplier):
            return {"dynamic": {"multiplier": _number(multiplier)}}
        case Capacity(tiers=tiers):
            return {"capacity": [_size(tier) for tier in tiers]}
        case _:
            return _tariff(model)


def _tariff(tariff: Tariff) -> dict[str, Tree]:
    match tariff:
        case PerUnit(unit_price=unit_price):
            return {"per_unit": _number(unit_price)}
        case Graduated():
            return {"graduated": _tiers(tariff)}
        case Volume():
            return {"volume": _tiers(tariff)}
        case Package(size=size, price=price):
            return {"package": {"size": _number(size), "price": _number(price)}}
        case _ as unreachable:
            assert_never(unreachable)


def _tiers(model: Graduated | Volume) -> Tree:
    tiers = [_tier(tier) for tier in model.tiers]
    return {"tiers": tiers, "flat_without_usage": Literal("true")} if model.flat_without_usage else tiers


def _tier(tier: Tier) -> dict[str, Tree]:
    # A flat amount of nothing says nothing beside a unit price; prices that were stored long ago say it nevertheless.
    said = tier.flat_amount or (tier.unit_price is None and tier.percent is None)
    return _present(
        up_to=_number(tier.up_to),
        unit_price=_number(tier.unit_price),
        flat_amount=_number(tier.flat_amount if said else None),
        percent=_number(tier.percent),
        package_size=_number(tier.package_size),
    )


def _size(tier: CapacityTier) -> dict[str, Tree]:
    limits = {limit.meter: _number(limit.up_to) for limit in sorted(tier.limits, key=lambda limit: limit.meter)}
    return _present(limits=limits, amount=_number(tier.amount))


def _operators(operators: Operators) -> dict[str, Tree]:
    return _present(
        unit_conversion=_conversion(operators.unit_conversion),
        free_units=_number(operators.free_units),
        discount_percent=_number(operators.discount_percent),
        minimum_amount=_number(operators.minimum_amount),
        maximum_amount=_number(operators.maximum_amount),
    )


def _conversion(conversion: UnitConversion | None) -> Tree:
    if conversion is None:
        return ""
    return _present(
        divide_by=_number(conversion.divide_by),
        multiply_by=_number(conversion.multiply_by),
        rounding=Literal(conversion.rounding.name if conversion.rounding else ""),
        decimals=Literal(conversion.decimals or ""),
        unit_label=conversion.unit_label,
    )


def _coupon(entry: CouponEntry) -> dict[str, Tree]:
    terms = entry.terms
    return _present(
        code=terms.code,
        display_name=terms.display_name,
        state="" if entry.state is coupons.State.ACTIVE else Literal(entry.state.name),
        **_benefit(terms.benefit),
        duration=Literal(terms.duration.name),
        periods=Literal(terms.duration_periods or ""),
        redemptions_max=Literal(terms.redemptions_max or ""),
        redemptions_per_customer_max=Literal(terms.redemptions_per_customer_max or ""),
        valid_from=instant(terms.valid_from_time),
        valid_until=instant(terms.valid_until_time),
        products=sorted(terms.products),
        plans=sorted(terms.plans),
    )


def _benefit(benefit: coupons.Benefit) -> dict[str, Tree]:
    match benefit:
        case coupons.PercentOff(percent=percent):
            return {"percent_off": _number(percent)}
        case coupons.AmountOff(amounts=amounts):
            return {"amount_off": {each.currency: _amount(each) for each in sorted(amounts, key=_currency)}}
        case coupons.FreeUnits(product=product, quantity=quantity):
            return {"free_units": {"product": product, "quantity": _number(quantity)}}
        case _ as unreachable:
            assert_never(unreachable)


def _currency(amount: Money) -> str:
    return amount.currency


def _amount(amount: Money) -> Literal:
    return _number(amount.amount)


def _every(interval: Interval) -> Tree:
    if interval.count == 1:
        return Literal(interval.unit.name)
    if interval == Interval(Unit.MONTH, 3):
        return Literal("QUARTER")
    return {"unit": Literal(interval.unit.name), "count": Literal(interval.count)}


def _number(number: Decimal | None) -> Literal:
    return Literal("" if number is None else wire.decimal(number).value)


def _boolean(value: bool) -> Literal:
    return Literal("true" if value else "false")


def instant(time: datetime | None) -> Literal:
    return Literal("" if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z"))


def _present(**keys: Tree) -> dict[str, Tree]:
    """Without what is not said."""
    return {key: value for key, value in keys.items() if len(value)}
