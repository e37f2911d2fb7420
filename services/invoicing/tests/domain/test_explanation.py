"""How an amount is told: word by word, for examples that were worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from common.period import Period
from invoicing.domain.explanation import CUT, sentences, share_of
from invoicing.domain.line import Line
from invoicing.domain.price import (
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Operators,
    Package,
    Percentage,
    Price,
    Rounding,
    Tier,
    Volume,
)
from invoicing.domain.price import UnitConversion as Conversion
from invoicing.domain.rating import Rating, rate
from invoicing.domain.steps import RatingStep, StepKind, flat_step
from invoicing.domain.usage import AlreadyBilled, QuantityChange, UsageGroup, UsageToRate


def told(
    model: Model,
    usage: UsageToRate,
    *,
    around: Operators | None = None,
    before: AlreadyBilled | None = None,
    unit_label: str = "seats",
) -> list[str]:
    price = Price(
        id="price_1",
        currency="EUR",
        model=model,
        product="Seats",
        unit_label=unit_label,
        is_metered=True,
        operators=around or Operators(),
    )
    return sentences(rate(price, usage, already_billed=before), price)


TIERS = (
    Tier(up_to=Decimal(10), unit_price=Decimal(8)),
    Tier(up_to=None, unit_price=Decimal("6.049"), flat_amount=Decimal("0.002")),
)


def test_tiers_are_told_and_added_up_and_rounded() -> None:
    """80 + 7 × 6.049 = 42.343, 0.002 once, and 122.345 ends with a half."""
    assert told(Graduated(tiers=TIERS), UsageToRate.of(Decimal(17))) == [
        "The first 10 seats: 10 × 8.00 EUR = 80.00 EUR.",
        "Over 10 seats: 7 × 6.049 EUR = 42.343 EUR.",
        "Over 10 seats, once = 0.002 EUR.",
        "Together 122.345 EUR.",
        "Rounded half up to 122.35 EUR: 0.005 EUR added.",
    ]


def test_rounding_is_told_either_way_and_only_if_there_is_any() -> None:
    """2 × 1.001 loses 0.002, 2 × 1.004 gains as much; 2 × 1.5 is what it is."""

    def ends(unit_price: str) -> list[str]:
        model = Graduated(tiers=(Tier(up_to=None, unit_price=Decimal(unit_price)),))
        return told(model, UsageToRate.of(Decimal(2)))[1:]

    assert ends("1.001") == ["Together 2.002 EUR.", "Rounded half up to 2.00 EUR: 0.002 EUR taken off."]
    assert ends("1.004") == ["Together 2.008 EUR.", "Rounded half up to 2.01 EUR: 0.002 EUR added."]
    assert ends("1.5") == ["Together 3.00 EUR."]


def test_a_volume_tells_which_tier_prices_all() -> None:
    """17 are not over 10: they are 17, at the price of whoever is over 10."""
    assert told(Volume(tiers=TIERS), UsageToRate.of(Decimal(17)))[0] == (
        "17 seats at the price of the tier “over 10 seats”: 17 × 6.049 EUR = 102.833 EUR."
    )


def test_operators_are_told_in_their_order() -> None:
    """2,700 are 3 thousands, 1 of them free; 2 × 4.5, less a tenth, up to 10, all of it whole."""
    around = Operators(
        unit_conversion=Conversion(divide_by=Decimal(1_000), rounding=Rounding.UP),
        free_units=Decimal(1),
        discount_percent=Decimal(10),
        minimum_amount=Decimal(10),
    )
    model = Package(size=Decimal(1), price=Decimal("4.5"))
    assert told(model, UsageToRate.of(Decimal(2_700)), around=around, unit_label="") == [
        "2,700 ÷ 1,000, rounded up, is 3.",
        "1 free: 3 less 1 is 2.",
        "2 in 2 started packages of 1 at 4.50 EUR each: 2 × 4.50 EUR = 9.00 EUR.",
        "10% off 9.00 EUR = -0.90 EUR.",
        "Up to the minimum of 10.00 EUR: 10.00 EUR − 8.10 EUR = 1.90 EUR.",
        "Together 10.00 EUR.",
    ]


def test_what_was_billed_before_is_taken_off_what_is_rounded() -> None:
    """55 × 0.067 = 3.685 is 3.69 and was billed as that; taken off before the rounding, a cent would be left."""
    model = Graduated(tiers=(Tier(up_to=None, unit_price=Decimal("0.067")),))
    before = AlreadyBilled(amount=Money(3_69, "EUR"))
    assert told(model, UsageToRate.of(Decimal(55)), before=before) == [
        "All: 55 × 0.067 EUR = 3.685 EUR.",
        "Together 3.685 EUR.",
        "Rounded half up to 3.69 EUR: 0.005 EUR added.",
        "Less what was billed before: 3.69 EUR − 3.69 EUR = 0.00 EUR.",
    ]


def test_transactions_are_told_by_what_they_cost() -> None:
    """60 and 40 of 70 are free; 30 and 10 pay their share, and 0.30 each."""
    model = Percentage(percent=Decimal("2.5"), fixed_fee=Decimal("0.30"), free_amount=Decimal(100))
    usage = UsageToRate(amounts=(Decimal(60), Decimal(70), Decimal(10)))
    assert told(model, usage) == [
        "100.00 EUR of 140.00 EUR free: the first transaction, and 40.00 EUR of the next.",
        "2.5% of 40.00 EUR = 1.00 EUR.",
        "2 transactions at 0.30 EUR each: 2 × 0.30 EUR = 0.60 EUR.",
        "Together 1.60 EUR.",
    ]


def test_what_bounds_add_to_transactions_can_be_checked() -> None:
    """2% of 10 and 20 are 0.20 and 0.40, of 500 10.00; 10 given back are worth 0.20."""
    model = Percentage(percent=Decimal(2), transaction_minimum=Decimal(1), transaction_maximum=Decimal(5))
    usage = UsageToRate(amounts=tuple(map(Decimal, (10, 20, 500, -10))))
    assert told(model, usage)[:4] == [
        "1 correction of -10.00 EUR in all: 520.00 EUR to pay for.",
        "2% of 520.00 EUR = 10.40 EUR.",
        "2 transactions raised from 0.60 EUR in all to 1.00 EUR each: 2 × 1.00 EUR − 0.60 EUR = 1.40 EUR.",
        "1 transaction lowered from 10.00 EUR to 5.00 EUR: 1 × 5.00 EUR − 10.00 EUR = -5.00 EUR.",
    ]


def test_free_transactions_of_nothing_are_told() -> None:
    """Else nobody could see why one of three pays the fee."""
    model = Percentage(percent=Decimal(2), fixed_fee=Decimal(1), free_transactions=2)
    usage = UsageToRate(amounts=tuple(map(Decimal, (0, 0, 0))))
    assert told(model, usage) == [
        "0.00 EUR of 0.00 EUR free: the first 2 transactions.",
        "2% of 0.00 EUR = 0.00 EUR.",
        "1 transaction at 1.00 EUR each: 1 × 1.00 EUR = 1.00 EUR.",
        "Together 1.00 EUR.",
    ]


def test_less_than_nothing_is_added_and_not_taken_off_twice() -> None:
    """2% of -50 would be a credit, which a period is not."""
    assert told(Percentage(percent=Decimal(2)), UsageToRate(amounts=(Decimal(-50),)))[2:] == [
        "A period never costs less than nothing: 0.00 EUR + 1.00 EUR = 1.00 EUR.",
        "Together 0.00 EUR.",
    ]


def test_in_a_matrix_every_sentence_says_of_what() -> None:
    """A volume prices 17 seats, in a cell or in all else; they are not over 10 of them."""
    model = Matrix(dimensions=("region",), cells={("eu",): Volume(tiers=TIERS)}, default=Graduated(tiers=TIERS))
    groups = (
        UsageGroup(dimensions={"region": "eu"}, quantity=Decimal(17)),
        UsageGroup(dimensions={}, quantity=Decimal(2)),
    )
    assert told(model, UsageToRate(groups=groups))[:3] == [
        "region=eu: 17 seats at the price of the tier “over 10 seats”: 17 × 6.049 EUR = 102.833 EUR.",
        "region=eu: Over 10 seats, once = 0.002 EUR.",
        "All else: The first 10 seats: 2 × 8.00 EUR = 16.00 EUR.",
    ]


def test_the_quantity_that_chooses_the_tier_is_told() -> None:
    """5 seat months of 12 seats: the price of 12, which nobody could see in the 5. Converted, if all is."""
    usage = UsageToRate(quantity=Decimal(5), tier_quantity=Decimal(12))
    assert told(Volume(tiers=TIERS), usage)[0] == "The tier is that of 12 seats."
    around = Operators(free_units=Decimal(1))
    assert told(Volume(tiers=TIERS), usage, around=around)[1] == (
        "The tier is that of 11 seats, which 12 seats come to in the same way."
    )


def test_what_every_change_leaves_in_the_tiers_is_told() -> None:
    """9 for all of the month, 3 more for half of it: 1 of them up to 10, and 2 over it. 9 + 0.5, and 1."""
    changes = (
        QuantityChange(quantity=Decimal(9), prorated_quantity=Decimal(9)),
        QuantityChange(quantity=Decimal(3), prorated_quantity=Decimal("1.5")),
    )
    assert told(Graduated(tiers=TIERS), UsageToRate(changes=changes))[:4] == [
        "From 0 to 9 seats, 9 prorated: 9 in “the first 10 seats”.",
        "From 9 to 12 seats, 1.5 prorated: 0.5 in “the first 10 seats”, 1 in “over 10 seats”.",
        "The first 10 seats: 9.5 × 8.00 EUR = 76.00 EUR.",
        "Over 10 seats: 1 × 6.049 EUR = 6.049 EUR.",
    ]
    free = told(Graduated(tiers=TIERS), UsageToRate(changes=changes), around=Operators(free_units=Decimal(1)))
    assert free[1] == "From 0 to 9 seats, 9 prorated: 1 free, 8 in “the first 10 seats”."
    many = told(Graduated(tiers=TIERS), UsageToRate(changes=changes[:1] * 25))
    assert many[20] == "5 more changes in the same way."


def test_a_change_through_many_tiers_is_not_told_tier_by_tier() -> None:
    """Nobody reads a hundred, and every description is kept."""
    tiers = tuple(Tier(up_to=Decimal(n) if n < 30 else None, unit_price=Decimal(1)) for n in range(1, 31))
    changes = (QuantityChange(quantity=Decimal(30), prorated_quantity=Decimal(15)),)
    assert told(Graduated(tiers=tiers), UsageToRate(changes=changes))[0] == (
        "From 0 to 30 seats, 15 prorated: spread over 30 tiers."
    )


def test_what_was_billed_before_is_told_with_its_quantity() -> None:
    """12 in the tiers, of which nobody was told: 9 of before, and 3. The 9 cost 72."""
    told_all = told(Graduated(tiers=TIERS), UsageToRate.of(Decimal(3)), before=AlreadyBilled(quantity=Decimal(9)))
    assert told_all[0] == "9 seats billed before, and 3: together 12."
    assert told_all[-1] == (
        "Less what was billed before, which is what 9 seats cost: 92.10 EUR − 72.00 EUR = 20.10 EUR."
    )


def test_what_has_no_last_decimal_is_said_to_have_none() -> None:
    """A third of 1.00 is written with 36 decimals, and three of them are not one."""
    changes = (
        QuantityChange(quantity=Decimal(9), prorated_quantity=Decimal(9)),
        QuantityChange(quantity=Decimal(3), prorated_quantity=Decimal(1)),
    )
    assert CUT in told(Graduated(tiers=TIERS), UsageToRate(changes=changes))
    assert CUT not in told(Graduated(tiers=TIERS), UsageToRate.of(Decimal("1.123456789012")))


def test_the_share_of_a_period_is_told_in_days() -> None:
    """Which days, of which: half-open, as periods are."""
    january = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    line = Line(
        id="line_1",
        description="Seats",
        subscription_id="sub_1",
        item_id="subi_1",
        price_id="price_1",
        period=Period(datetime(2026, 1, 15, tzinfo=UTC), january.end),
        full_period=january,
        quantity=Decimal(1),
        unit_label="seats",
        amount=Money(5_48, "EUR"),
        steps=(),
        exact_amount=Decimal("5.48"),
        proration=Fraction(17, 31),
        usage=None,
        correction=0,
    )
    days = "2026-01-15 until before 2026-02-01 of 2026-01-01 until before 2026-02-01"
    assert share_of(line, "UTC") == f"17 of 31 days, {days}"
    assert share_of(replace(line, proration=Fraction(1, 3)), "UTC") == f"1/3 of the full period, {days}"
    assert share_of(replace(line, proration=Fraction(1)), "UTC") == ""


def test_a_line_of_before_is_told_as_it_was_written() -> None:
    """Steps had no kinds once; what a customer was told then stays as it was."""
    price = Price(id="p", currency="EUR", model=Graduated(tiers=TIERS), product="Seats", unit_label="seats")
    old = RatingStep(StepKind.KIND_UNSPECIFIED, Decimal(2), Decimal(8), Decimal(16), "The first 10 seats: 2 at 8 each")
    half = flat_step("1/2 of the full period", Decimal(-8), kind=StepKind.PRORATION)
    rating = rate(price, UsageToRate.of(Decimal(1)))
    line = type(rating)(
        amount=Money(8_00, "EUR"),
        exact_amount=Decimal(8),
        rounding=Decimal(0),
        steps=(old, half),
        period_amount=Money(8_00, "EUR"),
    )
    assert sentences(line, price) == [
        "The first 10 seats: 2 at 8 each = 16.00 EUR.",
        "1/2 of the full period: of 16.00 EUR that is 8.00 EUR, so 8.00 EUR taken off.",
        "Together 8.00 EUR.",
    ]


MODELS: Final = (
    Graduated(tiers=TIERS, flat_without_usage=True),
    Volume(tiers=TIERS),
    Package(size=Decimal(7), price=Decimal("1.005")),
    Dynamic(multiplier=Decimal("1.07")),
    Percentage(
        percent=Decimal("2.9"),
        fixed_fee=Decimal("0.30"),
        free_transactions=2,
        free_amount=Decimal(50),
        transaction_minimum=Decimal(1),
        transaction_maximum=Decimal(9),
    ),
    Matrix(
        dimensions=("region",), cells={("eu",): Volume(tiers=TIERS)}, default=Package(size=Decimal(3), price=Decimal(2))
    ),
)
quantities = st.decimals(min_value=-50, max_value=500, places=2)


@given(
    st.sampled_from(MODELS),
    st.lists(quantities, min_size=1, max_size=6),
    st.sampled_from([None, Decimal("12.5"), Decimal(100)]),
    st.sampled_from([None, Decimal(20)]),
    st.sampled_from([None, Decimal("20.01"), Decimal(60)]),
    st.sampled_from([None, -1_00, 3_69]),
)
def test_every_sum_that_is_told_is_right(
    model: Model,
    amounts: list[Decimal],
    discount: Decimal | None,
    minimum: Decimal | None,
    maximum: Decimal | None,
    billed: int | None,
) -> None:
    """What stands before "=" is what stands behind it, and the end is the amount, for whoever follows with a pencil."""
    around = Operators(discount_percent=discount, minimum_amount=minimum, maximum_amount=maximum)
    price = Price(id="p", currency="EUR", model=model, product="", unit_label="", is_metered=True, operators=around)
    groups = tuple(
        UsageGroup(dimensions={"region": "eu" if n % 2 else ""}, quantity=each) for n, each in enumerate(amounts)
    )
    usage = UsageToRate(groups=groups) if isinstance(model, Matrix) else UsageToRate(amounts=tuple(amounts))
    before = None if billed is None else AlreadyBilled(amount=Money(billed, "EUR"))
    rating = rate(price, usage, already_billed=before)
    told = [sentence.removesuffix(".") for sentence in sentences(rating, price)]
    sums = [sentence.rpartition(": ")[2].split(" = ") for sentence in told if " = " in sentence]
    for told_sum in sums:
        if len(told_sum) == 2 and SUM.fullmatch(told_sum[0]):
            assert _value(told_sum[0]) == _value(told_sum[1])
    last = told[-1].partition(": ")[0] if told[-1].startswith("Rounded") else told[-1]
    assert _value(last.rpartition("= ")[2].removeprefix("Together ").removeprefix("Rounded half up to ")) == Fraction(
        rating.amount.amount
    )


SUM: Final = re.compile(r"-?[\d.,]+(?: EUR)?(?: [×−+] -?[\d.,]+ EUR)+")


def _value(text: str) -> Fraction:
    """Of numbers with `×` before `+` and `−`."""
    total = Fraction(0)
    for sign, term in re.findall(r"(?:^| )([−+]?) ?((?:-?[\d.,]+)(?: × -?[\d.,]+)*)", text.replace(" EUR", "")):
        product = Fraction(1)
        for factor in term.replace(",", "").split(" × "):
            product *= Fraction(factor)
        total += -product if sign == "−" else product
    return total


def test_a_long_decimal_is_told_to_its_last_digit() -> None:
    """Arithmetic that rounds to the digits of the machine's context would leave a sum that does not add up."""
    third, taken = Decimal("3." + "3" * 36), Decimal("-6." + "6" * 35 + "7")
    rating = Rating(
        amount=Money(3_33, "EUR"),
        exact_amount=third,
        rounding=Decimal("-0.00" + "3" * 34),
        steps=(flat_step("Fixed price", Decimal(10)), flat_step("1/3", taken, kind=StepKind.PRORATION)),
        period_amount=Money(3_33, "EUR"),
    )
    price = Price(id="p", currency="EUR", model=Flat(amount=Decimal(10)), product="", unit_label="")
    text = " ".join(sentences(rating, price))
    assert "6." + "6" * 35 + "7 EUR taken off" in text
    assert "0.00" + "3" * 34 + " EUR" in text
