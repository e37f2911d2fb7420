"""Frozen usage through the door: kept as it was counted, proven by the events, and told when it is overtaken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.ids import SellerId
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from metering.store.looks import LEAVES_PER_LOOK
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import freeze_service_pb2 as pb
from saldo.metering.v1 import frozen_usage_pb2, meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

ANNA = ids.mint("cus", SANDBOX_START)
BERT = ids.mint("cus", SANDBOX_START)
DECEMBER = Period(datetime(2025, 12, 1, tzinfo=UTC), SANDBOX_START)
POLLS = 500
POLL_SECONDS = 0.02
LOOKED_AGAIN_SECONDS = 0.3
VALID, DIFFERENT = pb.VerifyDigestResponse.VALID, pb.VerifyDigestResponse.DIFFERENT


def event(event_id: str, value: str, **changes: Any) -> usage_event_pb2.UsageEvent:  # Any: fields of the message
    fields: dict[str, Any] = {
        "id": event_id,
        "source": "meter-1",
        "customer": ANNA,
        "meter": "kwh",
        "time": wire.timestamp(DECEMBER.start),
        "value": decimal_pb2.Decimal(value=value),
    }
    return usage_event_pb2.UsageEvent(**(fields | changes))


def query(period: Period = DECEMBER, **changes: Any) -> metering_pb.UsageQuery:  # Any: fields of the message
    fields: dict[str, Any] = {"customer_id": ANNA, "meter": "kwh", "period": wire.interval(period)}
    return metering_pb.UsageQuery(**(fields | changes))


async def ingest(metering: Any, *sent: usage_event_pb2.UsageEvent) -> None:  # Any: a stub
    answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=sent))
    assert answer.accepted_count == len(sent)


async def freeze(
    freezes: Any,  # Any: a stub
    asked: metering_pb.UsageQuery | None = None,
    *,
    replaces: str = "",
    request_id: str = "",
) -> frozen_usage_pb2.FrozenUsage:
    request = pb.FreezeUsageRequest(query=asked or query(), replaces=replaces, request_id=request_id)
    answer: frozen_usage_pb2.FrozenUsage = await freezes.FreezeUsage(request)
    return answer


async def listed(metering: Any, asked: metering_pb.UsageQuery) -> list[str]:  # Any: a stub
    """The ids of the events, over pages of two."""
    found: list[str] = []
    token = ""
    while True:
        page = await metering.ListEvents(metering_pb.ListEventsRequest(query=asked, page_size=2, page_token=token))
        found += [each.id for each in page.events]
        token = page.next_page_token
        if not token:
            return found


async def execute(suite: Suite, statement: str) -> None:
    """What no service would do."""
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        assert not (await connection.execute(statement)).endswith(" 0")
    finally:
        await connection.close()


async def fetch(suite: Suite, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        found: list[asyncpg.Record] = await connection.fetch(query)
        return found
    finally:
        await connection.close()


def figures(found: Sequence[frozen_usage_pb2.LateUsage]) -> list[tuple[str, int, str, str]]:
    return [(each.id, each.event_count, each.quantity.value, each.difference.value) for each in found]


async def told(suite: Suite) -> list[tuple[str, int, str, str]]:
    """What has been announced, in order of what it is about."""
    await suite.quiet()
    return sorted(figures([each.late_usage for each in suite.announced(events.LateUsageDetected)]))


@pytest_asyncio.fixture
async def freezes(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> AsyncIterator[Any]:  # Any: stubs are generated
    yield suite.stub(FreezeServiceStub, "metering")


async def test_a_frozen_usage_is_what_was_counted_then(metering: Any, freezes: Any) -> None:
    """What an invoice shows as its proof must not move when more comes in."""
    await ingest(metering, event("a", "1.5"), event("b", "2"))
    usage = await metering.QueryUsage(metering_pb.QueryUsageRequest(query=query()))
    frozen = await freeze(freezes)
    assert frozen.id.startswith("frz_")
    assert (frozen.quantity.value, frozen.event_count, frozen.through_position) == ("3.5", 2, 2)
    assert frozen.digest == usage.digest
    await ingest(metering, event("c", "10"))
    assert await freezes.GetFrozenUsage(pb.GetFrozenUsageRequest(id=frozen.id)) == frozen


async def test_exactly_the_events_of_a_freeze_are_listed(metering: Any, freezes: Any) -> None:
    """A customer who doubts a line is shown its events: none that came later, though they lie between the others."""
    at = [wire.timestamp(DECEMBER.start + timedelta(hours=hour)) for hour in range(6)]
    await ingest(metering, *(event(name, "1", time=at[n]) for n, name in ((0, "a"), (2, "c"), (4, "e"))))
    frozen = await freeze(freezes)
    await ingest(metering, *(event(name, "1", time=at[n]) for n, name in ((1, "b"), (3, "d"), (5, "f"))))
    assert await listed(metering, frozen.query) == ["a", "c", "e"]
    assert await listed(metering, query()) == ["a", "b", "c", "d", "e", "f"]
    assert await listed(metering, query(through_position=0)) == []


async def test_an_older_position_gives_the_older_answer(metering: Any, freezes: Any) -> None:
    """Whatever was told of any usage can be asked again; a position that is yet to come holds nothing back."""
    await ingest(metering, event("a", "1"))
    before = await metering.QueryUsage(metering_pb.QueryUsageRequest(query=query()))
    await ingest(metering, event("b", "2"))
    then = query(through_position=before.through_position)
    again, now = (
        await metering.BatchQueryUsage(
            metering_pb.BatchQueryUsageRequest(queries=[then, query(through_position=1_000, with_values=True)])
        )
    ).usages
    assert (again.quantity, again.digest, again.through_position) == (before.quantity, before.digest, 1)
    assert (now.quantity.value, now.through_position) == ("3", 2)
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.QueryUsage(metering_pb.QueryUsageRequest(query=query(through_position=-1)))
    assert refusal.field == "query.through_position"


async def test_a_repeated_request_freezes_once(metering: Any, freezes: Any) -> None:
    """A caller who lost the answer must get the same proof, and not a later one."""
    first = await freeze(freezes, request_id="r1")
    await ingest(metering, event("a", "1"))
    assert await freeze(freezes, request_id="r1") == first
    later = await freeze(freezes, request_id="r2")
    assert (later.event_count, first.event_count) == (1, 0)


async def test_only_what_is_kept_can_be_frozen(freezes: Any) -> None:
    """Groups that are not kept could not be proven; and of a period that goes on, everything to come would be late."""
    for asked in (query(group_by=["region"]), query(with_values=True), query(through_position=1)):
        with refused("INVALID_ARGUMENT") as refusal:
            await freeze(freezes, asked)
        assert refusal.field == "query"
    with refused("PERIOD_NOT_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await freeze(freezes, query(Period(DECEMBER.start, SANDBOX_START + timedelta(seconds=1))))
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await freeze(freezes, query(meter="gas"))
    with refused("FROZEN_USAGE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await freezes.GetFrozenUsage(pb.GetFrozenUsageRequest(id=ids.mint("frz", SANDBOX_START)))


async def test_frozen_usages_are_listed_by_customer_and_meter(metering: Any, freezes: Any) -> None:
    """Oldest first, in pages; an auditor looks for those of one customer."""
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(code="calls", display_name="Calls", aggregation=meter_pb2.Meter.COUNT)
    )
    asked = [query(), query(customer_id=BERT), query(meter="calls"), query()]
    made = [(await freeze(freezes, each)).id for each in asked]

    async def found(**filters: str) -> list[str]:
        ids_found: list[str] = []
        token = ""
        while True:
            page = await freezes.ListFrozenUsages(pb.ListFrozenUsagesRequest(page_size=1, page_token=token, **filters))
            ids_found += [each.id for each in page.frozen_usages]
            token = page.next_page_token
            if not token:
                return ids_found

    assert await found() == made
    assert await found(customer_id=ANNA) == [made[0], made[2], made[3]]
    assert await found(customer_id=ANNA, meter="kwh") == [made[0], made[3]]
    assert await found(meter="gas") == []


async def test_nobody_sees_what_others_froze(suite: Suite, freezes: Any) -> None:
    """A frozen usage is its seller's."""
    frozen = await freeze(freezes)
    stranger = suite.stub(FreezeServiceStub, "metering", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START)))
    with refused("FROZEN_USAGE_NOT_FOUND"):
        await stranger.GetFrozenUsage(pb.GetFrozenUsageRequest(id=frozen.id))
    assert not (await stranger.ListFrozenUsages(pb.ListFrozenUsagesRequest())).frozen_usages


@pytest.mark.own_services
async def test_a_digest_is_verified_against_the_events(suite: Suite, metering: Any, freezes: Any) -> None:
    """Also after more has come in; and when somebody has changed what is stored, both figures are told."""
    await ingest(metering, event("a", "1"), event("b", "2"))
    frozen = await freeze(freezes)
    await ingest(metering, event("c", "4"))
    sound = await freezes.VerifyDigest(pb.VerifyDigestRequest(frozen_usage_id=frozen.id))
    assert sound.verdict == VALID
    assert sound.digest == sound.counted_digest == frozen.digest
    assert (sound.quantity.value, sound.counted_quantity.value) == ("3", "3")
    assert (sound.event_count, sound.counted_event_count) == (2, 2)
    by_query = pb.VerifyDigestRequest(query=frozen.query, digest=frozen.digest)
    assert (await freezes.VerifyDigest(by_query)).verdict == VALID
    await execute(suite, "UPDATE usage_log SET value = 5 WHERE event_id = 'a'")
    forged = await freezes.VerifyDigest(pb.VerifyDigestRequest(frozen_usage_id=frozen.id))
    assert forged.verdict == DIFFERENT
    assert (forged.quantity.value, forged.counted_quantity.value) == ("3", "7")
    assert forged.counted_digest != forged.digest == frozen.digest
    assert (await freezes.VerifyDigest(by_query)).verdict == DIFFERENT


@pytest.mark.own_services
async def test_an_event_that_was_taken_away_makes_a_difference(suite: Suite, metering: Any, freezes: Any) -> None:
    """Though it counted for nothing."""
    await ingest(metering, event("a", "1"), event("nothing", "0"))
    frozen = await freeze(freezes)
    await execute(suite, "DELETE FROM usage_log WHERE event_id = 'nothing'")
    found = await freezes.VerifyDigest(pb.VerifyDigestRequest(frozen_usage_id=frozen.id))
    assert found.verdict == DIFFERENT
    assert (found.counted_quantity, found.event_count, found.counted_event_count) == (frozen.quantity, 2, 1)


async def test_what_cannot_be_verified_is_refused(metering: Any, freezes: Any) -> None:
    """A verdict on less than a whole claim would be worth nothing."""
    frozen = await freeze(freezes)
    wrong = {
        "query.through_position": pb.VerifyDigestRequest(query=query(), digest=frozen.digest),
        "digest": pb.VerifyDigestRequest(query=frozen.query, digest=frozen.digest.upper()),
        "frozen_usage_id": pb.VerifyDigestRequest(frozen_usage_id=frozen.id, digest=frozen.digest),
    }
    for field, request in wrong.items():
        with refused("INVALID_ARGUMENT") as refusal:
            await freezes.VerifyDigest(request)
        assert refusal.field == field
    with refused("INVALID_ARGUMENT") as refusal:
        await freezes.VerifyDigest(pb.VerifyDigestRequest(query=query(through_position=1), digest=frozen.digest))
    assert refusal.field == "query.through_position"


async def test_nothing_late_is_an_empty_list(freezes: Any) -> None:
    """As for most sellers on most days."""
    await freeze(freezes)
    assert not (await freezes.ListLateUsages(pb.ListLateUsagesRequest())).late_usages


@pytest.mark.own_services
async def test_a_frozen_usage_cannot_be_changed(suite: Suite, freezes: Any) -> None:
    """Not even by this service: the database refuses."""
    await freeze(freezes)
    with pytest.raises(asyncpg.RaiseError, match="never changes"):
        await execute(suite, "UPDATE usage_freezes SET quantity = 1")


async def test_late_usage_is_told_once_per_freeze_and_batch(suite: Suite, metering: Any, freezes: Any) -> None:
    """However many events come too late at once: whoever corrects invoices wants to hear of the invoice."""
    await ingest(metering, event("a", "1"), event("b", "1", customer=BERT))
    anna, bert = await freeze(freezes), await freeze(freezes, query(customer_id=BERT))
    await ingest(metering, *(event(f"late {n}", "2") for n in range(20)), event("c", "0.5", customer=BERT))
    expected = [(anna.id, 20, "41", "40"), (bert.id, 1, "1.5", "0.5")]
    assert await told(suite) == expected
    listed = await freezes.ListLateUsages(pb.ListLateUsagesRequest())
    assert figures(listed.late_usages) == expected
    assert [each.frozen_usage for each in listed.late_usages] == [anna, bert]
    await ingest(metering, event("later", "-40"))
    assert await told(suite) == sorted([*expected, (anna.id, 21, "1", "0")])


async def test_what_is_in_time_is_not_late(suite: Suite, metering: Any, freezes: Any) -> None:
    """Neither the next period's, nor another customer's, nor another meter's, nor what was counted."""
    await ingest(metering, event("a", "1"))
    frozen = await freeze(freezes)
    await ingest(
        metering,
        event("next", "1", time=wire.timestamp(DECEMBER.end)),
        event("before", "1", time=wire.timestamp(DECEMBER.start - timedelta(microseconds=1))),
        event("other", "1", customer=BERT),
    )
    await metering.IngestEvents(
        metering_pb.IngestEventsRequest(events=[event("gas", "1", meter="gas"), event("a", "1")])
    )
    assert await told(suite) == []
    assert not (await freezes.ListLateUsages(pb.ListLateUsagesRequest())).late_usages
    nothing = await freezes.GetLateUsage(pb.GetLateUsageRequest(id=frozen.id))
    assert figures([nothing]) == [(frozen.id, 0, "1", "0")]


async def test_lateness_goes_by_every_name_that_was_frozen(suite: Suite, metering: Any, freezes: Any) -> None:
    """A customer is late by the name its devices use, whatever names those are."""
    frozen = await freeze(freezes, query(external_id="anna", names=["flat 7", "anna"]))
    await ingest(metering, event("a", "1", customer="anna"), event("b", "2", customer="flat 7"), event("c", "4"))
    assert await told(suite) == [(frozen.id, 3, "7", "7")]


async def test_lateness_is_of_what_a_meter_counts(suite: Suite, metering: Any, freezes: Any) -> None:
    """A meter that looks back is late for what happened years ago; one that lets little through, only for that."""
    eu = meter_pb2.EventFilter(match=[meter_pb2.DimensionMatch(dimension="region", values=["eu"])])
    sums = meter_pb2.Meter.SUM
    for request in (
        metering_pb.CreateMeterRequest(code="seats", display_name="Seats", aggregation=sums, carries_over=True),
        metering_pb.CreateMeterRequest(code="eu", display_name="In Europe", aggregation=sums, filter=eu),
    ):
        await metering.CreateMeter(request)
    seats, europe = await freeze(freezes, query(meter="seats")), await freeze(freezes, query(meter="eu"))
    await ingest(
        metering,
        event("long ago", "3", meter="seats", time=wire.timestamp(DECEMBER.start - timedelta(days=900))),
        event("there", "5", meter="eu", dimensions={"region": "us"}),
    )
    assert await told(suite) == [(seats.id, 1, "3", "3")]
    await ingest(metering, event("here", "7", meter="eu", dimensions={"region": "eu"}))
    assert await told(suite) == [(seats.id, 1, "3", "3"), (europe.id, 1, "7", "7")]
    assert (await freezes.VerifyDigest(pb.VerifyDigestRequest(frozen_usage_id=europe.id))).verdict == VALID


async def test_a_replaced_freeze_is_not_told_of_any_more(suite: Suite, metering: Any, freezes: Any) -> None:
    """Who corrected an invoice hears of what came after the correction, and does not correct the same twice."""
    first = await freeze(freezes)
    await ingest(metering, event("a", "1"))
    expected = [(first.id, 1, "1", "1")]
    assert await told(suite) == expected
    second = await freeze(freezes, replaces=first.id)
    assert (second.replaces, second.quantity.value) == (first.id, "1")
    assert not (await freezes.ListLateUsages(pb.ListLateUsagesRequest())).late_usages
    await ingest(metering, event("b", "2"))
    assert await told(suite) == sorted([*expected, (second.id, 1, "3", "2")])
    assert figures([await freezes.GetLateUsage(pb.GetLateUsageRequest(id=first.id))]) == [(first.id, 2, "3", "3")]


async def test_a_freeze_is_replaced_once_and_by_its_like(freezes: Any) -> None:
    """Or two chains of corrections would go on from one line; and what is of something else corrects nothing."""
    first = await freeze(freezes)
    with refused("INVALID_ARGUMENT") as refusal:
        await freeze(freezes, query(customer_id=BERT), replaces=first.id)
    assert refusal.field == "replaces"
    await freeze(freezes, replaces=first.id)
    with refused("FROZEN_USAGE_REPLACED", grpc.StatusCode.FAILED_PRECONDITION):
        await freeze(freezes, replaces=first.id)
    with refused("FROZEN_USAGE_NOT_FOUND"):
        await freeze(freezes, replaces=ids.mint("frz", SANDBOX_START))


async def test_no_late_event_is_missed_while_usage_is_frozen(suite: Suite, metering: Any, freezes: Any) -> None:
    """Each of them is either counted by a freeze or told of after it, at whatever moment the freeze was made."""
    sent = 0

    async def send() -> None:
        nonlocal sent
        for n in range(40):
            await ingest(metering, event(f"e{n}", "1"))
            sent += 1

    async def freeze_often() -> list[frozen_usage_pb2.FrozenUsage]:
        return [await freeze(freezes) for _ in range(15)]

    _, *made = await asyncio.gather(send(), freeze_often(), freeze_often())
    last = {frozen_id: count for frozen_id, count, _, _ in await told(suite)}
    for frozen in [*made[0], *made[1]]:
        assert frozen.event_count + last.get(frozen.id, 0) == sent


@pytest.mark.own_services
async def test_a_freeze_waits_for_a_look_under_way(suite: Suite, freezes: Any) -> None:
    """What the look goes past meanwhile, not seeing the freeze, would be late for it in silence."""
    await freeze(freezes)
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        async with connection.transaction():
            await connection.execute("SELECT FROM late_looks FOR UPDATE")
            under_way = asyncio.create_task(freeze(freezes))
            done, _ = await asyncio.wait({under_way}, timeout=LOOKED_AGAIN_SECONDS)
            assert not done
    finally:
        await connection.close()
    assert (await under_way).event_count == 0


@pytest.mark.own_services
async def test_a_live_sellers_log_is_looked_through_now_and_then(suite: Suite, metering: Any) -> None:
    """At a quarter of a million usage events a second, to look after every ingest would be to do nothing else."""
    seller = SellerId(ids.mint(ids.SELLER, SANDBOX_START))
    live, freezes = (suite.stub(stub, "metering", seller=seller) for stub in (MeteringServiceStub, FreezeServiceStub))
    await live.CreateMeter(
        metering_pb.CreateMeterRequest(code="kwh", display_name="Electricity", aggregation=meter_pb2.Meter.SUM)
    )
    frozen = await freeze(freezes)
    await ingest(live, event("a", "1"))
    for _ in range(POLLS):
        await asyncio.sleep(POLL_SECONDS)
        if suite.announced(events.LateUsageDetected):
            break
    await ingest(live, event("b", "2"))
    await asyncio.sleep(LOOKED_AGAIN_SECONDS)
    look = (await fetch(suite, "SELECT next_time - now() AS wait, position FROM late_looks"))[0]
    assert look["position"] == 1
    assert timedelta(minutes=4) < look["wait"] < timedelta(minutes=5)
    assert await told(suite) == [(frozen.id, 1, "1", "1")]
    # Whoever asks does not wait.
    assert figures([await freezes.GetLateUsage(pb.GetLateUsageRequest(id=frozen.id))]) == [(frozen.id, 2, "3", "3")]


@pytest.mark.own_services
async def test_a_long_log_is_looked_through_in_parts(suite: Suite) -> None:
    """A look is bounded, and what it leaves is for the next: over more leaves than one look reads."""
    await suite.start("metering", leaf_rows=1)
    metering = suite.stub(MeteringServiceStub, "metering")
    freezes = suite.stub(FreezeServiceStub, "metering")
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(code="kwh", display_name="Electricity", aggregation=meter_pb2.Meter.SUM)
    )
    frozen = await freeze(freezes)
    # Nobody looks while the log grows.
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        async with connection.transaction():
            await connection.execute("SELECT FROM late_looks FOR UPDATE")
            number = 3 * LEAVES_PER_LOOK
            for n in range(number):
                await ingest(metering, event(f"e{n}", "1", time=wire.timestamp(DECEMBER.end)))
            await ingest(metering, event("late", "2"))
    finally:
        await connection.close()
    assert await told(suite) == [(frozen.id, 1, "2", "2")]
