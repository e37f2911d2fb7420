"""What was used gets onto invoices by every model that looks at more than a sum: in time, recounted, and too late.

Each story is January of one customer: usage and what the next invoice would be; the draft of 1 February, and what came
within its hour of grace; and what came after that and is billed in March as the difference it makes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from common.testing import Suite, refused
from invoicing.clients import counting
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1.meter_pb2 import Meter

from .conftest import Business, dead_letters, decimal, parked_customers, per_unit, utc
from .month import FEBRUARY, Month, used

pytestmark = pytest.mark.patched_when_used

Fields = dict[str, Any]  # Any: fields of a message


def matrix(*dimensions: str, **cells: price_pb2.Tariff) -> Fields:
    """Cells by their values with `__` in between; all else in packages of 5 at 1.00."""
    return {
        "matrix": price_pb2.MatrixModel(
            dimensions=dimensions,
            cells=[price_pb2.MatrixCell(values=name.split("__"), tariff=tariff) for name, tariff in cells.items()],
            default_tariff=price_pb2.Tariff(package=price_pb2.PackageModel(size=decimal("5"), price=decimal("1"))),
        )
    }


def at(unit_price: str) -> price_pb2.Tariff:
    return price_pb2.Tariff(**per_unit(unit_price))


def tier(up_to: str, unit_price: str) -> price_pb2.Tier:
    return price_pb2.Tier(up_to=decimal(up_to) if up_to else None, unit_price=decimal(unit_price))


def percentage(percent: str, **fields: Any) -> Fields:  # Any: fields of the message
    return {"percentage": price_pb2.PercentageModel(percent=decimal(percent), **fields)}


def capacity(*sizes: tuple[dict[str, str], str]) -> Fields:
    return {
        "capacity": price_pb2.CapacityModel(
            tiers=[
                price_pb2.CapacityTier(
                    limits=[
                        price_pb2.CapacityLimit(meter=meter, up_to=decimal(up_to)) for meter, up_to in limits.items()
                    ],
                    amount=decimal(amount),
                )
                for limits, amount in sizes
            ]
        )
    }


FEE_AFTER_TWO: Fields = percentage("2.9", fixed_fee=decimal("0.30"), free_transactions=2)
SIZES = capacity(({"disk": "100", "seats": "5"}, "20"), ({"disk": "500", "seats": "20"}, "50"), ({}, "120"))


async def test_a_matrix(business: Business) -> None:
    """eu at 0.10, us at 0.20 for 10 and 0.15 from there, all else in packages of 5 at 1.00. 30 in eu are 3.00, 14 in us
    2.00 + 0.60, and 4 of ap with 3 that name no region are 2 packages: 7.60. In the hour of grace 6 more in us at 0.15:
    8.50. Too late, one is said to have been in eu, not in ap: the sum is the same, and still 31 cost 3.10. The packages
    are as many: +0.10."""
    await business.meter("calls")
    us = price_pb2.Tariff(graduated=price_pb2.GraduatedModel(tiers=[tier("10", "0.20"), tier("", "0.15")]))
    price = await business.price("Calls", meter="calls", **matrix("region", eu=at("0.10"), us=us))
    month = await Month.begin(business, price)
    await month.use(
        used("calls", "10", 5, region="eu"),
        used("calls", "14", 6, region="us"),
        used("calls", "20", 7, region="eu"),
        used("calls", "4", 8, region="ap"),
        used("calls", "3", 9),
    )
    assert await month.upcoming() == 7_60
    assert await month.draft() == 7_60
    await month.use(used("calls", "6", 31, region="us"))
    [line] = await month.lines()
    assert await month.final() == 8_50
    assert [step.cell for step in line.rating_steps] == ["region=eu", "region=us", "region=us", ""]
    await month.use(used("calls", "1", 10, region="eu"), used("calls", "-1", 10, region="ap"))
    [correction] = await month.corrections()
    assert await month.corrected() == 10
    assert (correction.quantity, correction.usage.quantity) == (decimal("0"), line.usage.quantity)
    assert correction.usage.event_count == 8


async def test_a_percentage_of_transactions(business: Business) -> None:
    """2.9% and 0.30 each, the first two free. They are told out of order: 50.00 and 20.00 are the first two, 100.00
    costs 3.20, and 10.00 costs 0.59: 3.79. In the hour of grace comes one of 40.00 from before all of them: 20.00 is
    not free any more and costs 0.88: 4.67. Too late comes another from before: 50.00 costs 1.75."""
    await business.meter("sales")
    month = await Month.begin(business, await business.price("Payments", meter="sales", **FEE_AFTER_TWO))
    await month.use(used("sales", "100", 7), used("sales", "20", 6), used("sales", "10", 8), used("sales", "50", 5))
    assert await month.upcoming() == 3_79
    assert await month.draft() == 3_79
    await month.use(used("sales", "40", 4))
    assert await month.final() == 4_67
    await month.use(used("sales", "15", 3))
    assert await month.corrected() == 1_75


async def test_a_capacity_of_two_meters(business: Business) -> None:
    """Sizes of 100 GB and 5 seats for 20.00, of 500 and 20 for 50.00, and more for 120.00; the most of the month
    counts. 80 GB and 4 seats are small. In the hour of grace it turns out that there were 7 seats, which the price's
    own meter knows nothing of: medium. Too late, that there were 21: large, 70.00 more."""
    await business.meter("disk", aggregation=Meter.MAX)
    await business.meter("seats", aggregation=Meter.MAX)
    month = await Month.begin(business, await business.price("Hosting", meter="disk", **SIZES))
    await month.use(used("disk", "80", 5), used("disk", "60", 6), used("seats", "4", 6))
    assert await month.upcoming() == 20_00
    assert await month.draft() == 20_00
    await month.use(used("seats", "7", 20))
    [line] = await month.lines()
    assert await month.final() == 50_00
    assert (line.usage.quantity, line.usage.event_count) == (decimal("80"), 4)
    assert line.rating_steps[0].description == "The size of up to 500 disk, up to 20 seats, for 80 disk, 7 seats"
    await month.use(used("seats", "21", 21))
    [correction] = await month.corrections()
    assert await month.corrected() == 70_00
    assert (correction.quantity, correction.usage.event_count) == (decimal("0"), 5)
    assert correction.usage.digest != line.usage.digest
    assert correction.usage.through_position > line.usage.through_position
    assert len(correction.usage.traceparents) <= 4


async def test_a_dynamic_price(business: Business) -> None:
    """Usage that is money, times 1.2: 10.50 and 3.333 are 16.5996, so 16.60. One more makes it 17.7996; another two,
    too late, 20.1996: 2.40 more."""
    await business.meter("resold")
    multiplied: Fields = {"dynamic": price_pb2.DynamicModel(multiplier=decimal("1.2"))}
    month = await Month.begin(business, await business.price("Resold", meter="resold", **multiplied))
    await month.use(used("resold", "10.50", 5), used("resold", "3.333", 6))
    assert await month.upcoming() == 16_60
    assert await month.draft() == 16_60
    await month.use(used("resold", "1", 7))
    assert await month.final() == 17_80
    await month.use(used("resold", "2", 8))
    assert await month.corrected() == 2_40


async def test_active_people_each(business: Business) -> None:
    """2.50 for everybody who was there: ann twice and bob are 5.00, with cid 7.50. Too late, that ann was there a third
    time changes nothing, and that dan was there is 2.50 more."""
    await business.meter("visits", aggregation=Meter.UNIQUE_COUNT, unique_dimension="who")
    month = await Month.begin(business, await business.price("Visitors", meter="visits", **per_unit("2.50")))
    await month.use(*(used("visits", "1", 5, who=who) for who in ("ann", "bob", "ann")), used("visits", "1", 5))
    assert await month.upcoming() == 5_00
    assert await month.draft() == 5_00
    await month.use(used("visits", "1", 6, who="cid"))
    assert await month.final() == 7_50
    await month.use(used("visits", "1", 7, who="ann"), used("visits", "1", 7, who="dan"))
    assert await month.corrected() == 2_50


async def test_packages_of_what_was_converted(business: Business) -> None:
    """Packages of 10 MB at 3.00, counted in KB. 10,240 and 5,120 KB are 15 MB: 2 packages, also with the next 5 MB,
    because the whole is rounded and not each part. One KB more, too late, is a third package."""
    await business.meter("kb")
    packages: Fields = {
        "package": price_pb2.PackageModel(size=decimal("10"), price=decimal("3")),
        "unit_conversion": price_pb2.UnitConversion(divide_by=decimal("1024")),
    }
    month = await Month.begin(business, await business.price("Traffic", "MB", meter="kb", **packages))
    await month.use(used("kb", "10240", 5), used("kb", "5120", 6))
    assert await month.upcoming() == 6_00
    assert await month.draft() == 6_00
    await month.use(used("kb", "5120", 7))
    assert await month.final() == 6_00
    await month.use(used("kb", "1", 8))
    assert await month.corrected() == 3_00


async def test_a_volume_with_a_minimum(business: Business) -> None:
    """All units at 10.00 up to 15 of them and at 5.00 beyond, and at least 100.00. The look ahead says what it would be
    as of now: 100.00 for nothing, 150.00 for 15. The sixteenth makes it 80.00, raised to 100.00; five more, too late,
    make it 105.00."""
    await business.meter("units")
    volume: Fields = {
        "volume": price_pb2.VolumeModel(tiers=[tier("15", "10"), tier("", "5")]),
        "minimum_amount": decimal("100"),
    }
    month = await Month.begin(business, await business.price("Units", meter="units", **volume))
    assert await month.upcoming() == 100_00
    await month.use(used("units", "15", 5))
    assert await month.upcoming() == 150_00
    assert await month.draft() == 150_00
    await month.use(used("units", "1", 6))
    assert await month.final() == 100_00
    await month.use(used("units", "5", 7))
    assert await month.corrected() == 5_00


async def test_one_meter_priced_in_several_ways(business: Business) -> None:
    """Each price is told what it needs of the same usage: 40.00 and 60.00, in two shops. A share of 1% is 1.00. 2.9%
    and 0.30 after two free ones is nothing. By shop, 0.10 of north are 4.00, and south in 12 packages of 5 is 12.00; by
    shop and till, only south costs anything. With 50.00 more in north: 1.50, 1.75, 9.00 + 12.00, and 12.00."""
    await business.meter("sales")
    month = await Month.begin(
        business,
        await business.price("Share", meter="sales", **percentage("1")),
        await business.price("Payments", meter="sales", **FEE_AFTER_TWO),
        await business.price("Shops", meter="sales", **matrix("shop", north=at("0.10"))),
        await business.price("Shops and tills", meter="sales", **matrix("shop", "till", north__=at("0"))),
    )
    await month.use(used("sales", "40", 5, shop="north"), used("sales", "60", 6, shop="south"))
    assert await month.upcoming() == 1_00 + 0 + 16_00 + 12_00
    assert await month.draft() == 1_00 + 0 + 16_00 + 12_00
    await month.use(used("sales", "50", 7, shop="north"))
    assert await month.final() == 1_50 + 1_75 + 21_00 + 12_00


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metering tells 10 values in an answer, instead of 10,000."""
    # By its name the package has the function that is called like the module.
    monkeypatch.setattr(import_module("metering.store.usages"), "VALUES_MAX", 10)


@pytest.mark.usefixtures("few_values")
async def test_more_transactions_than_one_answer_tells(suite: Suite, business: Business) -> None:
    """They are asked for in parts, which are halved until they are few enough, and stay in order of time: two of
    100.00, and 43 of 1.00, 14 of them within as many seconds. The first two are free, the others cost 0.329 each:
    14.147. With one from before, in the hour of grace, and another, too late, the two are free no more: 3.20 each."""
    await business.meter("sales")
    month = await Month.begin(business, await business.price("Payments", meter="sales", **FEE_AFTER_TWO))
    days = [used("sales", "1", day, second=second) for day in range(5, 15) for second in (0, 7_200, 80_000)]
    days[0].value.value = days[1].value.value = "100"
    second = [used("sales", "1", 20, second=second) for second in (0, *range(3_600, 3_614))]
    await month.use(*second, *reversed(days))
    assert await month.upcoming() == 14_15
    assert await month.draft() == 14_15
    await month.use(used("sales", "1", 3))
    assert await month.final() == 17_35
    await month.use(used("sales", "1", 3))
    assert await month.corrected() == 3_20
    assert not await dead_letters(suite)


@pytest.mark.usefixtures("few_values")
async def test_a_bill_is_of_one_version_of_the_meter(business: Business) -> None:
    """12 of 10.00 at a tenth are 12.00, though they are asked for in parts, and those after 8 January begin when the
    meter counts twice as much. That January is to be counted so too is said after it was billed: 12.00 more are due."""
    await business.meter("sales")
    price = await business.price("Payments", meter="sales", **percentage("10", transaction_maximum=decimal("5")))
    month = await Month.begin(business, price)
    sales = await business.metering.GetMeter(metering.GetMeterRequest(code="sales"))
    twice = metering.UpdateMeterRequest(id=sales.id, value_expression="value * 2")
    twice.effective_time.FromDatetime(utc(2026, 1, 8))
    await business.metering.UpdateMeter(twice)
    await month.use(*(used("sales", "10", day) for day in range(3, 15)))
    [billed] = await month.lines()
    assert (billed.amount.units, dict(billed.usage.meter_versions)) == (12, {"sales": 1})
    twice.MergeFrom(metering.UpdateMeterRequest(recount=True, supersede=True))
    twice.effective_time.FromDatetime(utc(2026, 1, 1))
    await business.metering.UpdateMeter(twice)
    [correction] = await month.corrections()
    assert (correction.amount.units, dict(correction.usage.meter_versions)) == (12, {"sales": 3})
    assert (correction.description, correction.usage.digest) == ("Payments – usage counted anew", billed.usage.digest)


@pytest.mark.usefixtures("few_values")
async def test_transactions_that_come_between_two_answers_are_of_the_next_one(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the parts hold is what the proof proves, though usage never stops coming: 22 of 1.00 as long as they are
    read, and all that came meanwhile the next time. The first two are free, the others cost 0.329 each."""
    await business.meter("sales")
    month = await Month.begin(business, await business.price("Payments", meter="sales", **FEE_AFTER_TWO))
    await month.use(*(used("sales", "1", day) for day in range(2, 24)))
    ask = counting._counted
    came = 0

    async def interrupted(*args: Any) -> Any:  # Any: as the function itself
        nonlocal came
        answer = await ask(*args)
        await month.use(used("sales", "1", 1))
        came += 1
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(counting, "_counted", interrupted)
        [line] = await month.upcoming_lines()
    assert came > 3
    assert (line.exact_amount, line.usage.event_count) == (decimal("6.58"), 22)
    [line] = await month.upcoming_lines()
    assert line.usage.event_count == 22 + came


@pytest.mark.usefixtures("few_values")
async def test_more_transactions_in_one_instant_than_can_be_told_are_not_billed(business: Business) -> None:
    """Halving ends at a millisecond: the operator is told which meter of whom, and of when."""
    await business.meter("sales")
    month = await Month.begin(business, await business.price("Payments", meter="sales", **FEE_AFTER_TWO))
    await month.use(*(used("sales", "1", 5) for _ in range(11)))
    with refused("USAGE_TOO_DETAILED") as refusal:
        await month.upcoming()
    assert refusal.metadata["neighbour_reason"] == "TOO_MANY_VALUES"
    assert "2026-01-05" in refusal.message


@pytest.mark.usefixtures("few_values")
async def test_more_transactions_than_can_be_held_are_not_billed(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a million in a period is what is looked at; here it is 20."""
    monkeypatch.setattr(counting, "VALUES_MAX", 20)
    await business.meter("sales")
    month = await Month.begin(business, await business.price("Payments", meter="sales", **FEE_AFTER_TWO))
    await month.use(*(used("sales", "1", day) for day in range(2, 22)))
    assert await month.upcoming() == 5_92  # 18 at 0.329
    await month.use(used("sales", "1", 22))
    with refused("USAGE_TOO_DETAILED") as refusal:
        await month.upcoming()
    assert "sales has 21 values" in refusal.message


async def test_more_than_can_be_held_at_once_is_billed_in_slices(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year of transactions told in January is no reason never to bill it: as many months are looked at at once as can
    be held, and each is billed once. Of 4 of 1.00 in every month two are free: 0.658."""
    monkeypatch.setattr(counting, "VALUES_MAX", 7)
    await business.meter("sales")
    plan = await business.plan(await business.price("Payments", meter="sales", **FEE_AFTER_TWO))
    month = Month(business, await business.customer())
    await month.use(*(used("sales", "1", 2, months_before=months) for months in range(1, 12) for _ in range(4)))
    await business.subscribe(month.customer, plan, start=utc(2025, 2, 1))
    await suite.travel(utc(2026, 1, 10))
    lines = [line for invoice in await business.invoices() for line in invoice.line_items]
    assert [line.usage.event_count for line in lines] == [4] * 11
    assert len({line.period.start_time.seconds for line in lines}) == 11
    assert {line.amount.nanos for line in lines} == {660_000_000}
    assert max(len(invoice.line_items) for invoice in await business.invoices()) == 2
    assert not await dead_letters(suite)
    with refused("TOO_MANY_LINES"):
        await month.upcoming()


async def test_a_draft_of_too_much_usage_waits_for_an_operator(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could be held when it was drafted, and cannot any more: it is not finalized with what it was."""
    await business.meter("sales")
    prices = [await business.price("Payments", meter="sales", **FEE_AFTER_TWO)]
    prices.append(await business.price("Shops", meter="sales", **matrix("shop", north=at("0.10"))))
    month = await Month.begin(business, *prices)
    await month.use(*(used("sales", "1", day) for day in range(2, 12)))
    assert await month.draft() == 2_63 + 2_00
    monkeypatch.setattr(counting, "VALUES_MAX", 0)
    [draft] = await business.invoices()
    with refused("USAGE_TOO_DETAILED") as refusal:
        await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    assert refusal.metadata["invoice"] == draft.id
    with refused("USAGE_TOO_DETAILED"):
        await month.upcoming()


async def test_more_groups_than_can_be_told_are_a_case_for_an_operator(
    suite: Suite, business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region for every call is a mistake of the sender. Nobody is billed for what is not known; the customer waits,
    with the reason, until somebody decides."""
    monkeypatch.setattr(import_module("metering.store.usages"), "GROUPS_MAX", 2)
    await business.meter("calls")
    month = await Month.begin(business, await business.price("Calls", meter="calls", **matrix("region", eu=at("0.10"))))
    await month.use(*(used("calls", "1", 5, region=region) for region in ("eu", "us", "ap")))
    with refused("USAGE_TOO_DETAILED") as refusal:
        await month.upcoming()
    assert refusal.metadata["neighbour_reason"] == "TOO_MANY_GROUPS"
    assert (refusal.metadata["customer"], refusal.metadata["meter"]) == (month.customer.id, "calls")
    await suite.travel(FEBRUARY)
    reason, message = (await parked_customers(suite))[month.customer.id]
    assert reason == "USAGE_TOO_DETAILED"
    assert message.startswith("TOO_MANY_GROUPS: ")
    assert not await business.invoices()
