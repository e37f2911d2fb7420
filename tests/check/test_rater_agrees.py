"""Two that computed the same thing apart from each other: the checker's rater, and the engine of invoicing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InvalidArgument
from common.money import Money
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.price import Price
from invoicing.domain.rating import rate, rate_amounts
from invoicing.domain.usage import AlreadyBilled, MeterQuantity, QuantityChange, UsageGroup, UsageToRate
from tests.check.prices import (
    CURRENCIES,
    DIMENSIONS,
    LAST,
    METERS,
    OF_QUANTITY,
    OF_USAGE,
    VALUES,
    Json,
    model_of,
    number,
    operators_of,
    price_of,
    quantity_of,
)
from tools.check import rater
from tools.check.rater import Before, Change, Group, Tariff, Used, settled
from tools.check.tariff import tariff_of

MODELS: Final = (*OF_QUANTITY, *OF_USAGE)
EXAMPLES: Final = 5
CASES: Final = 60
"""Of each example, drawn from its seed: prices that hypothesis itself draws differ too little from each other."""

SEEDS: Final = st.integers(0, 1 << 64)
WRITTEN: Final = Fraction(1, 10**35)
"""A share without a last decimal is written with 36 decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A price twice, in the words of either."""

    random: Random
    model: Json
    operators: Json
    price: Price
    tariff: Tariff

    def __str__(self) -> str:
        licensed = "metered" if self.tariff.metered else "licensed"
        return f"{licensed} {self.price.currency} {self.model} {self.operators}"

    @property
    def name(self) -> str:
        name: str = self.model["model"]
        return name

    @property
    def currency(self) -> str:
        return self.price.currency

    def quantity(self) -> Decimal:
        return quantity_of(self.random, self.model, self.operators, metered=self.tariff.metered)

    def quantities(self, most: int) -> tuple[Decimal, ...]:
        return tuple(self.quantity() for _ in range(self.random.randint(0, most)))

    def usage(self) -> UsageToRate:
        """In the form that the model looks at, or as a quantity and nothing else."""
        if self.name == "VOLUME" and self.random.random() < 0.3:
            return UsageToRate(quantity=self.quantity(), tier_quantity=self.quantity())
        if self.name in ("PERCENTAGE", "DYNAMIC") and self.random.random() < 0.8:
            return UsageToRate(amounts=self.quantities(6))
        if self.name == "MATRIX" and self.random.random() < 0.8:
            groups = [UsageGroup(dimensions=self._dimensions(), quantity=each) for each in self.quantities(8)]
            return UsageToRate(groups=tuple(groups))
        if self.name == "CAPACITY" and self.random.random() < 0.8:
            return UsageToRate(
                meter_quantities=tuple(MeterQuantity(meter=meter, quantity=self.quantity()) for meter in METERS)
            )
        return UsageToRate(quantity=self.quantity())

    def _dimensions(self) -> Json:
        named = [name for name in DIMENSIONS if self.random.random() < 0.8]
        return {name: self.random.choice((*VALUES, "else")) for name in named}


def cases(seed: int, name: str) -> Iterator[Case]:
    random = Random(seed)
    for _ in range(CASES):
        model = model_of(random, name)
        operators = operators_of(random, name)
        metered = name in OF_USAGE or random.random() < 0.5
        in_advance = not metered and random.random() < 0.5
        meter = METERS[0] if metered else ""
        currency = random.choice(CURRENCIES)
        yield Case(
            random=random,
            model=model,
            operators=operators,
            price=price_of(model, operators, currency=currency, meter=meter, in_advance=in_advance),
            tariff=tariff_of(model, operators, metered=metered, in_advance=in_advance, meter=meter),
        )


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_they_agree(seed: int, name: str) -> None:
    """On the amount, to the cent, and on what it was before it was rounded, exactly."""
    for case in cases(seed, name):
        _compare(case, case.usage(), under_way=case.random.random() < 0.2)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_they_agree_on_what_is_left_to_bill(seed: int, name: str) -> None:
    """After an amount, after a quantity, or after both."""
    for case in cases(seed, name):
        usage = case.usage()
        quantity = billed = None
        if not (usage.groups or usage.meter_quantities) and case.random.random() < 0.6:
            quantity = number(case.random, 100)
        if quantity is None or case.random.random() < 0.5:
            billed = case.random.randint(0, 10_000)
        _compare(case, usage, quantity=quantity, billed=billed, under_way=case.random.random() < 0.2)


@pytest.mark.parametrize("name", OF_QUANTITY)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_they_agree_on_changes(seed: int, name: str) -> None:
    """Seats that come and go, each change spread over the tiers in shares that have no last decimal."""
    for case in cases(seed, name):
        changes = []
        for _ in range(case.random.randint(1, 5)):
            by = case.random.choice([case.quantity(), number(case.random, 60, least=-30)]) or Decimal(1)
            part = case.random.choice([Decimal(1), Decimal("0.5"), Decimal("0.548387096774"), Decimal("0.032")])
            changes.append(QuantityChange(quantity=by, prorated_quantity=(by * part).quantize(LAST)))
        _compare(case, UsageToRate(changes=tuple(changes)))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_many_at_once_are_each_alike(seed: int, name: str) -> None:
    """The fast path is another way to the same amounts."""
    for case in cases(seed, name):
        quantities = case.quantities(3)
        due = [rater.due(case.tariff, Fraction(quantity), case.currency) for quantity in quantities]
        assert rate_amounts(case.price, quantities) == due, f"{case} {quantities}"


def _compare(
    case: Case,
    usage: UsageToRate,
    *,
    quantity: Decimal | None = None,
    billed: int | None = None,
    under_way: bool = False,
) -> None:
    before = already = None
    if quantity is not None or billed is not None:
        before = Before(quantity=None if quantity is None else Fraction(quantity), billed=billed)
        amount = None if billed is None else Money(billed, case.currency)
        already = AlreadyBilled(quantity=quantity, amount=amount)
    where = f"{case} {usage} after {already} {under_way=}"
    told: dict[str, Any] = {"before": before, "under_way": under_way}  # Any: arguments by name
    try:
        exact, paid = settled(case.tariff, _used(usage), case.currency, **told)
    except ValueError as refused:
        try:
            rating = rate(case.price, usage, already_billed=already, period_under_way=under_way)
        except (NegativeQuantity, InvalidArgument):
            return
        raise AssertionError(f"{where}: refused ({refused}), but rated at {rating.amount}") from refused
    rating = rate(case.price, usage, already_billed=already, period_under_way=under_way)
    whole = rater.minor(exact, case.currency)
    assert rating.amount == Money(whole - paid, case.currency), where
    assert rating.period_amount == Money(whole, case.currency), where
    left = exact - Fraction(paid, 10 ** rater.decimals(case.currency))
    assert abs(Fraction(rating.exact_amount) - left) <= (WRITTEN if usage.changes else 0), where
    assert _sum(step.amount for step in rating.steps) == Fraction(rating.exact_amount), where
    assert Fraction(rating.exact_amount) + Fraction(rating.rounding) == Fraction(rating.amount.amount), where


def _sum(numbers: Any) -> Fraction:  # Any: of decimals, in any order
    return sum((Fraction(number) for number in numbers), Fraction(0))


def _used(usage: UsageToRate) -> Used:
    return Used(
        quantity=_fraction(usage.quantity),
        tier_quantity=_fraction(usage.tier_quantity),
        amounts=[Fraction(amount) for amount in usage.amounts],
        changes=[Change(Fraction(each.quantity), Fraction(each.prorated_quantity)) for each in usage.changes],
        groups=[Group(group.dimensions, Fraction(group.quantity)) for group in usage.groups],
        meters={each.meter: Fraction(each.quantity) for each in usage.meter_quantities},
    )


def _fraction(number: Decimal | None) -> Fraction | None:
    return None if number is None else Fraction(number)
