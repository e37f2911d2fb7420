"""Other prices tried on the bills of the past, through the door: which lines count, and at which price."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

import grpc
import pytest
from google.type import money_pb2

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.money import Money
from common.testing import Suite, refused
from invoicing.domain.invoice import State
from invoicing.store import history
from invoicing.usecases import simulate
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as metering

from .conftest import Business, utc
from .conftest import per_unit as per_unit_of
from .past_bills import bill, line, month, new
from .price_list import PriceList, decimal
from .to_rate import per_unit

pytestmark = pytest.mark.own_services

Code = grpc.StatusCode
NOVEMBER, DECEMBER = month(2025, 11), month(2025, 12)
JANUARY: Final = month(2026, 1)
YEARLY: Final = price_pb2.BillingInterval(unit=price_pb2.BillingInterval.YEAR, count=1)
# The sandbox lives on 1 January 2026, at the very end of December.


def eur(minor: int) -> money_pb2.Money:
    return wire.money(Money(minor, "EUR"))


async def tried(rating: Any, plan_id: str, *, months: int = 12, named: int = 100) -> pb.PriceSimulation:
    # Any: grpc stubs are generated
    found: pb.PriceSimulation = await rating.SimulatePrices(
        pb.SimulatePricesRequest(plan_id=plan_id, months=months, customers_named_max=named)
    )
    return found


async def test_every_line_is_rated_anew_by_the_price_of_the_same_code(
    suite: Suite, price_list: PriceList, rating: Any
) -> None:
    """Of whichever version it was billed by, or negotiated in its place; licensed, metered, prorated, corrected."""
    seats = price_list.price(code="seats", per_unit=per_unit("10"))
    calls = price_list.price(code="calls", meter="calls", per_unit=per_unit("0.10"))
    price_list.plan(seats, calls)
    dearer = price_list.price(code="seats", per_unit=per_unit("11"))
    price_list.plan(dearer)
    special = price_list.price(code="deal", per_unit=per_unit("8"), list_price_id=seats.id, customer_id=new("cus"))
    other_deal = price_list.price(code="deal", per_unit=per_unit("8"), list_price_id=new("price"))
    price_list.contract_prices += [other_deal, special]
    draft = price_list.plan(
        price_list.price(code="seats", per_unit=per_unit("12")),
        price_list.price(code="calls", meter="calls", per_unit=per_unit("0.05")),
    )
    ada, bob, cyd = sorted(new("cus") for _ in range(3))
    metered = line(calls.id, 1_00, period=DECEMBER, usage="10")
    late = line(calls.id, 50, period=DECEMBER, usage="15", correction=1, item_id=metered.item_id)
    await bill(suite, line(seats.id, 20_00, period=NOVEMBER, quantity="2"), metered, customer_id=ada)
    await bill(suite, late, customer_id=ada, state=State.PAID)
    half = line(dearer.id, 5_50, period=DECEMBER, proration=Fraction(1, 2))
    await bill(suite, half, customer_id=bob, state=State.UNCOLLECTIBLE)
    await bill(suite, line(special.id, 16_00, period=DECEMBER, quantity="2"), customer_id=cyd)
    await bill(suite, line(other_deal.id, 99_00, period=DECEMBER), customer_id=cyd)
    found = await tried(rating, draft.id)
    [euros] = found.currencies
    assert (euros.currency, euros.customer_count, euros.line_count) == ("EUR", 3, 5)
    assert euros.billed_amount == eur(20_00 + 1_50 + 5_50 + 16_00)
    assert euros.simulated_amount == eur(24_00 + 75 + 6_00 + 24_00)
    assert (euros.raised_count, euros.lowered_count) == (3, 0)
    assert [(each.customer_id, each.billed_amount, each.simulated_amount) for each in euros.largest_changes] == [
        (cyd, eur(16_00), eur(24_00)),
        (ada, eur(21_50), eur(24_75)),
        (bob, eur(5_50), eur(6_00)),
    ]
    assert [(each.percent, each.change) for each in euros.quantiles] == [
        *((percent, eur(50)) for percent in (0, 5, 10, 25)),
        (50, eur(3_25)),
        *((percent, eur(8_00)) for percent in (75, 90, 95, 100)),
    ]
    assert not found.dropped_price_codes
    assert not found.new_price_codes
    assert found.unratable_line_count == 0
    fewer = await tried(rating, draft.id, named=1)
    assert [each.customer_id for each in fewer.currencies[0].largest_changes] == [cyd]


async def test_only_what_was_final_and_meant_counts(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """Not a draft, not what was annulled, not another plan, not another seller."""
    seats = price_list.price(code="seats", per_unit=per_unit("10"))
    plan = price_list.plan(seats)
    other = price_list.price(code="seats", per_unit=per_unit("10"))
    price_list.plan(other, code="other")
    await bill(suite, line(seats.id, 1_00, period=DECEMBER), state=State.DRAFT)
    await bill(suite, line(seats.id, 1_00, period=DECEMBER), state=State.VOID)
    await bill(suite, line(other.id, 1_00, period=DECEMBER))
    found = await tried(rating, plan.id)
    assert not found.currencies
    assert found.new_price_codes == ["seats"]
    stranger: Any = suite.stub(RatingServiceStub, "invoicing", seller=SellerId(new("sel_sandbox")))  # Any: as above
    await bill(suite, line(seats.id, 1_00, period=DECEMBER))
    assert (await tried(rating, plan.id)).currencies[0].line_count == 1
    assert not (await tried(stranger, plan.id)).currencies


async def test_the_months_are_those_in_which_periods_ended(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """Up to now, and not from the day itself: a month back from New Year is December."""
    seats = price_list.price(code="seats", per_unit=per_unit("1"))
    plan = price_list.plan(seats)
    for period in (month(2022, 12), month(2023, 1), NOVEMBER, DECEMBER, JANUARY):
        await bill(suite, line(seats.id, 1_00, period=period))
    counts = [(await tried(rating, plan.id, months=months)).currencies[0].line_count for months in (1, 2, 35, 36)]
    assert counts == [1, 2, 2, 3]


async def test_codes_that_come_and_go_are_told(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """What is dropped costs nothing; what is new was never billed; what was billed long ago is not new."""
    seats = price_list.price(code="seats", per_unit=per_unit("10"))
    calls = price_list.price(code="calls", meter="calls", per_unit=per_unit("1"))
    old = price_list.price(code="old", per_unit=per_unit("1"))
    francs = price_list.price(code="francs", currency="CHF", per_unit=per_unit("1"))
    price_list.plan(seats, calls, old, francs)
    draft = price_list.plan(
        price_list.price(code="calls", meter="calls", per_unit=per_unit("2")),
        price_list.price(code="old", per_unit=per_unit("2")),
        price_list.price(code="zebra", per_unit=per_unit("2")),
        price_list.price(code="apple", per_unit=per_unit("2")),
        price_list.price(code="francs", per_unit=per_unit("1")),
    )
    customer_id = new("cus")
    await bill(suite, line(seats.id, 10_00, period=DECEMBER), customer_id=customer_id)
    await bill(suite, line(francs.id, 1_00, period=DECEMBER, currency="CHF"), customer_id=customer_id)
    await bill(suite, line(calls.id, 3_00, period=DECEMBER, usage="3"), customer_id=customer_id)
    await bill(suite, line(old.id, 1_00, period=month(2020, 1)), customer_id=customer_id)
    found = await tried(rating, draft.id)
    # In another currency the code is another price: what was billed in francs is not in the plan any more.
    assert list(found.dropped_price_codes) == ["francs", "seats"]
    assert list(found.new_price_codes) == ["apple", "zebra"]
    swiss, euros = found.currencies
    assert (swiss.currency, swiss.simulated_amount.units, swiss.line_count) == ("CHF", 0, 1)
    assert (euros.billed_amount, euros.simulated_amount, euros.line_count) == (eur(13_00), eur(6_00), 2)
    assert euros.lowered_count == 1


async def test_what_cannot_be_rated_anew_is_counted_as_unchanged(
    suite: Suite, price_list: PriceList, rating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transactions that metering could not be asked any more, other intervals: better told than guessed."""
    monkeypatch.setattr(simulate, "PERIODS_ASKED_MAX", 0)
    share = price_list.price(code="share", meter="volume", percentage=price_pb2.PercentageModel(percent=decimal("1")))
    seats = price_list.price(code="seats", per_unit=per_unit("10"))
    price_list.plan(share, seats)
    with_fee = price_pb2.PercentageModel(percent=decimal("1"), fixed_fee=decimal("0.25"))
    draft = price_list.plan(
        price_list.price(code="share", meter="volume", percentage=with_fee),
        price_pb2.Price(
            id=new("price"), code="seats", currency="EUR", billing_interval=YEARLY, per_unit=per_unit("90")
        ),
    )
    customer_id = new("cus")
    first = line(share.id, 1_00, period=DECEMBER, usage="100", meter="volume")
    late = line(share.id, 10, period=DECEMBER, usage="110", meter="volume", correction=1, item_id=first.item_id)
    alone = line(share.id, 20, period=NOVEMBER, usage="20", meter="volume", correction=1)
    await bill(suite, first, alone, customer_id=customer_id)
    await bill(suite, late, customer_id=customer_id)
    await bill(suite, line(seats.id, 10_00, period=DECEMBER), customer_id=customer_id)
    found = await tried(rating, draft.id)
    [euros] = found.currencies
    assert found.unratable_line_count == 4
    assert (euros.line_count, euros.customer_count) == (0, 1)
    assert euros.billed_amount == euros.simulated_amount == eur(11_30)
    assert not euros.largest_changes
    assert (euros.raised_count, euros.lowered_count) == (0, 0)


async def test_a_long_history_is_read_page_by_page(
    suite: Suite, price_list: PriceList, rating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of its lines is missed or counted twice, whatever the size of a page."""
    monkeypatch.setattr(history, "PERIODS_PER_PAGE", 7)
    seats = price_list.price(code="seats", per_unit=per_unit("10"))
    plan = price_list.plan(seats)
    customers = [new("cus") for _ in range(5)]
    for n in range(60):
        await bill(suite, line(seats.id, n, period=DECEMBER, quantity=str(n)), customer_id=customers[n % 5])
    [euros] = (await tried(rating, plan.id)).currencies
    assert (euros.line_count, euros.customer_count) == (60, 5)
    assert (euros.billed_amount, euros.simulated_amount) == (eur(sum(range(60))), eur(10_00 * sum(range(60))))


async def test_more_lines_than_can_be_rated_at_once_are_refused(
    suite: Suite, price_list: PriceList, rating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first one is; fewer months are an answer."""
    seats = price_list.price(code="seats", per_unit=per_unit("1"))
    plan = price_list.plan(seats)
    for period in (NOVEMBER, DECEMBER, DECEMBER):
        await bill(suite, line(seats.id, 1_00, period=period))
    monkeypatch.setattr(simulate, "LINES_MAX", 2)
    with refused("TOO_MANY_LINES", Code.FAILED_PRECONDITION) as refusal:
        await tried(rating, plan.id)
    assert refusal.metadata == {"lines_max": "2"}
    assert (await tried(rating, plan.id, months=1)).currencies[0].line_count == 2
    monkeypatch.setattr(simulate, "CONTRACT_PRICES_MAX", 1_000)
    price_list.contract_prices += [price_list.price(list_price_id=seats.id) for _ in range(2)]
    with refused("TOO_MANY_LINES", Code.FAILED_PRECONDITION):
        await tried(rating, plan.id, months=1)


async def test_what_is_tried_has_to_make_sense(suite: Suite, price_list: PriceList, rating: Any) -> None:
    """A plan of the seller, and numbers within their limits."""
    plan_id = price_list.plan(price_list.price(code="seats", per_unit=per_unit("1"))).id
    for request, field in (
        (pb.SimulatePricesRequest(plan_id="plan_1", months=1), "plan_id"),
        (pb.SimulatePricesRequest(plan_id=plan_id), "months"),
        (pb.SimulatePricesRequest(plan_id=plan_id, months=37), "months"),
        (pb.SimulatePricesRequest(plan_id=plan_id, months=-1), "months"),
        (pb.SimulatePricesRequest(plan_id=plan_id, months=1, customers_named_max=101), "customers_named_max"),
        (pb.SimulatePricesRequest(plan_id=plan_id, months=1, customers_named_max=-1), "customers_named_max"),
    ):
        with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT) as refusal:
            await rating.SimulatePrices(request)
        assert refusal.field == field
    with refused("PLAN_NOT_FOUND", Code.NOT_FOUND):
        await tried(rating, new("plan"))
    viewer: Any = suite.stub(RatingServiceStub, "invoicing", role=Role.VIEWER)  # Any: grpc stubs are generated
    assert not (await tried(viewer, plan_id)).currencies


async def test_a_sandbox_of_the_first_days_has_no_months_before(suite: Suite, price_list: PriceList) -> None:
    """Time begins in 1970: what would lie before it is nothing, not an error."""
    suite.seller = SellerId(ids.mint(ids.SANDBOX, datetime(1970, 2, 1, tzinfo=UTC)))
    rating: Any = suite.stub(RatingServiceStub, "invoicing")  # Any: grpc stubs are generated
    seats = price_list.price(code="seats", per_unit=per_unit("1"))
    plan = price_list.plan(seats)
    await bill(suite, line(seats.id, 1_00, period=month(1970, 1)))
    assert (await tried(rating, plan.id, months=36)).currencies[0].line_count == 1


async def test_a_draft_is_tried_on_what_was_really_billed(suite: Suite, business: Business) -> None:
    """With the catalog itself: its versions, its negotiated prices; and the lines are those that a bill run wrote."""
    rating: Any = suite.stub(RatingServiceStub, "invoicing")  # Any: grpc stubs are generated
    plan = await business.plan(await business.price("Seats", **per_unit_of("10")))
    customer = await business.customer()
    await business.subscribe(customer, plan, quantities=["3"])
    await suite.travel(utc(2026, 2, 1))
    draft = await business.catalog.CreatePlanVersion(catalog.CreatePlanVersionRequest(code=plan.code))
    dearer = price_pb2.Price()
    dearer.CopyFrom(draft.prices[0])
    dearer.per_unit.unit_price.value = "12"
    request = catalog.UpdatePlanRequest(id=draft.id, display_name="Plan", prices=[dearer])
    draft = await business.catalog.UpdatePlan(request)
    [pounds] = (await tried(rating, draft.id, months=1)).currencies
    assert (pounds.currency, pounds.line_count) == ("GBP", 1)
    assert (pounds.billed_amount.units, pounds.simulated_amount.units) == (30, 36)
    assert [each.customer_id for each in pounds.largest_changes] == [customer.id]
    invoice = (await business.invoices(customer))[0]
    named = pb.InvoiceLine(invoice_id=invoice.id, line_id=invoice.line_items[0].id)
    explained = await rating.ExplainRating(pb.ExplainRatingRequest(line=named))
    assert explained.rating.amount == invoice.line_items[0].amount
    assert list(explained.rating.steps) == list(invoice.line_items[0].rating_steps)
    assert any("3 × 10.00 GBP = 30.00 GBP" in sentence for sentence in explained.sentences)


async def test_what_a_line_does_not_keep_is_asked_of_metering(suite: Suite, business: Business) -> None:
    """Moving to prices by region, by single sale or by another meter is what a seller most wants to try before.

    By the call: 150 at 0.10 are 15.00. By region: 100 in the EU at 0.05, 50 elsewhere at 0.30 are 20.00. By sale: 10%
    of 80.00 and of 20.00 are 10.00, and 0.25 for each makes it 10.50; before it was 12% of all, 12.00. 3 seats at 10.00
    were 30.00; the two people that came in are 24.00 at 12.00 each.
    """
    rating: Any = suite.stub(RatingServiceStub, "invoicing")  # Any: grpc stubs are generated
    for code in ("calls", "sales"):
        await business.meter(code)
    await business.metering.CreateMeter(
        metering.CreateMeterRequest(
            code="people", display_name="People", aggregation=meter_pb2.Meter.UNIQUE_COUNT, unique_dimension="person"
        )
    )
    share = price_pb2.PercentageModel(percent=decimal("12"))
    plan = await business.plan(
        await business.price("Calls", meter="calls", **per_unit_of("0.10")),
        await business.price("Sales", meter="sales", percentage=share),
        await business.price("People", **per_unit_of("10"), billing_timing=price_pb2.Price.IN_ARREARS),
    )
    customer = await business.customer()
    await business.subscribe(customer, plan, quantities=["3"])
    used = [
        ("calls", "100", {"region": "eu"}),
        ("calls", "50", {"region": "us"}),
        ("sales", "80", {}),
        ("sales", "20", {}),
        ("people", "1", {"person": "ada"}),
        ("people", "1", {"person": "bob"}),
        ("people", "1", {"person": "ada"}),
    ]
    await suite.travel(utc(2026, 1, 20))
    events = [
        usage_event_pb2.UsageEvent(
            id=f"use-{n}",
            source="test",
            customer=customer.external_id,
            meter=meter,
            time=wire.timestamp(utc(2026, 1, 10)),
            value=decimal(value),
            dimensions=dimensions,
        )
        for n, (meter, value, dimensions) in enumerate(used)
    ]
    assert (await business.metering.IngestEvents(metering.IngestEventsRequest(events=events))).accepted_count == 7
    await suite.travel(utc(2026, 2, 2))

    draft = await business.catalog.CreatePlanVersion(catalog.CreatePlanVersionRequest(code=plan.code))
    calls, sales, people = draft.prices
    cell = price_pb2.MatrixCell(values=["eu"], tariff=price_pb2.Tariff(**per_unit_of("0.05")))
    default = price_pb2.Tariff(**per_unit_of("0.30"))
    calls.matrix.CopyFrom(price_pb2.MatrixModel(dimensions=["region"], cells=[cell], default_tariff=default))
    sales.percentage.CopyFrom(price_pb2.PercentageModel(percent=decimal("10"), fixed_fee=decimal("0.25")))
    people.meter = "people"
    people.per_unit.unit_price.value = "12"
    await business.catalog.UpdatePlan(
        catalog.UpdatePlanRequest(id=draft.id, display_name="Plan", prices=[calls, sales, people])
    )

    found = await tried(rating, draft.id, months=2)

    [pounds] = found.currencies
    assert found.unratable_line_count == 0
    assert pounds.line_count == 3
    assert wire.parse_money(pounds.billed_amount, field="").minor == 15_00 + 12_00 + 30_00
    assert wire.parse_money(pounds.simulated_amount, field="").minor == 20_00 + 10_50 + 24_00
