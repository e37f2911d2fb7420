"""Knows how a price and a usage become an amount: exactly, step by step, rounded once. docs/pricing.md defines it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, assert_never

from common.errors import InvalidArgument
from common.money import Money
from invoicing.domain.amounts import amounts_of
from invoicing.domain.changes import Spread, change_steps
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.exact import NOTHING, added, as_decimal, less, percent_of, product
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Operators,
    Package,
    Percentage,
    PerUnit,
    Price,
    Tariff,
    Values,
    Volume,
    cell_name,
)
from invoicing.domain.steps import Labels, RatingStep, StepKind, counted, flat_step, plain, price_text, told_step
from invoicing.domain.tariffs import Cost, Prepared, costs_unused, prepared
from invoicing.domain.transactions import transaction_steps
from invoicing.domain.usage import AlreadyBilled, UsageToRate

PREPARED_MAX: Final = 512
"""For how many prices, or cells of a matrix, at once what they have ready is kept."""

NOT_YET: Final = "Not due before the period has ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What is due, and how it came about: the amounts of the steps add up to the exact amount."""

    amount: Money
    exact_amount: Decimal
    rounding: Decimal
    """`amount` less `exact_amount`."""
    steps: tuple[RatingStep, ...]
    period_amount: Money
    """What the whole period costs: the amount, and what was billed before."""


def rate(
    price: Price,
    usage: UsageToRate,
    *,
    already_billed: AlreadyBilled | None = None,
    period_under_way: bool = False,
) -> Rating:
    """What a usage costs, less what was billed for the same period before."""
    model = price.model
    if isinstance(model, Tariff) and already_billed is None and price.operators == _NO_OPERATORS:
        # Nearly every rating there is, and the one that has to be fast.
        quantity = usage.quantity
        alone = not (usage.changes or usage.groups or usage.amounts or period_under_way)
        if alone and quantity is not None and quantity >= 0 and usage.tier_quantity is None:
            return _rounded(price, _prepared(price).cost(quantity, quantity))
    return _Course(price, usage, already_billed, period_under_way).rating()


def rate_amounts(price: Price, quantities: Sequence[Decimal]) -> list[int]:
    """What each of very many quantities costs, in minor units: the same as `rate` says, without the steps."""
    amounts = amounts_of(price, quantities)
    if amounts is None:
        return [rate(price, UsageToRate(quantity=quantity)).amount.minor for quantity in quantities]
    return amounts


def _rounded(price: Price, cost: Cost) -> Rating:
    amount = Money.rounded(cost.amount, price.currency)
    return Rating(
        amount=amount,
        exact_amount=cost.amount,
        rounding=less(amount.amount, cost.amount),
        steps=cost.steps,
        period_amount=amount,
    )


@lru_cache(maxsize=PREPARED_MAX)
def _prepared(price: Price, values: Values = None) -> Prepared:
    """Of a matrix the tariff of a cell, or the default one."""
    model = price.model
    if isinstance(model, Matrix):
        tariff = model.default if values is None else model.cells[values]
        return prepared(tariff, _labels(price)._replace(is_all_else=values is None), cell_name(model, values))
    assert isinstance(model, Tariff)
    return prepared(model, _labels(price))


@lru_cache(maxsize=PREPARED_MAX)
def _cells_due_unused(price: Price) -> frozenset[tuple[str, ...]]:
    """A batch asks for them ten thousand times, of up to a thousand cells."""
    assert isinstance(price.model, Matrix)
    return frozenset(values for values, tariff in price.model.cells.items() if costs_unused(tariff))


def _labels(price: Price) -> Labels:
    return Labels(price.currency, price.priced_unit_label)


@dataclass(slots=True)
class _Course:
    """One rating on its way from the usage to what is due."""

    price: Price
    usage: UsageToRate
    already_billed: AlreadyBilled | None
    period_under_way: bool
    steps: list[RatingStep] = field(default_factory=list)
    written: Decimal = NOTHING
    """What the steps add up to."""
    exact: Fraction | None = None
    """The exact amount, when it has more decimals than are written; None when it is what is written."""

    def rating(self) -> Rating:
        self._check_before()
        billed = self._billed()
        self._model()
        self._operators(billed)
        period_amount = Money.rounded(self._amount, self.price.currency)
        if billed.minor:
            self._add([flat_step(self._less_billed, (-billed).amount, kind=StepKind.BILLED_BEFORE)])
        amount = period_amount - billed
        return Rating(
            amount=amount,
            exact_amount=self.written,
            rounding=less(amount.amount, self.written),
            steps=tuple(self.steps),
            period_amount=period_amount,
        )

    @property
    def _amount(self) -> Decimal | Fraction:
        return self.written if self.exact is None else self.exact

    def _add(self, steps: Iterable[RatingStep]) -> None:
        for step in steps:
            self.steps.append(step)
            self.written = added(self.written, step.amount)

    def _become(self, amount: Decimal | Fraction, kind: StepKind, words: str, percent: Decimal | None = None) -> None:
        """The step from the amount there is to another one."""
        written = amount if isinstance(amount, Decimal) else as_decimal(amount)
        self.exact = None if isinstance(amount, Decimal) else amount
        step = flat_step(words, less(written, self.written), kind=kind)
        self._add([step._replace(percent=percent)])

    def _model(self) -> None:
        match self.price.model:
            case Flat(amount=amount):
                self._total()
                is_due = not (self.period_under_way and self.price.in_arrears)
                self._add(
                    [flat_step("Fixed price", amount) if is_due else told_step(StepKind.REMARK, NOT_YET, NOTHING)]
                )
            case Percentage() as model:
                self._add(transaction_steps(model, self._amounts(), _labels(self.price)))
            case Dynamic(multiplier=multiplier):
                self._add([_dynamic_step(self._amounts(), multiplier, self.price.currency)])
            case Matrix() as model:
                self._matrix(model)
            case Capacity() as model:
                self._capacity(model)
            case Graduated() as model if self.usage.changes:
                self._changes(model)
            case PerUnit() | Graduated() | Volume() | Package() as model:
                quantity = self._overage(self._total())
                self._tariff(model, _prepared(self.price), quantity, self._tier_quantity(model, quantity))
            case unknown:
                assert_never(unknown)

    def _total(self) -> Decimal:
        """Of the whole period, and never below zero."""
        total, before = self.usage.total, self._quantity_before
        if before:
            words = f"{self._counted(before)} billed before, and {plain(total)}: together {plain(added(total, before))}"
            total = added(total, before)
            self._add([told_step(StepKind.REMARK, words, total)])
        return self._not_below_zero(total)

    def _tier_quantity(self, model: Tariff, quantity: Decimal) -> Decimal:
        """What chooses the tier of a volume, told when it is not the quantity that is priced."""
        told = self.usage.tier_total
        if told is None or not isinstance(model, Volume):
            return quantity
        by = self._freed(told)
        if by != quantity:
            came_of = "" if by == told else f", which {self._counted(told)} come to in the same way"
            self._add([told_step(StepKind.REMARK, f"The tier is that of {self._priced(by)}{came_of}", by)])
        return by

    def _counted(self, quantity: Decimal) -> str:
        return counted(quantity, self.price.unit_label)

    def _priced(self, quantity: Decimal) -> str:
        """The same after it was converted, when it may be called otherwise."""
        return counted(quantity, self.price.priced_unit_label)

    @property
    def _quantity_before(self) -> Decimal | None:
        """What the usage came after; None if the usage is all there is to look at."""
        return self.already_billed.quantity if self.already_billed is not None and _adds_up(self.price) else None

    def _check_before(self) -> None:
        if self._quantity_before is not None and self.usage.is_of_whole_period:
            raise InvalidArgument(
                "must be absent: it says nothing of changes, groups or meters", field="already_billed.quantity"
            )

    def _not_below_zero(self, quantity: Decimal) -> Decimal:
        if quantity >= 0:
            return quantity
        if not self.price.is_metered:
            raise NegativeQuantity(f"{quantity:f} cannot be rated", price=self.price.id, quantity=quantity)
        # Neither credited nor refused: one bad report must not keep a customer from being billed for all the rest.
        self._remark_below_zero(quantity)
        return NOTHING

    def _remark_below_zero(self, quantity: Decimal, cell: str = "", *, is_all_else: bool = False) -> None:
        words = f"{self._counted(quantity)} counted, charged as nothing"
        self._add([told_step(StepKind.REMARK, words, quantity, cell=cell, is_all_else=is_all_else)])

    def _overage(self, quantity: Decimal) -> Decimal:
        """What is left to price, with the steps that lead to it."""
        quantity = self._converted(quantity)
        free = self.price.operators.free_units
        if not free:
            return quantity
        taken = min(quantity, free)
        left = less(quantity, taken)
        words = f"{self._priced(free)} free: {plain(quantity)} less {plain(taken)} is {plain(left)}"
        self._add([told_step(StepKind.FREE, words, taken)])
        return left

    def _freed(self, quantity: Decimal) -> Decimal:
        """The same without a step, for a quantity that only chooses the tier."""
        operators = self.price.operators
        if operators.unit_conversion is not None:
            quantity = operators.unit_conversion.of(quantity)
        return max(less(quantity, operators.free_units or NOTHING), NOTHING)

    def _converted(self, quantity: Decimal, cell: str = "", *, is_all_else: bool = False) -> Decimal:
        conversion = self.price.operators.unit_conversion
        if conversion is None:
            return quantity
        converted = conversion.of(quantity)
        words = f"{self._counted(quantity)}{conversion.in_words} is {self._priced(converted)}"
        self._add([told_step(StepKind.CONVERSION, words, converted, cell=cell, is_all_else=is_all_else)])
        return converted

    def _tariff(
        self,
        tariff: Tariff,
        ready: Prepared,
        quantity: Decimal,
        by: Decimal,
        *,
        cell: str = "",
        is_all_else: bool = False,
    ) -> None:
        if self.period_under_way and isinstance(tariff, Volume):
            # More usage may still choose another tier, for all of it.
            self._add([told_step(StepKind.REMARK, NOT_YET, quantity, cell=cell, is_all_else=is_all_else)])
        else:
            self._add(ready.cost(quantity, by).steps)

    def _amounts(self) -> Sequence[Decimal]:
        """The transactions, or the total as if it were one; nothing at all is none."""
        if self.usage.amounts:
            return self.usage.amounts
        total = self._total()
        return (total,) if total else ()

    def _changes(self, model: Graduated) -> None:
        operators = self.price.operators
        spread: Spread = change_steps(
            model,
            self.usage.changes,
            conversion=operators.unit_conversion,
            free_units=operators.free_units,
            labels=_labels(self.price),
        )
        if operators.unit_conversion is not None:
            self._add([told_step(StepKind.CONVERSION, f"Each change{operators.unit_conversion.in_words}", NOTHING)])
        if operators.free_units:
            words = f"{self._priced(operators.free_units)} free: the tiers begin above them"
            self._add([told_step(StepKind.FREE, words, operators.free_units)])
        self._add(step for _, step in spread)
        exact = sum((amount for amount, _ in spread), Fraction(0))
        self.exact = exact if exact != Fraction(self.written) else None

    def _matrix(self, model: Matrix) -> None:
        cells, rest = self._by_cell(model)
        due = _cells_due_unused(self.price) | cells.keys()
        for values, tariff in model.cells.items() if due else ():
            if values in due:
                self._cell(model, tariff, values, cells.get(values, NOTHING))
        self._cell(model, model.default, None, rest)
        if not self.steps:
            # No line is without a reason.
            self._add(_prepared(self.price).cost(NOTHING, NOTHING).steps)

    def _by_cell(self, model: Matrix) -> tuple[dict[tuple[str, ...], Decimal], Decimal]:
        """The usage of every cell that has any, and of everything that no cell names."""
        cells: dict[tuple[str, ...], Decimal] = {}
        if not self.usage.groups or self.usage.changes:
            return cells, self._total()
        rest = NOTHING
        for group in self.usage.groups:
            values = tuple(group.dimensions.get(dimension, "") for dimension in model.dimensions)
            if values in model.cells:
                cells[values] = added(cells.get(values, NOTHING), group.quantity)
            else:
                rest = added(rest, group.quantity)
        return cells, rest

    def _cell(self, model: Matrix, tariff: Tariff, values: Values, quantity: Decimal) -> None:
        cell, is_all_else = cell_name(model, values), values is None
        if quantity < 0:
            self._remark_below_zero(quantity, cell, is_all_else=is_all_else)
            quantity = NOTHING
        if not quantity and not costs_unused(tariff):
            return
        quantity = self._converted(quantity, cell, is_all_else=is_all_else)
        ready = _prepared(self.price, values)
        self._tariff(tariff, ready, quantity, quantity, cell=cell, is_all_else=is_all_else)

    def _capacity(self, model: Capacity) -> None:
        used: dict[str, Decimal] = {}
        for each in self.usage.meter_quantities:
            used[each.meter] = added(used.get(each.meter, NOTHING), each.quantity)
        if self.price.meter and self.price.meter not in used:
            used[self.price.meter] = self._total()
        size = next(
            size
            for size in model.sizes
            if all(used.get(meter, NOTHING) <= limit for meter, limit in size.limits.items())
        )
        held = ", ".join(f"up to {plain(limit)} {meter}" for meter, limit in size.limits.items())
        counts = ", ".join(f"{plain(used.get(meter, NOTHING))} {meter}" for meter in model.sizes[0].limits)
        words = f"The size of {held}" if held else "The size without limits"
        self._add([flat_step(f"{words}, for {counts}" if counts else words, size.amount)])

    def _operators(self, billed: Money) -> None:
        operators = self.price.operators
        if operators.discount_percent:
            self._discount(operators.discount_percent)
        if billed.minor and not _adds_up(self.price):
            # Only what came since the last bill is known: the minimum and the maximum are those of the period.
            self._add([flat_step("What was billed before", billed.amount)])
        self._bound(operators)

    def _discount(self, percent: Decimal) -> None:
        amount = self._amount
        if isinstance(amount, Decimal):
            left: Decimal | Fraction = less(amount, percent_of(percent, amount))
        else:
            left = amount * (100 - Fraction(percent)) / 100
        self._become(left, StepKind.DISCOUNT, f"{plain(percent)}% off", percent)

    @property
    def _less_billed(self) -> str:
        words = "Less what was billed before"
        told = self.already_billed
        if told is None or told.amount is not None or told.quantity is None:
            return words
        return f"{words}, which is what {self._counted(told.quantity)} cost"

    def _bound(self, operators: Operators) -> None:
        currency = self.price.currency
        minimum, maximum = operators.minimum_amount, operators.maximum_amount
        if self._amount < 0:
            self._become(NOTHING, StepKind.MINIMUM, "A period never costs less than nothing")
        if minimum is not None and self._amount < _comparable(minimum, self._amount):
            least = f"the minimum of {price_text(minimum, currency)}"
            if self.period_under_way:
                self._add([told_step(StepKind.REMARK, f"Up to {least} only when the period has ended", minimum)])
            else:
                self._become(minimum, StepKind.MINIMUM, f"Up to {least}")
        if maximum is not None and self._amount > _comparable(maximum, self._amount):
            self._become(maximum, StepKind.MAXIMUM, f"Down to the maximum of {price_text(maximum, currency)}")

    def _billed(self) -> Money:
        if self.already_billed is None:
            return Money.zero(self.price.currency)
        if self.already_billed.amount is not None:
            return self.already_billed.amount
        before = UsageToRate.of(self.already_billed.quantity or NOTHING)
        return rate(self.price, before, period_under_way=self.period_under_way).period_amount


def _adds_up(price: Price) -> bool:
    """Whether a period has one quantity; of transactions only those since the last bill are known."""
    return not isinstance(price.model, Percentage | Dynamic)


def _dynamic_step(amounts: Sequence[Decimal], multiplier: Decimal, currency: str) -> RatingStep:
    total = NOTHING
    for amount in amounts:
        total = added(total, amount)
    words = f"{price_text(total, currency)} of usage × {plain(multiplier)}"
    return RatingStep(StepKind.UNITS, total, multiplier, product(total, multiplier), words)


def _comparable(number: Decimal, other: Decimal | Fraction) -> Decimal | Fraction:
    """A decimal and a fraction do not compare."""
    return number if isinstance(other, Decimal) else Fraction(number)


_NO_OPERATORS: Final = Operators()
