"""Rating through its door: what a usage costs, at which price, and why."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.money import Money
from common.testing import SANDBOX_START, Suite, refused
from invoicing import clients
from invoicing.convert.price import price_from_proto
from invoicing.domain.rating import rate
from invoicing.domain.steps import StepKind, flat_step
from invoicing.domain.usage import UsageToRate
from saldo.catalog.v1 import price_pb2
from saldo.catalog.v1.catalog_service_pb2 import PricedProduct
from saldo.invoicing.v1 import invoice_pb2, rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub

from .past_bills import bill, line, month, new
from .price_list import PriceList, decimal, serving
from .to_rate import MODELS, by, cents, per_unit, tiers, usage

Code = grpc.StatusCode
SEED: Final = 20260101


@pytest.mark.parametrize("model", MODELS)
async def test_a_usage_is_rated_by_every_model(price_list: PriceList, rating: Any, model: str) -> None:
    """What a price looks at reaches it; the steps add up to the exact amount, and the rounding is told."""
    fields, told, due = MODELS[model]
    found = await rating.Rate(by(price_list.price(meter="calls", **fields), told))
    assert cents(found.amount) == cents(found.period_amount) == due
    assert sum(Decimal(step.amount.value) for step in found.steps) == Decimal(found.exact_amount.value)
    assert Decimal(found.exact_amount.value) + Decimal(found.rounding.value) == Decimal(due) / 100
    assert all(step.kind and step.description for step in found.steps)


async def test_what_was_billed_before_is_taken_off(price_list: PriceList, rating: Any) -> None:
    """Rounded amounts are compared: a cent that was rounded up is not billed a second time."""
    price = price_list.price(meter="calls", per_unit=per_unit("0.067"))
    before = rating_pb2.AlreadyBilled(amount=wire.money(Money(3_69, "EUR")))
    nothing = await rating.Rate(by(price, usage("55"), already_billed=before))
    assert (cents(nothing.amount), cents(nothing.period_amount)) == (0, 3_69)
    counted = rating_pb2.AlreadyBilled(quantity=decimal("55"))
    more = await rating.Rate(by(price, usage("1"), already_billed=counted))
    assert (cents(more.amount), cents(more.period_amount)) == (6, 3_75)
    last = more.steps[-1]
    assert (last.kind, last.amount.value) == (invoice_pb2.RatingStep.BILLED_BEFORE, "-3.69")


async def test_an_empty_word_about_what_was_billed_says_nothing(price_list: PriceList, rating: Any) -> None:
    """As if it were absent."""
    price = price_list.price(meter="calls", per_unit=per_unit("1"))
    found = await rating.Rate(by(price, usage("2"), already_billed=rating_pb2.AlreadyBilled()))
    assert cents(found.amount) == 2_00


async def test_while_a_period_is_under_way_nothing_uncertain_is_due(price_list: PriceList, rating: Any) -> None:
    """A minimum is only certain when the period has ended."""
    price = price_list.price(meter="calls", minimum_amount=decimal("10"), per_unit=per_unit("1"))
    assert cents((await rating.Rate(by(price, usage("2")))).amount) == 10_00
    assert cents((await rating.Rate(by(price, usage("2"), period_under_way=True))).amount) == 2_00


async def test_less_than_nothing_is_refused_only_where_somebody_decided_it(price_list: PriceList, rating: Any) -> None:
    """A meter may be corrected below zero; a number of seats may not."""
    metered = price_list.price(meter="calls", per_unit=per_unit("1"))
    assert cents((await rating.Rate(by(metered, usage("-3")))).amount) == 0
    with refused("NEGATIVE_QUANTITY", Code.FAILED_PRECONDITION):
        await rating.Rate(by(price_list.price(per_unit=per_unit("1")), usage("-3")))
    inline = price_pb2.Price(currency="EUR", per_unit=per_unit("1"))
    with refused("NEGATIVE_QUANTITY", Code.FAILED_PRECONDITION):
        await rating.Rate(pb.RateRequest(price=inline, usage=usage("-3")))


# Where prices come from


async def test_a_price_is_asked_for_once(price_list: PriceList, rating: Any) -> None:
    """A price never changes: what was answered about it is true for ever."""
    first, second = price_list.price(per_unit=per_unit("1")), price_list.price(per_unit=per_unit("2"))
    for _ in range(3):
        await rating.Rate(by(first, usage("1")))
    assert price_list.asked == {"BatchGetPrices": 1}
    batch = pb.BatchRateRequest(requests=[by(first, usage("1")), by(second, usage("1")), by(second, usage("2"))])
    await rating.BatchRate(batch)
    await rating.BatchRate(batch)
    await rating.ExplainRating(pb.ExplainRatingRequest(rate=by(second, usage("1"))))
    assert price_list.asked == {"BatchGetPrices": 2}


async def test_what_one_seller_asked_for_is_not_told_another(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """Prices are kept by seller: an id that somebody has seen opens nothing."""
    asked = by(price_list.price(per_unit=per_unit("1")), usage("1"))
    await rating.Rate(asked)
    price_list.prices.clear()
    await rating.Rate(asked)
    another = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    stranger: Any = suite.stub(RatingServiceStub, "invoicing", seller=another)  # Any: grpc stubs are generated
    with refused("PRICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stranger.Rate(asked)


async def test_a_product_that_is_renamed_is_printed_anew(
    price_list: PriceList, rating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price never changes; what its product is called does, and a process lives long. Also while nobody can say."""
    time = 1_000.0
    monkeypatch.setattr(clients, "_seconds", lambda: time)
    price_list.product.unit_label = "calls"
    asked = by(price_list.price(per_unit=per_unit("1")), usage("2"))

    async def printed() -> str:
        return str((await rating.Rate(asked)).steps[0].description)

    assert await printed() == "2 calls at 1.00 EUR each"
    price_list.product.unit_label = "requests"
    time += clients.PRODUCT_TEXT_SECONDS - 1
    assert await printed() == "2 calls at 1.00 EUR each"
    assert price_list.asked == {"BatchGetPrices": 1}
    time += 1
    assert await printed() == "2 requests at 1.00 EUR each"
    assert await printed() == "2 requests at 1.00 EUR each"
    assert price_list.asked == {"BatchGetPrices": 2}


async def test_a_known_price_is_rated_while_the_catalog_is_away(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old name is no reason to refuse; a price that nobody told is."""
    time = 1_000.0
    monkeypatch.setattr(clients, "_seconds", lambda: time)
    async with serving(suite) as price_list:
        await suite.start("invoicing")
        rating: Any = suite.stub(RatingServiceStub, "invoicing")  # Any: grpc stubs are generated
        known, unknown = price_list.price(per_unit=per_unit("1")), price_list.price(per_unit=per_unit("2"))
        await rating.Rate(by(known, usage("2")))
    time += clients.PRODUCT_TEXT_SECONDS
    assert cents((await rating.Rate(by(known, usage("2")))).amount) == 2_00
    with refused("NEIGHBOUR_UNAVAILABLE", Code.UNAVAILABLE):
        await rating.BatchRate(pb.BatchRateRequest(requests=[by(known, usage("1")), by(unknown, usage("1"))]))


async def test_an_inline_price_is_checked_once(price_list: PriceList, rating: Any) -> None:
    """By the catalog, the one place that says what a sound price is; for a batch of thousands as for one."""
    inline = price_pb2.Price(currency="EUR", meter="calls", per_unit=per_unit("0.01"))
    requests = [pb.RateRequest(usage=usage(str(n))) for n in range(2_000)]
    found = await rating.BatchRate(pb.BatchRateRequest(requests=requests, price=inline))
    assert [cents(each.rating.amount) for each in found.results] == list(range(2_000))
    requests = [pb.RateRequest(price=inline, usage=usage(str(n))) for n in range(2_000)]
    again = await rating.BatchRate(pb.BatchRateRequest(requests=requests))
    assert again == found
    await rating.Rate(pb.RateRequest(price=inline, usage=usage("1")))
    assert price_list.asked == {"CheckPrice": 1}


async def test_not_every_price_is_remembered(
    price_list: PriceList, rating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers can make up any number of prices, of any size: memory has an end. The ones used last stay."""

    async def rate(unit_price: str, code: str = "") -> None:
        inline = price_pb2.Price(currency="EUR", code=code, per_unit=per_unit(unit_price))
        await rating.Rate(pb.RateRequest(price=inline, usage=usage("1")))

    monkeypatch.setattr(clients, "CHECKED_PRICES_CACHED_MAX", 2)
    for unit_price in ("1", "2", "1", "3", "1"):
        await rate(unit_price)
    assert price_list.asked["CheckPrice"] == 3
    await rate("2")
    assert price_list.asked["CheckPrice"] == 4
    for _ in range(2):
        await rate("1", code="x" * clients.CHECKED_PRICE_BYTES_MAX)
    assert price_list.asked["CheckPrice"] == 6
    assert len(clients._checked_prices) <= 2  # the memory itself


async def test_what_the_catalog_finds_wrong_is_told_by_field(price_list: PriceList, rating: Any) -> None:
    """Wherever the price stands in the request."""
    unsound = price_pb2.Price(currency="EUR", per_unit=per_unit("-1"))
    asked = pb.RateRequest(price=unsound, usage=usage("1"))
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.Rate(asked)
    assert refusal.field == "price.per_unit.unit_price"
    assert "price.meter: is required" in refusal.message
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.ExplainRating(pb.ExplainRatingRequest(rate=asked))
    assert refusal.field == "rate.price.per_unit.unit_price"
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
        await rating.BatchRate(pb.BatchRateRequest(price=unsound))
    assert refusal.field == "price.per_unit.unit_price"
    [result] = (await rating.BatchRate(pb.BatchRateRequest(requests=[asked]))).results
    assert (result.reason, result.field) == ("INVALID_ARGUMENT", "price.per_unit.unit_price")


async def test_another_refusal_of_the_catalog_is_passed_on(price_list: PriceList, rating: Any) -> None:
    """It is none of a field, and so none that is ours to name."""
    inline = price_pb2.Price(currency="EUR", product_id="prod_x", per_unit=per_unit("1"))
    with refused("NEIGHBOUR_REFUSED", Code.FAILED_PRECONDITION) as refusal:
        await rating.Rate(pb.RateRequest(price=inline, usage=usage("1")))
    assert refusal.metadata["neighbour_reason"] == "NOT_FOUND"


async def test_without_the_catalog_nothing_new_is_rated(suite: Suite) -> None:
    """Neither one nor a batch: that a neighbour is away is no request's fault."""
    await suite.start("invoicing")
    rating: Any = suite.stub(RatingServiceStub, "invoicing")
    asked = pb.RateRequest(price_id=new("price"), usage=usage("1"))
    with refused("NEIGHBOUR_UNAVAILABLE", Code.UNAVAILABLE):
        await rating.Rate(asked)
    with refused("NEIGHBOUR_UNAVAILABLE", Code.UNAVAILABLE):
        await rating.BatchRate(pb.BatchRateRequest(requests=[asked]))


# Explanations


async def test_a_usage_is_explained_in_sentences(price_list: PriceList, rating: Any) -> None:
    """With the same rating that Rate answers."""
    fields, told, _ = MODELS["graduated"]
    asked = by(price_list.price(meter="calls", **fields), told)
    found = await rating.ExplainRating(pb.ExplainRatingRequest(rate=asked))
    assert found.rating == await rating.Rate(asked)
    assert len(found.sentences) >= 3
    text = "\n".join(found.sentences)
    for figure in ("10", "0.50 EUR", "11.00 EUR"):
        assert figure in text


@pytest.mark.own_services
async def test_a_line_of_an_invoice_is_explained_as_it_was_rated(
    suite: Suite, price_list: PriceList, rating: Any
) -> None:
    """From its own steps, not rated anew; a correction also by what was billed before it."""
    price = price_list.price(meter="calls", per_unit=per_unit("999"))
    january = month(2026, 1)
    first = line(
        price.id, 3_69, period=january, usage="55", steps=[flat_step("55 at 0.067 EUR each", Decimal("3.685"))]
    )
    late = line(
        price.id,
        6,
        period=january,
        item_id=first.item_id,
        usage="56",
        correction=1,
        steps=[
            flat_step("56 at 0.067 EUR each", Decimal("3.752")),
            flat_step("Less what was billed before", Decimal("-3.69"), kind=StepKind.BILLED_BEFORE),
        ],
    )
    invoice = await bill(suite, first, customer_id=new("cus"))
    corrected = await bill(suite, late, customer_id=invoice.customer_id)

    async def explained(invoice_id: str, line_id: str) -> pb.Explanation:
        named = pb.InvoiceLine(invoice_id=invoice_id, line_id=line_id)
        found: pb.Explanation = await rating.ExplainRating(pb.ExplainRatingRequest(line=named))
        return found

    found = await explained(invoice.id, first.id)
    assert (cents(found.rating.amount), cents(found.rating.period_amount)) == (3_69, 3_69)
    assert (found.rating.exact_amount.value, found.rating.rounding.value) == ("3.685", "0.005")
    assert any("55 at 0.067 EUR each" in sentence for sentence in found.sentences)
    assert any("3.69 EUR" in sentence for sentence in found.sentences)
    found = await explained(corrected.id, late.id)
    assert (cents(found.rating.amount), cents(found.rating.period_amount)) == (6, 3_75)
    assert (found.rating.exact_amount.value, found.rating.rounding.value) == ("0.062", "-0.002")
    assert "0.06 EUR" in found.sentences[-1]
    with refused("LINE_NOT_FOUND", Code.NOT_FOUND):
        await explained(invoice.id, late.id)
    with refused("LINE_NOT_FOUND", Code.NOT_FOUND):
        await explained(invoice.id, new("line"))
    with refused("INVOICE_NOT_FOUND", Code.NOT_FOUND):
        await explained(new("inv"), first.id)


@pytest.mark.own_services
async def test_a_part_of_a_period_is_explained_with_its_days(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """And a unit is called what it was called then."""
    price_list.product.unit_label = "places"
    price = price_list.price(graduated=price_pb2.GraduatedModel(tiers=tiers(("10", "9.99"), ("", "1"))))
    steps = [
        *rate(price_from_proto(PricedProduct(price=price)), UsageToRate.of(Decimal(1))).steps,
        flat_step("1/2 of the full period", Decimal("-4.995"), kind=StepKind.PRORATION),
    ]
    half = line(price.id, 5_00, period=month(2026, 1), proration=Fraction(1, 2), steps=steps)
    invoice = await bill(suite, half, customer_id=new("cus"))
    named = pb.InvoiceLine(invoice_id=invoice.id, line_id=half.id)
    found = await rating.ExplainRating(pb.ExplainRatingRequest(line=named))
    days = "2026-01-01 until before 2026-02-01"
    assert list(found.sentences) == [
        "The first 10: 1 × 9.99 EUR = 9.99 EUR.",
        f"1/2 of the full period, {days} of {days}: of 9.99 EUR that is 4.995 EUR, so 4.995 EUR taken off.",
        "Together 4.995 EUR.",
        "Rounded half up to 5.00 EUR: 0.005 EUR added.",
    ]


@pytest.mark.own_services
async def test_what_is_to_be_explained_has_to_be_named(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """And another seller's lines are not told."""
    for request, field in (
        (pb.ExplainRatingRequest(), "rate"),
        (pb.ExplainRatingRequest(rate=pb.RateRequest()), "rate.price_id"),
        (pb.ExplainRatingRequest(line=pb.InvoiceLine(invoice_id="x", line_id=new("line"))), "line.invoice_id"),
        (pb.ExplainRatingRequest(line=pb.InvoiceLine(invoice_id=new("inv"), line_id="x")), "line.line_id"),
    ):
        with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
            await rating.ExplainRating(request)
        assert refusal.field == field
    price = price_list.price(per_unit=per_unit("1"))
    found = await bill(suite, line(price.id, 1_00, period=month(2026, 1)))
    stranger: Any = suite.stub(RatingServiceStub, "invoicing", seller=SellerId(new("sel_sandbox")))  # Any: as above
    named = pb.InvoiceLine(invoice_id=found.id, line_id=found.lines[0].id)
    with refused("INVOICE_NOT_FOUND", Code.NOT_FOUND):
        await stranger.ExplainRating(pb.ExplainRatingRequest(line=named))


async def test_whoever_may_look_may_calculate(suite: Suite, price_list: PriceList) -> None:
    """Nothing is stored: a viewer may ask what something costs."""
    viewer: Any = suite.stub(RatingServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    asked = by(price_list.price(per_unit=per_unit("1")), usage("1"))
    assert cents((await viewer.Rate(asked)).amount) == 1_00
    assert len((await viewer.BatchRate(pb.BatchRateRequest(requests=[asked]))).results) == 1
    assert (await viewer.ExplainRating(pb.ExplainRatingRequest(rate=asked))).sentences
