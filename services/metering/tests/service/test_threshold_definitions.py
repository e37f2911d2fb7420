"""Thresholds are defined once, listed and archived by their seller; one that could say nothing is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
import pytest

from common import ids, wire
from common.ids import SellerId
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from metering import usecases_thresholds as usecases
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import meter_pb2, usage_threshold_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import usage_threshold_service_pb2 as pb
from saldo.metering.v1.usage_threshold_pb2 import CalendarPeriod
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub
from services.metering.tests.service.test_thresholds import (
    ANNA,
    BERT,
    DAY,
    JANUARY,
    create,
    decimal,
    event,
    fetch,
    hear,
    raised,
    send,
    told,
)


async def test_an_archived_threshold_says_nothing(suite: Suite, metering: Any, thresholds: Any) -> None:
    """Not that it is reached, nor that it recovers; and when it was the last, the log is looked through no more."""
    first, second = await create(thresholds, "10"), await create(thresholds, "20")
    await send(suite, metering, event("a", "12"))
    archived = await thresholds.ArchiveUsageThreshold(pb.ArchiveUsageThresholdRequest(id=first.id))
    assert (archived.state, archived.revision) == (usage_threshold_pb2.UsageThreshold.ARCHIVED, 2)
    assert archived.archive_time == wire.timestamp(SANDBOX_START)
    assert await thresholds.ArchiveUsageThreshold(pb.ArchiveUsageThresholdRequest(id=first.id)) == archived
    assert await thresholds.GetUsageThreshold(pb.GetUsageThresholdRequest(id=first.id)) == archived
    assert await raised(thresholds) == []
    await send(suite, metering, event("b", "-12"), event("c", "30"))
    assert told(suite) == [("reached", ANNA, "12"), ("reached", ANNA, "30")]
    await thresholds.ArchiveUsageThreshold(pb.ArchiveUsageThresholdRequest(id=second.id))
    assert await fetch(suite, "SELECT FROM threshold_looks") == []
    await send(suite, metering, event("d", "-30"))
    await suite.travel(JANUARY.end)
    assert len(told(suite)) == 2
    assert await fetch(suite, "SELECT FROM usage_alerts") == []
    assert len(suite.announced(events.UsageThresholdCreated)) == 2
    assert len(suite.announced(events.UsageThresholdArchived)) == 2


async def test_thresholds_are_listed_by_meter_and_customer(metering: Any, thresholds: Any) -> None:
    """Oldest first, in pages; a customer is shown its own."""
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(code="calls", display_name="Calls", aggregation=meter_pb2.Meter.COUNT)
    )
    made = [
        (await create(thresholds, **asked)).id
        for asked in ({}, {"customer_id": ANNA}, {"meter": "calls", "customer_id": ANNA}, {"customer_id": BERT})
    ]

    async def found(**filters: str) -> list[str]:
        listed: list[str] = []
        token = ""
        while True:
            asked = pb.ListUsageThresholdsRequest(page_size=1, page_token=token, **filters)
            page = await thresholds.ListUsageThresholds(asked)
            listed += [each.id for each in page.usage_thresholds]
            token = page.next_page_token
            if not token:
                return listed

    assert await found() == made
    assert await found(customer_id=ANNA) == [made[1], made[2]]
    assert await found(meter="kwh") == [made[0], made[1], made[3]]


async def test_a_repeated_request_makes_one_threshold(suite: Suite, thresholds: Any) -> None:
    """Whoever lost the answer must not hear everything twice."""
    first = await create(thresholds, request_id="r1")
    assert await create(thresholds, request_id="r1") == first
    assert (await thresholds.ListUsageThresholds(pb.ListUsageThresholdsRequest())).usage_thresholds == [first]


async def test_nobody_sees_or_hears_of_others_usage(suite: Suite, metering: Any, thresholds: Any) -> None:
    """A threshold is its seller's, and so is what it says."""
    threshold = await create(thresholds, "10")
    await send(suite, metering, event("a", "10"))
    seller = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    stranger = suite.stub(UsageThresholdServiceStub, "metering", seller=seller)
    with refused("USAGE_THRESHOLD_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stranger.GetUsageThreshold(pb.GetUsageThresholdRequest(id=threshold.id))
    assert await raised(stranger) == []
    assert len(await raised(thresholds)) == 1


REFUSED: Final[Sequence[tuple[dict[str, Any], str]]] = [
    ({"value": decimal("0")}, "value"),
    ({"value": decimal("-5")}, "value"),
    ({"value": decimal("NaN")}, "value"),
    ({"value": decimal("1e300")}, "value"),
    ({"value": decimal("0.0000000000001")}, "value"),
    ({"value": decimal("1" + 26 * "0")}, "value"),
    ({"value": decimal("")}, "value"),
    ({"warning_value": decimal("100")}, "warning_value"),
    ({"warning_value": decimal("0")}, "warning_value"),
    ({"warning_value": decimal("-1")}, "warning_value"),
    ({"warning_value": decimal("Infinity")}, "warning_value"),
    ({"customer_id": "anna"}, "customer_id"),
    ({"meter": "K W H"}, "meter"),
    ({"calendar": CalendarPeriod()}, "calendar.length"),
    ({"calendar": None}, "calendar"),
    ({"calendar": CalendarPeriod(length=CalendarPeriod.DAY, time_zone="Berlin")}, "calendar.time_zone"),
    ({"interval": wire.interval(Period(SANDBOX_START, SANDBOX_START + 3_661 * DAY))}, "interval.end_time"),
    ({"filter": meter_pb2.EventFilter(match=[meter_pb2.DimensionMatch(dimension="r")])}, "filter.match[0].values"),
]


async def test_what_makes_no_sense_is_refused_by_field(thresholds: Any) -> None:
    """A threshold that can never be reached, or always is, was meant otherwise; and the largest value there can be is
    taken as it is."""
    for changes, field in REFUSED:
        with refused("UNKNOWN_TIME_ZONE" if "zone" in field else "INVALID_ARGUMENT") as refusal:
            await create(thresholds, **changes)
        assert refusal.field == field
    largest = 26 * "9" + "." + 12 * "9"
    assert (await create(thresholds, largest, "0.000000000001")).value.value == largest
    with refused("INVALID_ARGUMENT") as refusal:
        await thresholds.ListUsageAlerts(pb.ListUsageAlertsRequest(page_token=wire.encode_page_token("a", "b", "c")))
    assert refusal.field == "page_token"


async def test_a_threshold_that_could_say_nothing_is_refused(
    suite: Suite, metering: Any, thresholds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt meter or customer would be silent for ever."""
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(code="low", display_name="Low", aggregation=meter_pb2.Meter.MIN)
    )
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await create(thresholds, meter="gas")
    with refused("AGGREGATION_HAS_NO_THRESHOLD", grpc.StatusCode.FAILED_PRECONDITION):
        await create(thresholds, meter="low")
    assert (await create(thresholds, customer_id=BERT)).customer_id == BERT
    await hear(suite, ANNA)
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await create(thresholds, customer_id=BERT)
    with refused("USAGE_THRESHOLD_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        missing = ids.mint("uthr", SANDBOX_START)
        await thresholds.ArchiveUsageThreshold(pb.ArchiveUsageThresholdRequest(id=missing))
    monkeypatch.setattr(usecases, "THRESHOLDS_MAX", 2)
    last = await create(thresholds, customer_id=ANNA)
    with refused("TOO_MANY_USAGE_THRESHOLDS", grpc.StatusCode.FAILED_PRECONDITION):
        await create(thresholds)
    await thresholds.ArchiveUsageThreshold(pb.ArchiveUsageThresholdRequest(id=last.id))
    await create(thresholds)
