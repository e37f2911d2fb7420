"""What always holds of ratings, whatever the price and the usage."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, exact_sum, minor_units
from invoicing.domain.errors import NegativeQuantity
from invoicing.domain.explanation import sentences
from invoicing.domain.price import (
    Capacity,
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
    Size,
    Tariff,
    Tier,
    UnitConversion,
    Volume,
)
from invoicing.domain.rating import rate, rate_amounts
from invoicing.domain.steps import StepKind
from invoicing.domain.usage import AlreadyBilled, MeterQuantity, QuantityChange, UsageGroup, UsageToRate


def numbers(most: int, places: int, *, least: str | int = 0) -> st.SearchStrategy[Decimal]:
    return st.decimals(min_value=Decimal(least), max_value=most, places=places, allow_nan=False, allow_infinity=False)


unit_prices = numbers(10_000, 12)
quantities = numbers(10**9, 6)
sizes = numbers(1_000, 3, least="0.001")
percents = numbers(100, 4)


@st.composite
def tiers(draw: st.DrawFn, *, flat_amounts: bool = True, packages: bool = True) -> tuple[Tier, ...]:
    bounds = draw(st.lists(numbers(10**6, 3, least="0.001"), unique=True, max_size=4))
    of_money = draw(st.booleans())
    return tuple(
        Tier(
            up_to=bound,
            unit_price=Decimal(0) if of_money else draw(unit_prices),
            flat_amount=draw(unit_prices) if flat_amounts else Decimal(0),
            percent=draw(percents) if of_money else None,
            package_size=draw(st.none() | sizes) if packages and not of_money else None,
        )
        for bound in [*sorted(bounds), None]
    )


graduated = st.builds(Graduated, tiers=tiers(), flat_without_usage=st.booleans())
volumes = st.builds(Volume, tiers=tiers(), flat_without_usage=st.booleans())
other_tariffs = st.one_of(
    st.builds(PerUnit, unit_price=unit_prices), st.builds(Package, size=sizes, price=unit_prices), graduated
)
tariffs: st.SearchStrategy[Tariff] = st.one_of(other_tariffs, volumes)


@st.composite
def percentages(draw: st.DrawFn) -> Percentage:
    minimum = draw(numbers(100, 2))
    return Percentage(
        percent=draw(percents),
        fixed_fee=draw(numbers(10, 2)),
        free_transactions=draw(st.integers(0, 3)),
        free_amount=draw(st.none() | numbers(1_000, 2)),
        transaction_minimum=minimum,
        transaction_maximum=draw(st.none() | numbers(1_000, 2).map(lambda more: exact_sum((minimum, more)))),
    )


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    dimensions = draw(st.sampled_from([("region",), ("region", "model")]))
    values = st.tuples(*(st.sampled_from(["", "a", "b"]) for _ in dimensions))
    return Matrix(
        dimensions=dimensions, cells=draw(st.dictionaries(values, tariffs, max_size=3)), default=draw(tariffs)
    )


@st.composite
def capacities(draw: st.DrawFn) -> Capacity:
    limits = sorted(draw(st.lists(st.integers(0, 1_000), unique=True, max_size=3)))
    held = [Size(limits={"x": Decimal(limit), "y": Decimal(2 * limit)}, amount=draw(unit_prices)) for limit in limits]
    return Capacity(sizes=(*held, Size(limits={}, amount=draw(unit_prices))))


conversions = st.one_of(
    st.builds(UnitConversion, divide_by=st.sampled_from([Decimal(8), Decimal(1_000), Decimal(1_024)])),
    st.builds(UnitConversion, multiply_by=sizes),
    st.builds(
        UnitConversion, divide_by=st.none() | sizes, rounding=st.sampled_from(Rounding), decimals=st.integers(-3, 3)
    ),
)


@st.composite
def operators(draw: st.DrawFn, model: Model) -> Operators:
    has_quantity = isinstance(model, Tariff)
    minimum = draw(st.none() | numbers(1_000, 4))
    maximum = draw(st.none() | numbers(10**6, 4))
    return Operators(
        unit_conversion=draw(st.none() | conversions) if has_quantity or isinstance(model, Matrix) else None,
        free_units=draw(st.none() | quantities) if has_quantity else None,
        discount_percent=draw(st.none() | percents),
        minimum_amount=minimum,
        maximum_amount=maximum if minimum is None or maximum is None else max(minimum, maximum),
    )


models: st.SearchStrategy[Model] = st.one_of(
    tariffs,
    st.builds(Flat, amount=unit_prices),
    percentages(),
    matrices(),
    st.builds(Dynamic, multiplier=unit_prices),
    capacities(),
)


def price_of(model: Model, *, currency: str = "EUR", around: Operators | None = None) -> Price:
    return Price(
        id="price_1",
        currency=currency,
        model=model,
        product="API calls",
        unit_label="call",
        is_metered=True,
        operators=around or Operators(),
    )


@st.composite
def prices(draw: st.DrawFn, of: st.SearchStrategy[Model] = models) -> Price:
    model = draw(of)
    currency = draw(st.sampled_from(["EUR", "JPY", "BHD"]))
    return price_of(model, currency=currency, around=draw(operators(model)))


groups = st.lists(
    st.builds(
        UsageGroup,
        dimensions=st.dictionaries(st.sampled_from(["region", "model"]), st.sampled_from(["", "a", "b", "c"])),
        quantity=numbers(10**6, 3, least=-1_000),
    ),
    max_size=5,
)
transactions = st.lists(numbers(10_000, 2, least=-10_000), max_size=5)
meters = st.lists(
    st.builds(MeterQuantity, meter=st.sampled_from(["x", "y"]), quantity=numbers(3_000, 1)),
    unique_by=lambda each: each.meter,
)
usages = st.one_of(
    numbers(10**9, 6, least=-1_000).map(UsageToRate.of),
    st.builds(lambda found: UsageToRate(amounts=tuple(found)), transactions),
    st.builds(lambda found: UsageToRate(groups=tuple(found)), groups),
    st.builds(lambda found: UsageToRate(meter_quantities=tuple(found)), meters),
)
billed_before = st.none() | st.builds(
    AlreadyBilled, amount=st.none() | st.integers(0, 10**6).map(lambda n: Money(n, "EUR"))
)


def exact(model: Model, quantity: Decimal) -> Decimal:
    return rate(price_of(model), UsageToRate.of(quantity)).exact_amount


@given(models, usages, billed_before, st.booleans(), st.data())
def test_the_steps_add_up_and_the_rounding_is_the_difference(
    model: Model, usage: UsageToRate, before: AlreadyBilled | None, under_way: bool, data: st.DataObject
) -> None:
    """An explanation that does not add up explains nothing; this one does, to the last digit, and in one currency."""
    price = price_of(model, around=data.draw(operators(model)))
    rating = rate(price, usage, already_billed=before, period_under_way=under_way)
    assert rating.steps
    assert exact_sum(step.amount for step in rating.steps) == rating.exact_amount
    assert exact_sum((rating.exact_amount, rating.rounding)) == rating.amount.amount
    assert abs(rating.rounding) <= Decimal("0.005")
    assert {rating.amount.currency, rating.period_amount.currency} == {price.currency}
    assert rating.period_amount.minor >= 0
    assert all(step.description for step in rating.steps)
    for step in rating.steps:
        if step.unit_price is not None:
            assert Fraction(step.amount) == Fraction(step.quantity) * Fraction(step.unit_price)


@given(prices(), st.lists(numbers(10**9, 6, least=-1_000), max_size=20))
def test_without_steps_the_amounts_are_the_same(price: Price, several: list[Decimal]) -> None:
    """Two ways that share nothing but the price: the one counts in whole numbers, the other in decimals."""
    if isinstance(price.model, Graduated | Volume):
        borders = [tier.up_to for tier in price.model.tiers if tier.up_to is not None]
        several += [*borders, *(exact_sum((border, Decimal("0.000001"))) for border in borders)]
    assert rate_amounts(price, several) == [rate(price, UsageToRate.of(each)).amount.minor for each in several]


def test_without_steps_what_cannot_be_rated_is_refused_too() -> None:
    """And a quantity finer than any is rated like every other: 5 × 10^-15 at 10^12 each is half a cent."""
    licensed = replace(price_of(PerUnit(unit_price=Decimal(10**12))), is_metered=False)
    with pytest.raises(NegativeQuantity):
        rate_amounts(licensed, [Decimal(1), Decimal(-1)])
    assert rate_amounts(licensed, [Decimal("4.9e-15"), Decimal("5e-15"), Decimal("5e-12")]) == [0, 1, 500]
    assert rate_amounts(licensed, []) == []


@given(st.one_of(other_tariffs, st.builds(Dynamic, multiplier=unit_prices)), quantities, quantities)
def test_more_never_costs_less(model: Model, first: Decimal, more: Decimal) -> None:
    """Or a customer would do well to waste."""
    assert exact(model, exact_sum((first, more))) >= exact(model, first)


def test_but_for_volume_and_that_is_known() -> None:
    """Found by search, so that nobody promises it: 15 at 10 are 150, 16 at 5 are 80. docs/pricing.md says so."""

    def falls(model: Model, quantity: int) -> bool:
        return exact(model, Decimal(quantity + 1)) < exact(model, Decimal(quantity))

    few = range(1, 5)
    falling = [
        (bound, first, second)
        for bound, first, second in product(few, repeat=3)
        if any(falls(_two_tiers(Volume, bound, first, second), quantity) for quantity in range(8))
    ]
    assert (1, 4, 1) in falling
    # Only where the second tier is cheaper, and by more than one unit more makes up for.
    assert all(bound * first > (bound + 1) * second for bound, first, second in falling)
    for bound, first, second in product(few, repeat=3):
        graduated_alike = _two_tiers(Graduated, bound, first, second)
        assert not any(falls(graduated_alike, quantity) for quantity in range(8))
    published = _two_tiers(Volume, 15, 10, 5)
    assert (exact(published, Decimal(15)), exact(published, Decimal(16))) == (Decimal(150), Decimal(80))


def _two_tiers(model: type[Graduated | Volume], bound: int, first: int, second: int) -> Graduated | Volume:
    tiers = (
        Tier(up_to=Decimal(bound), unit_price=Decimal(first)),
        Tier(up_to=None, unit_price=Decimal(second)),
    )
    return model(tiers=tiers)


@given(percentages(), st.lists(numbers(10_000, 2), max_size=5), numbers(10_000, 2))
def test_one_transaction_more_never_costs_less(model: Percentage, before: list[Decimal], one: Decimal) -> None:
    """What is free is free in order of time: what comes later takes nothing back."""

    def of(*found: Decimal) -> Decimal:
        return rate(price_of(model), UsageToRate(amounts=found)).exact_amount

    assert of(*before, one) >= of(*before)


@given(graduated, quantities, quantities)
def test_a_quantity_costs_the_same_in_two_parts(model: Graduated, first: Decimal, more: Decimal) -> None:
    """graduated(a) + what b costs from a = graduated(a + b), exactly and as billed."""
    price = price_of(model)
    one = rate(price, UsageToRate.of(first))
    rest = rate(price, UsageToRate.of(more), already_billed=AlreadyBilled(quantity=first))
    whole = rate(price, UsageToRate.of(exact_sum((first, more))))
    assert one.amount + rest.amount == whole.amount == rest.period_amount
    assert exact_sum((rest.exact_amount, one.amount.amount)) == whole.exact_amount


@given(st.builds(Graduated, tiers=tiers(flat_amounts=False, packages=False)), quantities, quantities)
def test_what_comes_later_begins_in_the_tier_that_was_reached(model: Graduated, first: Decimal, more: Decimal) -> None:
    """The same by tiers that are made shorter, without looking at what was billed before."""
    left = tuple(
        replace(tier, up_to=None if tier.up_to is None else exact_sum((tier.up_to, -first)))
        for tier in model.tiers
        if tier.up_to is None or tier.up_to > first
    )
    whole = exact(model, exact_sum((first, more)))
    assert exact_sum((exact(model, first), exact(Graduated(tiers=left), more))) == whole


@given(st.builds(Graduated, tiers=tiers(packages=False)), quantities)
def test_the_tiers_share_out_the_whole_quantity(model: Graduated, quantity: Decimal) -> None:
    """Nothing is billed twice at a border, and nothing falls between two tiers."""
    steps = rate(price_of(model), UsageToRate.of(quantity)).steps
    assert exact_sum(step.quantity for step in steps if step.kind is not StepKind.FLAT) == quantity


@given(tiers(), quantities, st.booleans())
def test_volume_and_graduated_agree_on_one_tier(found: tuple[Tier, ...], quantity: Decimal, unused: bool) -> None:
    """There is only one way to fall into one tier."""
    one = (found[-1],)
    assert exact(Graduated(tiers=one, flat_without_usage=unused), quantity) == exact(
        Volume(tiers=one, flat_without_usage=unused), quantity
    )


@given(matrices(), groups)
def test_the_order_of_groups_does_not_matter(model: Matrix, found: list[UsageGroup]) -> None:
    """Metering answers in any order; a cell is a sum."""
    one = rate(price_of(model), UsageToRate(groups=tuple(found)))
    other = rate(price_of(model), UsageToRate(groups=tuple(sorted(found, key=lambda each: (each.quantity, str(each))))))
    assert one == other


@given(st.builds(Dynamic, multiplier=unit_prices), transactions)
def test_the_order_of_amounts_does_not_matter_where_nothing_is_free(model: Dynamic, found: list[Decimal]) -> None:
    """For PERCENTAGE it does matter once something is free; without any allowance it does not."""
    share = Percentage(percent=Decimal("2.5"), fixed_fee=Decimal("0.30"), transaction_minimum=Decimal(1))
    for each in (model, share):
        one = rate(price_of(each), UsageToRate(amounts=tuple(found)))
        assert one == rate(price_of(each), UsageToRate(amounts=tuple(reversed(found))))


@given(st.builds(Graduated, tiers=tiers(packages=False)), st.integers(1, 10**7).map(Decimal))
def test_a_change_for_the_whole_period_costs_what_the_quantity_does(model: Graduated, start: Decimal) -> None:
    """Nothing is prorated of what was there from the start; what was gone at once leaves the tiers it had reached."""
    whole = QuantityChange(quantity=start, prorated_quantity=start)
    there = rate(price_of(model), UsageToRate(changes=(whole,))).exact_amount
    assert there == exact(model, start)
    gone = QuantityChange(quantity=-start, prorated_quantity=-start)
    floors = [Decimal(0), *(tier.up_to for tier in model.tiers if tier.up_to is not None)]
    flats = [tier.flat_amount for tier, floor in zip(model.tiers, floors, strict=True) if floor < start]
    assert rate(price_of(model), UsageToRate(changes=(whole, gone))).exact_amount == exact_sum(flats)


# What is told can be followed with a pencil

NUMBER: Final = r"-?[\d,]+(?:\.\d+)?"
PRODUCT: Final = re.compile(rf"({NUMBER}) × ({NUMBER}) \w+ = ({NUMBER}) \w+\.$")
SHARE: Final = re.compile(rf"({NUMBER})% (of|off) ({NUMBER}) \w+ = ({NUMBER}) \w+\.$")
RAISED: Final = re.compile(rf": ({NUMBER}) × ({NUMBER}) \w+ − ({NUMBER}) \w+ = ({NUMBER}) \w+\.$")
DIFFERENCE: Final = re.compile(rf"({NUMBER}) \w+ − ({NUMBER}) \w+ = ({NUMBER}) \w+\.$")
RESULT: Final = re.compile(rf" = ({NUMBER}) \w+\.$")


def read(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def followed(told: list[str], currency: str) -> Fraction:
    """What somebody finds who only has the sentences, checking every one of them on the way."""
    total = Fraction(0)
    for position, sentence in enumerate(told):
        if sentence.startswith("Together "):
            assert sentence == f"Together {re.findall(NUMBER, sentence)[0]} {currency}."
            assert read(re.findall(NUMBER, sentence)[0]) == total
            return rounded(told[position + 1 :], total, currency)
        checked(sentence, total)
        if result := RESULT.search(sentence):
            total += read(result[1])
    raise AssertionError("the sum is not told")


def checked(sentence: str, total: Fraction) -> None:
    if found := PRODUCT.search(sentence):
        assert read(found[1]) * read(found[2]) == read(found[3])
    if found := SHARE.search(sentence):
        sign = 1 if found[2] == "of" else -1
        assert sign * read(found[1]) * read(found[3]) / 100 == read(found[4])
        assert found[2] == "of" or read(found[3]) == total
    if found := RAISED.search(sentence):
        # Of the transactions that are raised or lowered, which need not be all.
        assert read(found[1]) * read(found[2]) - read(found[3]) == read(found[4])
    elif found := DIFFERENCE.search(sentence):
        assert read(found[1]) - read(found[2]) == read(found[3])
        assert read(found[2]) == total


def rounded(rest: list[str], total: Fraction, currency: str) -> Fraction:
    for sentence in rest:
        if found := re.match(rf"Rounded half up to ({NUMBER}) \w+: ({NUMBER}) \w+ (added|taken off)\.$", sentence):
            total += read(found[2]) if found[3] == "added" else -read(found[2])
            assert read(found[1]) == total
        elif found := DIFFERENCE.search(sentence):
            assert read(found[1]) == total
            assert total - read(found[2]) == read(found[3])
            total = read(found[3])
    assert (total * 10 ** minor_units(currency)).denominator == 1
    return total


@given(models, usages, billed_before, st.booleans(), st.data())
def test_the_sentences_lead_to_the_amount(
    model: Model, usage: UsageToRate, before: AlreadyBilled | None, under_way: bool, data: st.DataObject
) -> None:
    """Whoever adds up what they read finds what is due: every number that is used is there."""
    price = price_of(model, around=data.draw(operators(model)))
    rating = rate(price, usage, already_billed=before, period_under_way=under_way)
    assert followed(sentences(rating, price), price.currency) == Fraction(rating.amount.amount)


@pytest.mark.parametrize("amounts", [("0", "0"), ("0", "-0.01"), ("1", "5")])
def test_the_sentences_lead_to_what_is_raised(amounts: tuple[str, ...]) -> None:
    """Hardly ever found by chance: two at once, and beside a correction of the sum."""
    price = price_of(Percentage(percent=Decimal(1), fixed_fee=Decimal(0), transaction_minimum=Decimal("0.10")))
    rating = rate(price, UsageToRate(amounts=tuple(map(Decimal, amounts))))
    told = sentences(rating, price)
    assert any(RAISED.search(sentence) for sentence in told)
    assert followed(told, price.currency) == Fraction(rating.amount.amount)
