"""How far back usage may lie when it comes is its meter's to say, to the microsecond, in whatever form it comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from common import wire
from common.testing import SANDBOX_START, Suite, refused
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventColumns, EventResult, FlatEvent, UsageEvent

DAYS: Final = 30
MICROSECOND: Final = timedelta(microseconds=1)
EARLIEST: Final = SANDBOX_START - timedelta(days=DAYS)
FORMS: Final = ("rows", "flat", "columns")


async def create(metering: Any, code: str, accepts_days: int) -> meter_pb2.Meter:  # Any: grpc stubs are generated
    meter: meter_pb2.Meter = await metering.CreateMeter(
        pb.CreateMeterRequest(
            code=code, display_name=code, aggregation=meter_pb2.Meter.COUNT, accepts_days=accepts_days
        )
    )
    return meter


def batch(form: str, events: list[tuple[str, str, datetime]]) -> pb.IngestEventsRequest:
    """Of ids, meters and times."""
    micros = [(time - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND for *_, time in events]
    if form == "rows":
        return pb.IngestEventsRequest(
            events=[
                UsageEvent(id=each, source="s", customer="c", meter=meter, time=wire.timestamp(time))
                for each, meter, time in events
            ]
        )
    if form == "flat":
        return pb.IngestEventsRequest(
            flat_events=[
                FlatEvent(id=each, source="s", customer="c", meter=meter, time_micros=time)
                for (each, meter, _), time in zip(events, micros, strict=True)
            ]
        )
    strings = ["s", "c", *sorted({meter for _, meter, _ in events})]
    return pb.IngestEventsRequest(
        columns=EventColumns(
            strings=strings,
            ids="".join(each for each, *_ in events).encode(),
            id_lengths=[len(each) for each, *_ in events],
            sources=[0],
            customers=[1],
            meters=[strings.index(meter) for _, meter, _ in events],
            times_micros=micros,
        )
    )


@pytest.mark.parametrize("form", FORMS)
async def test_the_limit_is_exact(metering: Any, form: str) -> None:  # Any: as above
    """A microsecond before it is too old; other meters, and what else is in the batch, are not concerned."""
    meter = await create(metering, "recent", DAYS)
    assert (meter.accepts_days, (await create(metering, "ever", 0)).accepts_days) == (DAYS, 0)
    sent = [
        ("a", "recent", EARLIEST - MICROSECOND),
        ("b", "recent", EARLIEST),
        ("c", "recent", EARLIEST + MICROSECOND),
        ("d", "ever", EARLIEST - timedelta(days=9_000)),
        ("e", "recent", EARLIEST - timedelta(days=9_000)),
    ]
    answer = await metering.IngestEvents(batch(form, sent))
    found = [(each.id, each.outcome, each.reason, each.field) for each in answer.results]
    rejected = (EventResult.REJECTED, "EVENT_TOO_OLD", "time")
    accepted = (EventResult.ACCEPTED, "", "")
    assert found == [("a", *rejected), ("b", *accepted), ("c", *accepted), ("d", *accepted), ("e", *rejected)]
    assert (answer.accepted_count, answer.rejected_count) == (3, 2)
    assert "the last 30 days" in answer.results[0].message
    assert EARLIEST.isoformat() in answer.results[0].message
    only = await metering.IngestEvents(batch(form, sent[:1]))
    assert [each.reason for each in only.results] == ["EVENT_TOO_OLD"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_repeat_is_a_duplicate_however_old_it_is(
    suite: Suite, metering: Any, form: str
) -> None:  # Any: as above
    """Who sends again what was accepted learns that it was, also when it would be too old by now, and after a crash."""
    await create(metering, "recent", DAYS)
    sent = [("a", "recent", EARLIEST), ("b", "recent", SANDBOX_START)]
    await metering.IngestEvents(batch(form, sent))
    await suite.travel(SANDBOX_START + timedelta(days=1))
    await suite.crash("metering")
    await suite.start("metering")
    metering = suite.stub(MeteringServiceStub, "metering")
    answer = await metering.IngestEvents(batch(form, [*sent, ("c", "recent", EARLIEST), ("a", "recent", EARLIEST)]))
    duplicate, rejected = EventResult.DUPLICATE, EventResult.REJECTED
    assert [each.outcome for each in answer.results] == [duplicate, duplicate, rejected, duplicate]


async def test_a_limit_holds_from_the_meters_first_moment(metering: Any) -> None:  # Any: as above
    """What came before there was a meter is kept, however old; what comes after is judged, without any delay."""
    answer = await metering.IngestEvents(batch("rows", [("a", "new", EARLIEST - MICROSECOND)]))
    assert [each.outcome for each in answer.results] == [EventResult.UNMATCHED]
    await create(metering, "new", DAYS)
    answer = await metering.IngestEvents(
        batch("rows", [("a", "new", EARLIEST - MICROSECOND), ("b", "new", EARLIEST - MICROSECOND)])
    )
    assert [each.outcome for each in answer.results] == [EventResult.DUPLICATE, EventResult.REJECTED]


@pytest.mark.parametrize("days", [-1, 36_501])
async def test_a_limit_has_limits(metering: Any, days: int) -> None:  # Any: as above
    """A negative number of days would accept nothing but the future."""
    with refused("INVALID_ARGUMENT") as refusal:
        await create(metering, "recent", days)
    assert refusal.field == "accepts_days"
