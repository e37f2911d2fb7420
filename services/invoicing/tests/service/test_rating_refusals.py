"""What cannot be rated is refused with the right word and the field that is wrong; never with a mistake of ours."""

from __future__ import annotations

import random
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from google.type import money_pb2

from common import wire
from common.money import Money
from common.testing import refused
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb

from .past_bills import new
from .price_list import PriceList, decimal
from .to_rate import MODELS, Json, by, per_unit, reason_of, tiers, usage

Code = grpc.StatusCode
SEED: Final = 20260101


BAD_USAGES: Final[dict[str, tuple[rating_pb2.UsageToRate, str]]] = {
    "no number": (usage("x"), "quantity"),
    "empty number": (rating_pb2.UsageToRate(quantity=decimal("")), "quantity"),
    "too many decimals": (usage("0.0000000000001"), "quantity"),
    "too many digits": (usage("9" * 39), "quantity"),
    "tier quantity": (usage("1", tier_quantity=decimal("x")), "tier_quantity"),
    "an amount": (usage(amounts=[decimal("1"), decimal("x")]), "amounts[1]"),
    "too many amounts": (usage(amounts=[decimal("1")] * 10_001), "amounts"),
    "a change": (
        usage(changes=[rating_pb2.QuantityChange(quantity=decimal("1"))]),
        "changes[0].prorated_quantity",
    ),
    "a share that is too fine": (
        usage(changes=[rating_pb2.QuantityChange(quantity=decimal("1"), prorated_quantity=decimal("0." + "3" * 37))]),
        "changes[0].prorated_quantity",
    ),
    "a change of nothing": (
        usage(changes=[rating_pb2.QuantityChange(prorated_quantity=decimal("1"))]),
        "changes[0].quantity",
    ),
    "a part that is more than the whole": (
        usage(changes=[rating_pb2.QuantityChange(quantity=decimal("8"), prorated_quantity=decimal("8.1"))]),
        "changes[0].prorated_quantity",
    ),
    "a part that goes the other way": (
        usage(changes=[rating_pb2.QuantityChange(quantity=decimal("-8"), prorated_quantity=decimal("4"))]),
        "changes[0].prorated_quantity",
    ),
    "too many changes": (usage(changes=[rating_pb2.QuantityChange()] * 10_001), "changes"),
    "changes and a quantity": (
        usage("1", changes=[rating_pb2.QuantityChange(quantity=decimal("1"), prorated_quantity=decimal("1"))]),
        "quantity",
    ),
    "groups and a quantity": (usage("1", groups=[rating_pb2.UsageGroup(quantity=decimal("1"))]), "quantity"),
    "a group without quantity": (usage(groups=[rating_pb2.UsageGroup()]), "groups[0].quantity"),
    "a group twice": (
        usage(
            groups=[
                rating_pb2.UsageGroup(dimensions={"a": "x"}, quantity=decimal("1")),
                rating_pb2.UsageGroup(dimensions={"a": "x", "b": ""}, quantity=decimal("1")),
            ]
        ),
        "groups[1].dimensions",
    ),
    "too many groups": (usage(groups=[rating_pb2.UsageGroup()] * 10_001), "groups"),
    "too many dimensions": (
        usage(groups=[rating_pb2.UsageGroup(dimensions={str(n): "x" for n in range(17)}, quantity=decimal("1"))]),
        "groups[0].dimensions",
    ),
    "a long value": (
        usage(groups=[rating_pb2.UsageGroup(dimensions={"a": "x" * 129}, quantity=decimal("1"))]),
        "groups[0].dimensions",
    ),
    "a dimension without a name": (
        usage(groups=[rating_pb2.UsageGroup(dimensions={"": "x"}, quantity=decimal("1"))]),
        "groups[0].dimensions",
    ),
    "no meter": (
        usage(meter_quantities=[rating_pb2.MeterQuantity(quantity=decimal("1"))]),
        "meter_quantities[0].meter",
    ),
    "a meter without quantity": (
        usage(meter_quantities=[rating_pb2.MeterQuantity(meter="a")]),
        "meter_quantities[0].quantity",
    ),
    "a meter twice": (
        usage(meter_quantities=[rating_pb2.MeterQuantity(meter="a", quantity=decimal("1"))] * 2),
        "meter_quantities[1].meter",
    ),
    "too many meters": (usage(meter_quantities=[rating_pb2.MeterQuantity()] * 101), "meter_quantities"),
}


@pytest.mark.parametrize("what", BAD_USAGES)
async def test_a_usage_that_makes_no_sense_is_refused(price_list: PriceList, rating: Any, what: str) -> None:
    """Alone, in an explanation and in a batch, with the field that is wrong."""
    told, field = BAD_USAGES[what]
    asked = by(price_list.price(meter="calls", per_unit=per_unit("1")), told)
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.Rate(asked)
    assert refusal.field == f"usage.{field}"
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.ExplainRating(pb.ExplainRatingRequest(rate=asked))
    assert refusal.field == f"rate.usage.{field}"
    for without_steps in (False, True):
        batch = pb.BatchRateRequest(requests=[asked], without_steps=without_steps)
        [result] = (await rating.BatchRate(batch)).results
        assert (result.reason, result.field, result.HasField("rating")) == ("INVALID_ARGUMENT", f"usage.{field}", False)
        assert result.message


async def test_what_was_billed_before_has_to_make_sense(price_list: PriceList, rating: Any) -> None:
    """It is compared with the price: in its currency, and in quantities only where there is one."""

    async def field_of(told: rating_pb2.UsageToRate, before: rating_pb2.AlreadyBilled, reason: str) -> str:
        price = price_list.price(meter="calls", graduated=price_pb2.GraduatedModel(tiers=tiers(("", "1"))))
        with refused(reason, Code.INVALID_ARGUMENT) as refusal:
            await rating.Rate(by(price, told, already_billed=before))
        return refusal.field

    dollars = rating_pb2.AlreadyBilled(amount=wire.money(Money(1, "USD")))
    assert await field_of(usage("1"), dollars, "INVALID_ARGUMENT") == "already_billed.amount.currency_code"
    fine = rating_pb2.AlreadyBilled(quantity=decimal("1e-13"))
    assert await field_of(usage("1"), fine, "INVALID_ARGUMENT") == "already_billed.quantity"
    nowhere = rating_pb2.AlreadyBilled(amount=money_pb2.Money(units=1))
    assert await field_of(usage("1"), nowhere, "UNKNOWN_CURRENCY") == "already_billed.amount.currency_code"
    changed = usage(changes=[rating_pb2.QuantityChange(quantity=decimal("1"), prorated_quantity=decimal("1"))])
    counted = rating_pb2.AlreadyBilled(quantity=decimal("1"))
    assert await field_of(changed, counted, "INVALID_ARGUMENT") == "already_billed.quantity"


async def test_what_only_the_model_can_refuse_is_told_by_field(price_list: PriceList, rating: Any) -> None:
    """Packages are not prorated; the field is that of the request, wherever it stands."""
    packed = price_pb2.Tier(unit_price=decimal("1"), package_size=decimal("10"))
    price = price_list.price(graduated=price_pb2.GraduatedModel(tiers=[packed]))
    changed = usage(changes=[rating_pb2.QuantityChange(quantity=decimal("1"), prorated_quantity=decimal("1"))])
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.Rate(by(price, changed))
    assert refusal.field == "usage.changes"
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.ExplainRating(pb.ExplainRatingRequest(rate=by(price, changed)))
    assert refusal.field == "rate.usage.changes"


async def test_a_price_has_to_be_there(price_list: PriceList, rating: Any) -> None:
    """No price, an id that is none, and one of nobody are three different mistakes."""
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.Rate(pb.RateRequest(usage=usage("1")))
    assert refusal.field == "price_id"
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.Rate(pb.RateRequest(price_id="price_1", usage=usage("1")))
    assert refusal.field == "price_id"
    with refused("PRICE_NOT_FOUND", Code.NOT_FOUND):
        await rating.Rate(pb.RateRequest(price_id=new("price"), usage=usage("1")))
    with refused("PRICE_NOT_FOUND", Code.NOT_FOUND):
        await rating.BatchRate(pb.BatchRateRequest(price_id=new("price")))


async def test_more_than_anybody_can_pay_is_refused(price_list: PriceList, rating: Any) -> None:
    """An amount has at most 18 digits."""
    price = price_list.price(per_unit=per_unit("999999999999999"))
    with refused("AMOUNT_OUT_OF_RANGE", Code.FAILED_PRECONDITION):
        await rating.Rate(by(price, usage("9" * 26)))


NUMBERS: Final = (
    *("", "0", "1", "-1", "0.000000000001", "123456789.123456789", "-0", "1e30", "-1e37", "9" * 38, "-" + "9" * 38),
    *("NaN", "Infinity", "0x1", "1_0", "٣", "1e999", "1e-13", "9" * 200, " 1", "--1", "1.", ".5", "+1"),
)
SOUND: Final = NUMBERS[1:11]
TEXTS: Final = ("", "region", "model", "eu", "x" * 200, "a\x00b", "é", "💥", " x", "price_1", "EUR", "calls", "rows")


def garbage(generator: random.Random, prices: list[str]) -> pb.RateRequest:
    """A request that may be anything: often nearly right, so that it gets far."""
    tidy = generator.random() < 0.5

    def number() -> Any:  # Any: a Decimal
        return decimal(generator.choice(SOUND if tidy or generator.random() < 0.8 else NUMBERS))

    def maybe(value: Any) -> Any:  # Any: of any field
        return value if generator.random() < 0.4 else None

    def several(make: Any) -> list[Any]:  # Any: as above
        return [make() for _ in range(generator.choice((0, 0, 0, 1, 2, 5)))]

    def group() -> rating_pb2.UsageGroup:
        names = {generator.choice(TEXTS): generator.choice(TEXTS) for _ in range(generator.randrange(3))}
        return rating_pb2.UsageGroup(dimensions={} if tidy else names, quantity=number())

    def meter() -> rating_pb2.MeterQuantity:
        return rating_pb2.MeterQuantity(meter=generator.choice(TEXTS), quantity=number())

    told = rating_pb2.UsageToRate(
        quantity=maybe(number()),
        tier_quantity=maybe(number()),
        amounts=several(number),
        changes=several(lambda: rating_pb2.QuantityChange(quantity=number(), prorated_quantity=number())),
        groups=several(group),
        meter_quantities=several(meter),
    )
    before = rating_pb2.AlreadyBilled(quantity=maybe(number()))
    if generator.random() < 0.5:
        before.amount.currency_code = generator.choice(("EUR", "EUR", "USD", "JPY", "", "XXX"))
        before.amount.units = generator.choice((0, 1, -1, 10**15, 2**63 - 1, -(2**63)))
        before.amount.nanos = generator.choice((0, 0, 10**7, 1, -1, 2**31 - 1))
    return pb.RateRequest(
        price_id=generator.choice(prices),
        usage=maybe(told) if generator.random() < 0.1 else told,
        already_billed=maybe(before),
        period_under_way=generator.random() < 0.3,
    )


async def test_garbage_is_refused_and_never_a_mistake_of_ours(price_list: PriceList, rating: Any) -> None:
    """By every model, with what surrounds it: a rating or a reason, always, and the same alone and in a batch."""
    generator = random.Random(SEED)  # figures, not secrets
    around: list[Json] = [
        {},
        {"meter": "calls"},
        {"meter": "calls", "discount_percent": decimal("33.333333333333"), "minimum_amount": decimal("1")},
        {"maximum_amount": decimal("0.01"), "billing_timing": price_pb2.Price.IN_ARREARS},
    ]
    prices = [price_list.price(**fields, **each).id for fields, _, _ in MODELS.values() for each in around]
    quantities = ("per_unit", "graduated", "volume", "package")
    conversions = [
        price_pb2.UnitConversion(divide_by=decimal("3600"), rounding=price_pb2.UnitConversion.UP, decimals=-2),
        price_pb2.UnitConversion(multiply_by=decimal("0.000001")),
    ]
    for model, (fields, _, _) in MODELS.items():
        if model.split(",", maxsplit=1)[0].replace(" ", "_") in quantities:
            prices += [
                price_list.price(**fields, unit_conversion=each, free_units=decimal("7.5")).id for each in conversions
            ]
    requests = [garbage(generator, prices) for _ in range(4_000)]
    alone: list[str] = []
    for request in requests[:2_000]:
        alone.append(await reason_of(rating, request))
    for without_steps in (False, True):
        batch = pb.BatchRateRequest(requests=requests, without_steps=without_steps)
        results = (await rating.BatchRate(batch)).results
        assert [each.reason for each in results[:2_000]] == alone
    # Otherwise the garbage would prove nothing.
    assert min(alone.count(""), alone.count("INVALID_ARGUMENT"), alone.count("NEGATIVE_QUANTITY")) > 30
