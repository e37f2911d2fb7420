"""What is done around a model, and over several bills of one period: examples with figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from common.errors import InvalidArgument
from common.money import CurrencyMismatch, Money
from invoicing.domain.price import (
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Operators,
    Package,
    Percentage,
    PerUnit,
    Price,
    Rounding,
    Tier,
    UnitConversion,
    Volume,
)
from invoicing.domain.rating import rate, rate_amounts
from invoicing.domain.steps import StepKind
from invoicing.domain.usage import AlreadyBilled, QuantityChange, UsageGroup, UsageToRate

TENTH = PerUnit(unit_price=Decimal("0.10"))
SEATS = Volume(tiers=(Tier(up_to=Decimal(15), unit_price=Decimal(10)), Tier(up_to=None, unit_price=Decimal(5))))
THOUSANDS = UnitConversion(divide_by=Decimal(1_000), rounding=Rounding.UP)
CALLS = Price(
    id="price_1", currency="EUR", model=PerUnit(unit_price=Decimal("0.067")), product="Calls", unit_label="call"
)


def price(model: Model, *, currency: str = "EUR", in_arrears: bool = False, **operators: Any) -> Price:
    # Any: fields of the operators
    return Price(
        id="price_1",
        currency=currency,
        model=model,
        product="API calls",
        unit_label="call",
        is_metered=True,
        in_arrears=in_arrears,
        operators=Operators(**operators),
    )


def used(quantity: str | int) -> UsageToRate:
    return UsageToRate.of(Decimal(quantity))


def amounts(*numbers: str | int) -> UsageToRate:
    return UsageToRate(amounts=tuple(Decimal(number) for number in numbers))


def euros(minor: int) -> Money:
    return Money(minor, "EUR")


@pytest.mark.parametrize(
    ("rounding", "decimals", "quantity", "converted"),
    [
        (Rounding.UP, 0, "2000.001", "3"),
        (Rounding.UP, 1, "2010", "2.1"),
        (Rounding.UP, -1, "2000", "10"),
        (Rounding.DOWN, 0, "2999", "2"),
        (Rounding.HALF_UP, 0, "2500", "3"),
        (Rounding.HALF_UP, 0, "2499.999", "2"),
        (Rounding.HALF_UP, 2, "2345", "2.35"),
        (None, 0, "2345.6", "2.3456"),
    ],
)
def test_a_quantity_is_converted_before_it_is_priced(
    rounding: Rounding | None, decimals: int, quantity: str, converted: str
) -> None:
    """Counted in calls, sold by the thousand; the seller says what becomes of a thousand that was begun."""
    conversion = UnitConversion(divide_by=Decimal(1_000), rounding=rounding, decimals=decimals)
    dear = price(PerUnit(unit_price=Decimal(1)), unit_conversion=conversion)
    rating = rate(dear, used(quantity))
    assert rating.exact_amount == Decimal(converted)
    assert rate_amounts(dear, [Decimal(quantity)]) == [rating.amount.minor]
    assert (rating.steps[0].kind, rating.steps[0].quantity) == (StepKind.CONVERSION, Decimal(converted))


def test_a_conversion_is_told_with_its_numbers() -> None:
    """Or nobody could see where 3 came from."""
    named = replace(THOUSANDS, unit_label="thousand")
    steps = rate(price(TENTH, unit_conversion=named, free_units=Decimal(1)), used(2_700)).steps
    assert [step.description for step in steps] == [
        "2,700 call ÷ 1,000, rounded up, is 3 thousand",
        "1 thousand free: 3 less 1 is 2",
        "2 thousand at 0.10 EUR each",
    ]


def test_what_a_conversion_does_not_name_has_no_name() -> None:
    """A thousand calls are not a call."""
    steps = rate(price(TENTH, unit_conversion=THOUSANDS), used(2_700)).steps
    assert [step.description for step in steps] == ["2,700 call ÷ 1,000, rounded up, is 3", "3 at 0.10 EUR each"]


def test_below_zero_a_conversion_rounds_away_from_zero_too() -> None:
    """-2.5 is to 3 as 2.5 is: a correction mirrors what it corrects."""
    conversion = UnitConversion(rounding=Rounding.HALF_UP)
    assert [conversion.of(Decimal(number)) for number in ("-2.5", "-2.4", "2.5")] == [-3, -2, 3]
    assert UnitConversion(rounding=Rounding.UP).of(Decimal("-0.1")) == -1
    assert UnitConversion(rounding=Rounding.DOWN).of(Decimal("-0.9")) == 0


def test_a_quotient_without_a_last_decimal_has_to_be_rounded() -> None:
    """A third of an hour cannot be written down; 1/1024 can."""
    with pytest.raises(ValueError, match="last decimal"):
        UnitConversion(divide_by=Decimal(3_600))
    assert UnitConversion(divide_by=Decimal(3_600), rounding=Rounding.UP).of(Decimal(5_400)) == 2
    assert UnitConversion(divide_by=Decimal(1_024)).of(Decimal(1)) == Decimal("0.0009765625")


def test_free_units_are_taken_off_before_the_tiers() -> None:
    """100 free of 250: the tiers see 150, which are 100 × 1 and 50 × 0.5 = 125. All free costs nothing."""
    tiers = (Tier(up_to=Decimal(100), unit_price=Decimal(1)), Tier(up_to=None, unit_price=Decimal("0.5")))
    free = price(Graduated(tiers=tiers), free_units=Decimal(100))
    assert rate(free, used(250)).exact_amount == Decimal(125)
    assert rate(free, used(99)).exact_amount == 0


def test_the_quantity_that_chooses_a_tier_is_converted_and_freed_like_the_other() -> None:
    """16,000 in thousands is 16, 1 of them free is 15: the first tier of up to 15 at 10, for 8 - 1 = 7 of them: 70."""
    usage = UsageToRate(quantity=Decimal(8_000), tier_quantity=Decimal(16_000))
    rating = rate(price(SEATS, unit_conversion=THOUSANDS, free_units=Decimal(1)), usage)
    assert rating.exact_amount == Decimal(70)


def test_a_discount_is_taken_off_before_minimum_and_maximum() -> None:
    """1,000 × 0.10 = 100, less 12.5% is 87.50; a maximum of 80 takes off 7.50, a minimum of 95 adds as much."""
    discount = Decimal("12.5")
    assert rate(price(TENTH, discount_percent=discount), used(1_000)).amount == euros(87_50)
    capped = rate(price(TENTH, discount_percent=discount, maximum_amount=Decimal(80)), used(1_000))
    assert [(step.kind, step.amount) for step in capped.steps[1:]] == [
        (StepKind.DISCOUNT, Decimal("-12.5")),
        (StepKind.MAXIMUM, Decimal("-7.5")),
    ]
    raised = rate(price(TENTH, discount_percent=discount, minimum_amount=Decimal(95)), used(1_000))
    assert [(step.kind, step.amount) for step in raised.steps[2:]] == [(StepKind.MINIMUM, Decimal("7.5"))]
    assert raised.amount == euros(95_00)


def test_the_minimum_is_due_without_usage() -> None:
    """A commitment is one also of who does not use it."""
    assert rate(price(TENTH, minimum_amount=Decimal(20)), used(0)).amount == euros(20_00)
    assert rate(price(Percentage(percent=Decimal(3)), minimum_amount=Decimal(20)), UsageToRate()).amount == euros(20_00)


def test_each_cell_of_a_matrix_is_converted() -> None:
    """1,400 and 1,300 in two cells are 2 started thousands each, at 1 and at 10: 22."""
    matrix = Matrix(
        dimensions=("region",),
        cells={("eu",): PerUnit(unit_price=Decimal(1))},
        default=PerUnit(unit_price=Decimal(10)),
    )
    groups = (
        UsageGroup(dimensions={"region": "eu"}, quantity=Decimal(1_400)),
        UsageGroup(dimensions={}, quantity=Decimal(1_300)),
    )
    assert rate(price(matrix, unit_conversion=THOUSANDS), UsageToRate(groups=groups)).exact_amount == 22


def test_changes_are_freed_and_discounted_exactly() -> None:
    """2 of 5 are free: the tiers begin above them. 3 more for a third of the month from 1: 1 free, 2 × 1/3 × 3 = 2.

    With half off, 1.
    """
    model = Graduated(tiers=(Tier(up_to=None, unit_price=Decimal(3)),))
    changes = (
        QuantityChange(quantity=Decimal(1), prorated_quantity=Decimal(1)),
        QuantityChange(quantity=Decimal(3), prorated_quantity=Decimal(1)),
    )
    rating = rate(price(model, free_units=Decimal(2), discount_percent=Decimal(50)), UsageToRate(changes=changes))
    assert rating.amount == euros(1_00)
    with pytest.raises(InvalidArgument):
        rate(price(model, unit_conversion=THOUSANDS), UsageToRate(changes=changes))


@pytest.mark.parametrize(
    ("model", "operators"),
    [
        (Flat(amount=Decimal(1)), {"free_units": Decimal(1)}),
        (Dynamic(), {"unit_conversion": THOUSANDS}),
        (TENTH, {"minimum_amount": Decimal(2), "maximum_amount": Decimal(1)}),
        (TENTH, {"discount_percent": Decimal(101)}),
    ],
)
def test_an_operator_without_sense_does_not_exist(model: Model, operators: dict[str, Any]) -> None:  # Any: as `price`
    """The catalog refuses it; it must not be guessed at when the invoice is due."""
    with pytest.raises(ValueError, match=r"\w"):
        price(model, **operators)


# Several bills for one period


def test_what_is_due_is_the_difference_of_rounded_amounts() -> None:
    """55 × 0.067 = 3.685, billed as 3.69. With one more it is 3.752, so 0.06 is due and not 0.07; with none nothing."""
    billed = AlreadyBilled(quantity=Decimal(55), amount=euros(3_69))
    more = rate(CALLS, used(1), already_billed=billed)
    assert (more.amount, more.period_amount) == (euros(6), euros(3_75))
    assert more.steps[-1].kind is StepKind.BILLED_BEFORE
    assert rate(CALLS, used(0), already_billed=billed).amount == euros(0)
    # What was billed is what the quantity costs, when it is not told; and what it is told to be when it is.
    assert rate(CALLS, used(1), already_billed=AlreadyBilled(quantity=Decimal(55))).amount == euros(6)
    assert rate(CALLS, used(56), already_billed=AlreadyBilled(amount=euros(4_00))).amount == euros(-25)


@pytest.mark.parametrize(
    ("model", "operators"),
    [
        (Package(size=Decimal(1_000), price=Decimal(1)), {}),
        (PerUnit(unit_price=Decimal(1)), {"unit_conversion": THOUSANDS}),
    ],
    ids=["packages", "conversion"],
)
def test_started_thousands_are_those_of_the_period(model: Model, operators: dict[str, Any]) -> None:  # Any: as `price`
    """1,400 and then 1,300 are 3 thousands, and not 2 + 2."""
    first = rate(price(model, **operators), used(1_400))
    second = rate(price(model, **operators), used(1_300), already_billed=AlreadyBilled(quantity=Decimal(1_400)))
    assert (first.amount, second.amount) == (euros(2_00), euros(1_00))


def test_what_may_still_change_is_not_due_while_the_period_is_under_way() -> None:
    """One seat more may make all of them cheaper; the minimum may still be reached; arrears are for what has been."""
    assert rate(price(SEATS), used(15), period_under_way=True).amount == euros(0)
    assert rate(price(SEATS), used(15)).amount == euros(150_00)
    assert rate(price(TENTH, minimum_amount=Decimal(20)), used(10), period_under_way=True).amount == euros(1_00)
    flat = Flat(amount=Decimal(9))
    assert rate(price(flat, in_arrears=True), used(1), period_under_way=True).amount == euros(0)
    assert rate(price(flat), used(1), period_under_way=True).amount == euros(9_00)


def test_only_the_cells_that_may_still_change_wait() -> None:
    """In a matrix of a volume and a unit price, 2 × 0.10 is certain."""
    matrix = Matrix(dimensions=("region",), cells={("eu",): TENTH}, default=SEATS)
    groups = (
        UsageGroup(dimensions={"region": "eu"}, quantity=Decimal(2)),
        UsageGroup(dimensions={"region": "us"}, quantity=Decimal(2)),
    )
    assert rate(price(matrix), UsageToRate(groups=groups), period_under_way=True).amount == euros(20)


def test_transactions_since_the_last_bill_are_added_to_what_was_billed() -> None:
    """3% of 100 more is 3.00 on top of 8.00, but the period costs at most 10: 2.00. A refund gives back."""
    model = Percentage(percent=Decimal(3))
    billed = AlreadyBilled(amount=euros(8_00))
    capped = rate(price(model, maximum_amount=Decimal(10)), amounts(100), already_billed=billed)
    assert (capped.amount, capped.period_amount) == (euros(2_00), euros(10_00))
    assert rate(price(model), amounts(-100), already_billed=billed).amount == euros(-3_00)
    assert rate(price(model), amounts(-1_000), already_billed=billed).amount == euros(-8_00)
    assert rate(price(Dynamic()), amounts("1.50"), already_billed=billed).amount == euros(1_50)


def test_a_quantity_of_before_says_nothing_of_changes() -> None:
    """Or which of them it was."""
    changes = (QuantityChange(quantity=Decimal(1), prorated_quantity=Decimal(1)),)
    with pytest.raises(InvalidArgument) as refused:
        rate(CALLS, UsageToRate(changes=changes), already_billed=AlreadyBilled(quantity=Decimal(1)))
    assert refused.value.violations[0].field == "already_billed.quantity"


def test_an_amount_of_another_currency_cannot_be_taken_off() -> None:
    """A dollar is not a euro."""
    with pytest.raises(CurrencyMismatch):
        rate(CALLS, used(1), already_billed=AlreadyBilled(amount=Money(1, "USD")))


@pytest.mark.parametrize(("currency", "minor"), [("JPY", 2), ("EUR", 150), ("KWD", 1_500), ("CLF", 15_000)])
def test_the_one_rounding_is_to_what_can_be_paid(currency: str, minor: int) -> None:
    """By ISO 4217: no sen, three decimals of a dinar, four of a UF. 15 × 0.1 = 1.5, halves away from zero."""
    assert rate(price(TENTH, currency=currency), used(15)).amount == Money(minor, currency)
    assert rate_amounts(price(TENTH, currency=currency), [Decimal(15)]) == [minor]
