"""Thresholds measure the usage of periods: each begins anew, ends to the microsecond, and is told of late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import grpc

from common import wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.subscriptions.v1.customer_pb2 import Customer, CustomerName
from services.metering.tests.service.test_thresholds import (
    ANNA,
    BERT,
    DAY,
    HOUR,
    JANUARY,
    announced,
    create,
    day,
    event,
    fetch,
    hear,
    send,
    told,
)

MICROSECOND: Final = timedelta(microseconds=1)


async def test_the_names_of_a_merge_count_from_the_next_period_on(suite: Suite, metering: Any, thresholds: Any) -> None:
    """As they do for bills: usage is one customer's in every period, and of none it is lost."""
    await hear(suite, ANNA)
    await hear(suite, BERT, "bert")
    await create(thresholds, "10", calendar=day())
    noon = SANDBOX_START + 12 * HOUR
    await suite.travel(noon)
    merged = wire.timestamp(noon)
    gone: dict[str, Any] = {"state": Customer.MERGED, "merged_into_id": ANNA}
    was_bert = CustomerName(key="bert", until_time=merged)
    await hear(suite, BERT, was_bert, revision=2, update_time=merged, **gone)
    await hear(
        suite,
        ANNA,
        CustomerName(key="bert", since_time=merged),
        CustomerName(key=BERT, since_time=merged),
        revision=2,
        merged_ids=[BERT],
    )
    await send(suite, metering, event("a", "10", customer="bert", at=noon), event("b", "9", at=noon))
    assert told(suite) == [("reached", BERT, "10")]
    tomorrow = SANDBOX_START + DAY
    await suite.travel(tomorrow)
    # Something else becomes of who was merged, such as that personal data is erased.
    await hear(suite, BERT, was_bert, revision=3, update_time=wire.timestamp(tomorrow + HOUR), **gone)
    await send(suite, metering, event("c", "10", customer=BERT, at=tomorrow), event("d", "2", at=tomorrow))
    assert told(suite)[1:] == [("recovered", BERT, "10"), ("reached", ANNA, "12")]
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await create(thresholds, customer_id=BERT)


async def test_a_period_of_a_calendar_ends_to_the_microsecond(suite: Suite, metering: Any, thresholds: Any) -> None:
    """On the day of 23 hours on which the clocks of Berlin go forward; what is reached recovers when it ends."""
    berlin = ZoneInfo("Europe/Berlin")
    begin, end = (datetime(2026, 3, each, tzinfo=berlin).astimezone(UTC) for each in (29, 30))
    assert end - begin == 23 * HOUR
    await suite.travel(begin)
    await create(thresholds, "10", calendar=day("Europe/Berlin"))
    await send(
        suite,
        metering,
        event("before", "50", at=begin - MICROSECOND),
        event("first", "5", at=begin),
        event("last", "5", at=end - MICROSECOND),
        event("after", "7", at=end),
    )
    assert told(suite) == [("reached", ANNA, "10")]
    assert announced(suite)[0][1].usage_alert.period == wire.interval(Period(begin, end))
    await suite.travel(end - MICROSECOND)
    assert len(told(suite)) == 1
    await suite.travel(end)
    assert told(suite)[1:] == [("recovered", ANNA, "10")]
    over = announced(suite)[1][1].usage_alert
    assert over.period_ended
    assert over.change_time == wire.timestamp(end)
    await send(suite, metering, event("more", "3", at=end))
    assert told(suite)[2:] == [("reached", ANNA, "10")]
    assert announced(suite)[2][1].usage_alert.period == wire.interval(Period(end, end + DAY))


async def test_usage_ahead_of_its_time_is_told_of_when_its_period_begins(
    suite: Suite, metering: Any, thresholds: Any
) -> None:
    """Nobody has reached anything in a period that has not begun; and no further event is needed then."""
    await create(thresholds, "10", calendar=day())
    await suite.travel(SANDBOX_START + 23 * HOUR)
    await send(suite, metering, event("a", "10", at=SANDBOX_START + 25 * HOUR))
    assert told(suite) == []
    await suite.travel(SANDBOX_START + DAY - MICROSECOND)
    assert told(suite) == []
    await suite.travel(SANDBOX_START + DAY)
    assert told(suite) == [("reached", ANNA, "10")]


async def test_late_usage_is_told_of_for_one_period_more(suite: Suite, metering: Any, thresholds: Any) -> None:
    """Where it goes beyond what was told of when its period ended; who uploads on the next day is still in time."""
    await create(thresholds, "20", "10", calendar=day())
    await suite.travel(SANDBOX_START + 12 * HOUR)
    await send(suite, metering, event("a", "10"))
    await suite.travel(SANDBOX_START + DAY)
    assert told(suite) == [("warned", ANNA, "10"), ("recovered", ANNA, "10")]
    await send(suite, metering, event("b", "9.9"))
    assert len(told(suite)) == 2
    await send(suite, metering, event("c", "0.1"))
    assert told(suite)[2:] == [("reached", ANNA, "20")]
    assert announced(suite)[2][1].usage_alert.period_ended
    await send(suite, metering, event("d", "-5"))
    await send(suite, metering, event("e", "6"))
    assert told(suite)[3:] == [("recovered", ANNA, "15"), ("reached", ANNA, "21")]
    await suite.travel(SANDBOX_START + 2 * DAY - MICROSECOND)
    assert len(told(suite)) == 5
    await suite.travel(SANDBOX_START + 2 * DAY)
    assert told(suite)[5:] == [("recovered", ANNA, "21")]
    await send(suite, metering, event("f", "100"))
    assert len(told(suite)) == 6
    # Nothing is kept of what cannot change any more.
    assert await fetch(suite, "SELECT FROM usage_alerts WHERE start_time = '2026-01-01T00:00:00Z'") == []


async def test_an_interval_is_measured_once(suite: Suite, metering: Any, thresholds: Any) -> None:
    """A contract's year or a campaign: from its beginning, which may lie ahead, to its end."""
    begin, end = SANDBOX_START + DAY, SANDBOX_START + 3 * DAY
    threshold = await create(thresholds, "10", interval=wire.interval(Period(begin, end)), customer_id=ANNA)
    assert threshold.WhichOneof("period") == "interval"
    await send(suite, metering, event("before", "50"))
    await suite.travel(end - DAY)
    await send(suite, metering, event("a", "10", at=begin), event("last", "5", at=end - MICROSECOND))
    assert told(suite) == [("reached", ANNA, "15")]
    await suite.travel(end)
    assert told(suite)[1:] == [("recovered", ANNA, "15")]
    with refused("PERIOD_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await create(thresholds, interval=wire.interval(Period(begin, end)))


async def test_what_is_carried_over_is_there_when_a_period_begins(suite: Suite, metering: Any, thresholds: Any) -> None:
    """Seats that were taken last month are taken still, though nobody reports them again."""
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(
            code="seats", display_name="Seats", aggregation=meter_pb2.Meter.SUM, carries_over=True
        )
    )
    await create(thresholds, "5", meter="seats")
    await send(suite, metering, event("a", "6", meter="seats"))
    assert told(suite) == [("reached", ANNA, "6")]
    await suite.travel(JANUARY.end)
    assert sorted(told(suite)[1:]) == [("reached", ANNA, "6"), ("recovered", ANNA, "6")]
    await send(suite, metering, event("b", "-2", meter="seats", at=JANUARY.end))
    assert told(suite)[3:] == [("recovered", ANNA, "4")]
