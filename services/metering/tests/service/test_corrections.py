"""What was accepted is corrected by what comes after it: nothing is changed, and every earlier answer stays."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import grpc
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.ids import SellerId
from common.period import Period
from common.testing import SANDBOX_START, Suite
from metering.log import Log
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import freeze_service_pb2 as freezes_pb
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

ANNA: Final = ids.mint("cus", SANDBOX_START)
BERT: Final = ids.mint("cus", SANDBOX_START)
DECEMBER: Final = Period(datetime(2025, 12, 1, tzinfo=UTC), SANDBOX_START)
NOON: Final = DECEMBER.start + timedelta(hours=12)
SOURCE: Final = "meter-1"
VALID: Final = freezes_pb.VerifyDigestResponse.VALID
VOIDED, AMENDED = pb.Correction.VOIDED, pb.Correction.AMENDED


def event(event_id: str, value: str, **changes: Any) -> usage_event_pb2.UsageEvent:  # Any: fields of the message
    fields: dict[str, Any] = {
        "id": event_id,
        "source": SOURCE,
        "customer": ANNA,
        "meter": "kwh",
        "time": wire.timestamp(NOON),
        "value": decimal_pb2.Decimal(value=value),
    }
    return usage_event_pb2.UsageEvent(**(fields | changes))


def query(meter: str = "kwh", **changes: Any) -> metering_pb.UsageQuery:  # Any: fields of the message
    fields: dict[str, Any] = {"customer_id": ANNA, "meter": meter, "period": wire.interval(DECEMBER)}
    return metering_pb.UsageQuery(**(fields | changes))


async def ingest(metering: Any, *sent: usage_event_pb2.UsageEvent) -> None:  # Any: a stub
    answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=sent))
    assert answer.accepted_count + answer.unmatched_count == len(sent)


async def usage(metering: Any, asked: metering_pb.UsageQuery) -> usage_event_pb2.Usage:  # Any: a stub
    """The answer, which must not depend on whether its proof is asked for, and must list what it counts."""
    short = metering_pb.UsageQuery()
    short.CopyFrom(asked)
    short.without_proof = True
    found, quick = (await metering.BatchQueryUsage(metering_pb.BatchQueryUsageRequest(queries=[asked, short]))).usages
    alone = await metering.QueryUsage(metering_pb.QueryUsageRequest(query=short))
    for each in (quick, alone):
        assert (each.quantity, each.event_count) == (found.quantity, found.event_count)
    listed = await metering.ListEvents(metering_pb.ListEventsRequest(query=asked, page_size=1000))
    assert len(listed.events) == found.event_count
    answer: usage_event_pb2.Usage = found
    return answer


async def figures(
    metering: Any, meter: str = "kwh", **more: Any
) -> tuple[str, int]:  # Any: a stub; fields of the query
    found = await usage(metering, query(meter, **more))
    return found.quantity.value, found.event_count


async def void(fixing: Any, event_id: str, *, request_id: str = "", reason: str = "sent twice") -> pb.EventHistory:
    request = pb.VoidEventRequest(source=SOURCE, id=event_id, reason=reason, request_id=request_id)
    history: pb.EventHistory = await fixing.VoidEvent(request)
    return history


async def amend(fixing: Any, amended: usage_event_pb2.UsageEvent, *, request_id: str = "") -> pb.EventHistory:
    request = pb.AmendEventRequest(event=amended, reason="read wrongly", request_id=request_id)
    history: pb.EventHistory = await fixing.AmendEvent(request)
    return history


async def fetch(suite: Suite, question: str) -> list[Any]:  # Any: a row
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        return [tuple(row) for row in await connection.fetch(question)]
    finally:
        await connection.close()


async def sealed(suite: Suite, count: int) -> None:
    """Wait until so many leaves have their indexes, and are summed."""
    for _ in range(500):
        if len(await fetch(suite, "SELECT 1 FROM usage_leaves WHERE state = 'SEALED' AND is_summed")) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the leaves are not summed")


# What counts, and from where on


async def test_a_voided_event_counts_no_more(metering: Any, fixing: Any) -> None:
    """From the position of its correction on; what was told before stays true of then."""
    await ingest(metering, event("a", "1"), event("b", "2"))
    before = await usage(metering, query())
    history = await void(fixing, "a")
    [version], [told] = history.versions, history.corrections
    assert history.is_voided
    assert (version.event, version.position) == (event("a", "1"), 1)
    assert (told.kind, told.corrects, told.position, told.amended_position) == (VOIDED, 1, 3, 0)
    assert (told.reason, told.actor, told.source, told.id) == ("sent twice", "tester", SOURCE, "a")
    after = await usage(metering, query())
    assert (after.quantity.value, after.event_count, after.through_position) == ("2", 1, 3)
    assert after.digest != before.digest
    assert await usage(metering, query(through_position=2)) == before


async def test_an_amended_event_counts_as_it_was_amended(metering: Any, fixing: Any) -> None:
    """The newest version, and none of those before; each of them still at its own position."""
    await ingest(metering, event("a", "1"), event("b", "2"))
    await amend(fixing, event("a", "10.5"))
    history = await amend(fixing, event("a", "100"))
    assert [(each.event.value.value, each.position) for each in history.versions] == [("1", 1), ("10.5", 4), ("100", 6)]
    assert [(each.corrects, each.position, each.amended_position) for each in history.corrections] == [
        (1, 3, 4),
        (4, 5, 6),
    ]
    told = [await figures(metering, through_position=n) for n in range(1, 7)]
    # Between a correction and the version it brings there is a position, at which neither counts.
    assert told == [("1", 1), ("3", 2), ("2", 1), ("12.5", 2), ("2", 1), ("102", 2)]
    assert await figures(metering) == ("102", 2)
    assert await fixing.GetEvent(pb.GetEventRequest(source=SOURCE, id="a")) == history


async def test_an_event_is_amended_to_another_customer_meter_time_or_dimension(metering: Any, fixing: Any) -> None:
    """Whatever was wrong with it."""
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(code="gas", display_name="Gas", aggregation=meter_pb2.Meter.SUM)
    )
    await ingest(metering, *(event(name, "1") for name in ("customer", "meter", "time", "dimension", "rest")))
    await amend(fixing, event("customer", "2", customer=BERT))
    await amend(fixing, event("meter", "4", meter="gas"))
    await amend(fixing, event("time", "8", time=wire.timestamp(DECEMBER.start - timedelta(days=40))))
    await amend(fixing, event("dimension", "16", dimensions={"region": "eu"}))
    assert await figures(metering) == ("17", 2)
    assert await figures(metering, customer_id=BERT) == ("2", 1)
    assert await figures(metering, "gas") == ("4", 1)
    earlier = Period(DECEMBER.start - timedelta(days=60), DECEMBER.start)
    assert await figures(metering, period=wire.interval(earlier)) == ("8", 1)
    groups = (await usage(metering, query(group_by=["region"]))).groups
    assert [(list(each.values), each.quantity.value) for each in groups] == [([""], "1"), (["eu"], "16")]
    assert await figures(metering, through_position=5) == ("5", 5)


async def test_every_aggregation_honours_corrections(metering: Any, fixing: Any) -> None:
    """Also of what a meter carries over from before the period, and window by window."""
    kinds = meter_pb2.Meter
    meters: dict[str, dict[str, Any]] = {  # Any: fields of the request
        "count": {"aggregation": kinds.COUNT},
        "max": {"aggregation": kinds.MAX},
        "min": {"aggregation": kinds.MIN},
        "latest": {"aggregation": kinds.LATEST},
        "average": {"aggregation": kinds.AVERAGE},
        "unique": {"aggregation": kinds.UNIQUE_COUNT, "unique_dimension": "who"},
        "seats": {"aggregation": kinds.SUM, "carries_over": True},
        "double": {"aggregation": kinds.SUM, "value_expression": "value * 2"},
    }
    for code, more in meters.items():
        await metering.CreateMeter(metering_pb.CreateMeterRequest(code=code, display_name=code, **more))
        at = NOON - timedelta(days=30) if code == "seats" else NOON
        for n, value in enumerate(("5", "7", "9")):
            told = {"time": wire.timestamp(at + timedelta(hours=n)), "dimensions": {"who": f"{n}"}}
            await ingest(metering, event(f"{code} {n}", value, meter=code, **told))
    before = {code: await figures(metering, code) for code in meters}
    position = (await usage(metering, query("count"))).through_position
    for code in meters:
        await void(fixing, f"{code} 2")
        [version] = (await fixing.GetEvent(pb.GetEventRequest(source=SOURCE, id=f"{code} 0"))).versions
        version.event.value.value = "6"
        version.event.dimensions["who"] = "1"
        await amend(fixing, version.event)
    assert {code: await figures(metering, code) for code in meters} == {
        "count": ("2", 2),
        "max": ("7", 2),
        "min": ("6", 2),
        "latest": ("7", 2),
        "average": ("6.5", 2),
        "unique": ("1", 2),
        "seats": ("13", 2),
        "double": ("26", 2),
    }
    assert {code: await figures(metering, code, through_position=position) for code in meters} == before
    windows = (await usage(metering, query("max", window=metering_pb.UsageQuery.DAY))).windows
    assert [(each.quantity.value, each.event_count) for each in windows][:2] == [("7", 2), ("0", 0)]


async def test_the_digest_tells_versions_apart(metering: Any, fixing: Any) -> None:
    """A correction of nothing but a dimension changes what is billed, and whoever compares digests must see it."""
    await ingest(metering, event("a", "1"))
    before = await usage(metering, query())
    await amend(fixing, event("a", "1", dimensions={"region": "eu"}))
    after = await usage(metering, query())
    assert (after.quantity, after.event_count) == (before.quantity, before.event_count)
    assert after.digest != before.digest


async def test_only_who_corrects_is_affected(suite: Suite, metering: Any, fixing: Any) -> None:
    """Positions are those of a seller: the same one of another seller is another event."""
    await ingest(metering, event("a", "1"))
    stranger = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    theirs = suite.stub(MeteringServiceStub, "metering", seller=stranger)
    await theirs.CreateMeter(
        metering_pb.CreateMeterRequest(code="kwh", display_name="kWh", aggregation=meter_pb2.Meter.SUM)
    )
    await ingest(theirs, event("a", "8"))
    await void(fixing, "a")
    assert await figures(metering) == ("0", 0)
    assert await figures(theirs) == ("8", 1)
    fixing_theirs = suite.stub(CorrectionServiceStub, "metering", seller=stranger)
    assert not (await fixing_theirs.GetEvent(pb.GetEventRequest(source=SOURCE, id="a"))).is_voided
    assert not (await fixing_theirs.ListCorrections(pb.ListCorrectionsRequest())).corrections


# Leaves, sums, and what happens in between


@pytest.mark.own_services
async def test_sums_of_days_do_not_hide_a_correction(suite: Suite) -> None:
    """Whether the leaf of the event was summed before it was corrected or after; and for a service that starts anew."""
    await suite.start("metering", leaf_rows=40)
    metering, fixing = suite.stub(MeteringServiceStub, "metering"), suite.stub(CorrectionServiceStub, "metering")
    await create(metering, "kwh", meter_pb2.Meter.SUM)
    await create(metering, "max", meter_pb2.Meter.MAX)
    for part in range(2):
        await ingest(metering, *(event(f"{part}-{n}", f"{n}", meter=("kwh", "max")[n % 2]) for n in range(40)))
    await sealed(suite, 2)
    before = (await figures(metering), await figures(metering, "max"))
    await void(fixing, "0-38")
    await void(fixing, "0-39")
    await amend(fixing, event("1-39", "1.5", meter="max"))
    await ingest(metering, *(event(f"2-{n}", f"{n}", meter=("kwh", "max")[n % 2]) for n in range(20)))
    await void(fixing, "2-18")
    after = [("794", 48), ("37", 49)]
    assert [await figures(metering), await figures(metering, "max")] == after
    await ingest(metering, *(event(f"3-{n}", "0", time=wire.timestamp(NOON + timedelta(days=1))) for n in range(40)))
    await sealed(suite, 3)
    assert [(await figures(metering))[0], (await figures(metering, "max"))[0]] == ["794", "37"]
    await suite.stop("metering")
    await suite.start("metering", leaf_rows=40)
    metering, fixing = suite.stub(MeteringServiceStub, "metering"), suite.stub(CorrectionServiceStub, "metering")
    assert [(await figures(metering))[0], (await figures(metering, "max"))[0]] == ["794", "37"]
    again = [event("0-38", "38"), event("1-39", "39", meter="max"), event("2-18", "18")]
    assert (await metering.IngestEvents(metering_pb.IngestEventsRequest(events=again))).duplicate_count == 3
    history = await amend(fixing, event("1-39", "50", meter="max"))
    assert [each.event.value.value for each in history.versions] == ["39", "1.5", "50"]
    assert await figures(metering, "max") == ("50", 49)
    told = (await figures(metering, through_position=80), await figures(metering, "max", through_position=80))
    assert told == before


async def test_a_correction_while_sums_are_looked_up_is_noticed(
    suite: Suite, metering: Any, fixing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which days are to be counted from events is read before the events are: what comes in between is in neither, and
    then it is asked again; where that never ends, all is counted."""
    looked, places = asyncpg.Connection.fetchrow, importlib.import_module("metering.store.totals")._PLACES
    left = list(range(14))
    await ingest(metering, *(event(f"{n}", f"{2**n}") for n in left))

    async def overtaken(self: asyncpg.Connection, question: str, *asked: Any) -> Any:  # Any: as in the method itself
        row = await looked(self, question, *asked)
        if question == places and left:
            await void(fixing, f"{left.pop()}")
        return row

    monkeypatch.setattr(asyncpg.Connection, "fetchrow", overtaken)
    short = metering_pb.QueryUsageRequest(query=query(without_proof=True))
    found = await metering.QueryUsage(short)
    assert (found.quantity.value, found.event_count, len(left), bool(found.digest)) == ("15", 4, 4, True)
    left.clear()
    found = await metering.QueryUsage(short)
    assert (found.quantity.value, found.event_count, bool(found.digest)) == ("15", 4, False)


async def create(metering: Any, code: str, aggregation: meter_pb2.Meter.Aggregation.ValueType) -> None:
    await metering.CreateMeter(metering_pb.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation))


@pytest.mark.own_services
async def test_a_correction_whose_answer_is_lost_is_stored_once(
    suite: Suite, metering: Any, fixing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has committed, and what remembers the request has not: whoever sends it again gets the same answer."""
    await ingest(metering, event("a", "1"))
    append = Log.append

    async def lost(self: Log, *sent: Any) -> Any:  # Any: as in the method itself
        await append(self, *sent)
        raise ConnectionError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", lost)
        with pytest.raises(grpc.aio.AioRpcError):
            await amend(fixing, event("a", "2"), request_id="r1")
    assert await figures(metering) == ("2", 1)
    history = await amend(fixing, event("a", "2"), request_id="r1")
    assert len(history.versions) == 2
    assert await fetch(suite, "SELECT count(*) FROM usage_log") == [(3,)]


# What was billed


async def late(suite: Suite) -> list[tuple[int, int, str, str]]:
    """What has been announced: late, corrected, by now, difference."""
    await suite.quiet()
    return lates([each.late_usage for each in suite.announced(events.LateUsageDetected)])


def lates(found: Sequence[Any]) -> list[tuple[int, int, str, str]]:  # Any: late usages
    return [(each.event_count, each.corrected_count, each.quantity.value, each.difference.value) for each in found]


async def test_a_correction_of_frozen_usage_is_late_usage(suite: Suite, metering: Any, fixing: Any) -> None:
    """Its invoice must be corrected; and what was billed still proves itself by the events of then."""
    freezes = suite.stub(FreezeServiceStub, "metering")
    await ingest(metering, event("a", "1"), event("b", "2"), event("c", "4"))
    frozen = await freezes.FreezeUsage(freezes_pb.FreezeUsageRequest(query=query()))
    assert await late(suite) == []
    await void(fixing, "a")
    told = [(0, 1, "6", "-1")]
    assert await late(suite) == told
    await amend(fixing, event("b", "3"))
    told.append((1, 2, "7", "0"))
    assert await late(suite) == told
    await amend(fixing, event("c", "4", customer=BERT))
    told.append((1, 3, "3", "-4"))
    assert await late(suite) == told
    await ingest(metering, event("d", "8"))
    told.append((2, 3, "11", "4"))
    assert await late(suite) == told
    listed = (await freezes.ListLateUsages(freezes_pb.ListLateUsagesRequest())).late_usages
    assert lates(listed) == told[-1:]
    assert (await freezes.VerifyDigest(freezes_pb.VerifyDigestRequest(frozen_usage_id=frozen.id))).verdict == VALID
    then = await metering.ListEvents(metering_pb.ListEventsRequest(query=frozen.query))
    assert [each.id for each in then.events] == ["a", "b", "c"]
    replaced = await freezes.FreezeUsage(freezes_pb.FreezeUsageRequest(query=query(), replaces=frozen.id))
    assert (replaced.quantity.value, replaced.event_count) == ("11", 2)
    assert (await freezes.VerifyDigest(freezes_pb.VerifyDigestRequest(frozen_usage_id=replaced.id))).verdict == VALID


async def test_late_usage_that_is_voided_is_late_no_more(suite: Suite, metering: Any, fixing: Any) -> None:
    """Who corrected an invoice for it is told to correct it again; who had not heard of it hears nothing."""
    freezes = suite.stub(FreezeServiceStub, "metering")
    frozen = await freezes.FreezeUsage(freezes_pb.FreezeUsageRequest(query=query()))
    await ingest(metering, event("a", "1"))
    told = [(1, 0, "1", "1")]
    assert await late(suite) == told
    await void(fixing, "a")
    told.append((0, 0, "0", "0"))
    assert await late(suite) == told
    assert not (await freezes.ListLateUsages(freezes_pb.ListLateUsagesRequest())).late_usages
    nothing = await freezes.GetLateUsage(freezes_pb.GetLateUsageRequest(id=frozen.id))
    assert lates([nothing]) == told[-1:]
    await ingest(metering, event("b", "1"))
    told.append((1, 0, "1", "1"))
    assert await late(suite) == told


async def test_a_correction_of_what_was_frozen_as_nothing_is_told(suite: Suite, metering: Any, fixing: Any) -> None:
    """An event that is moved into a billed period is late there, though it had been accepted long before."""
    freezes = suite.stub(FreezeServiceStub, "metering")
    await ingest(metering, event("a", "1", customer=BERT))
    await freezes.FreezeUsage(freezes_pb.FreezeUsageRequest(query=query()))
    await amend(fixing, event("a", "1"))
    assert await late(suite) == [(1, 0, "1", "1")]
