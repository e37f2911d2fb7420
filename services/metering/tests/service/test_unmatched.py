"""What nobody counts is kept, told at once, listed, and vanishes from the list when what it names appears."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import pytest
from opentelemetry.metrics import NoOpMeter

import common.service
from common import ids, wire
from common.testing import SANDBOX_START, Suite, refused
from metering import customers, usecases_unmatched
from saldo.metering.v1 import backfill_service_pb2 as backfills_pb
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult, UsageEvent
from saldo.subscriptions.v1 import events_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import Customer, CustomerName

ANN: Final = "cus_01h455vb4pex5vsknk084sn02q"
BOB: Final = "cus_01h455vb4pex5vsknk084sn02r"
LEAF_ROWS: Final = 50
ACCEPTED, DUPLICATE, UNMATCHED = EventResult.ACCEPTED, EventResult.DUPLICATE, EventResult.UNMATCHED


@pytest.fixture(autouse=True, scope="module")
def _heard_at_once() -> Iterator[None]:
    """What was nobody's name a moment ago is asked about again: so in all that is taken over from another test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(customers, "UNKNOWN_SECONDS", 0)
        yield


def event(name: str, *, customer: str = "ann", meter: str = "kwh", minutes: int = 0) -> UsageEvent:
    time = SANDBOX_START - timedelta(minutes=minutes)
    return UsageEvent(id=name, source="s", customer=customer, meter=meter, time=wire.timestamp(time))


async def send(metering: Any, *events: UsageEvent) -> list[tuple[EventResult.Outcome.ValueType, str, str]]:
    answer = await metering.IngestEvents(pb.IngestEventsRequest(events=events))
    assert answer.unmatched_count == sum(each.outcome == UNMATCHED for each in answer.results)
    return [(each.outcome, each.reason, each.field) for each in answer.results]


async def listed(metering: Any) -> list[tuple[str, str, str, int]]:
    """By pages of two: how a list is cut must not matter."""
    found: list[tuple[str, str, str, int]] = []
    token = ""
    for _ in range(50):
        page = await metering.ListUnmatchedUsage(pb.ListUnmatchedUsageRequest(page_size=2, page_token=token))
        assert len(page.unmatched_usages) <= 2
        found += [(each.meter, each.customer, each.reason, each.event_count) for each in page.unmatched_usages]
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the list has no end")


async def create(metering: Any, code: str) -> None:
    await metering.CreateMeter(pb.CreateMeterRequest(code=code, display_name=code, aggregation=meter_pb2.Meter.SUM))


async def hear(suite: Suite, customer_id: str, *names: str, revision: int = 1, **changes: Any) -> None:
    """As subscriptions announces a customer."""
    customer = Customer(id=customer_id, revision=revision, names=[CustomerName(key=each) for each in names], **changes)
    kind = subscriptions.CustomerCreated if revision == 1 else subscriptions.CustomerUpdated
    await suite.announce(kind(customer=customer), source="subscriptions")
    await suite.quiet()


OK: Final = (ACCEPTED, "", "")
NO_METER: Final = (UNMATCHED, "UNKNOWN_METER", "meter")
NOBODY: Final = (UNMATCHED, "UNKNOWN_CUSTOMER", "customer")


async def test_what_no_meter_counts_is_listed_until_there_is_one(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Whoever misspelt a meter sees how much that was and since when; creating the meter settles it."""
    await send(metering, event("1"), event("2", meter="gas", minutes=5), event("3", meter="gas", customer="bob"))
    await send(metering, event("4", meter="gas", minutes=9), event("5", meter="heat"))
    page = await metering.ListUnmatchedUsage(pb.ListUnmatchedUsageRequest())
    first = page.unmatched_usages[0]
    assert (first.meter, first.customer, first.reason, first.event_count) == ("gas", "ann", "UNKNOWN_METER", 2)
    assert first.first_time.ToDatetime(UTC) == SANDBOX_START - timedelta(minutes=9)
    assert first.last_time.ToDatetime(UTC) == SANDBOX_START - timedelta(minutes=5)
    assert (first.first_position, first.last_position) == (2, 4)
    assert await listed(metering) == [
        ("gas", "ann", "UNKNOWN_METER", 2),
        ("gas", "bob", "UNKNOWN_METER", 1),
        ("heat", "ann", "UNKNOWN_METER", 1),
    ]
    await create(metering, "gas")
    assert await listed(metering) == [("heat", "ann", "UNKNOWN_METER", 1)]
    await create(metering, "heat")
    assert await listed(metering) == []


async def test_nobody_is_called_unknown_before_any_customer_was_heard_of(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Metering that has just begun to listen would call everybody so."""
    assert await send(metering, event("1", customer="anybody")) == [OK]
    assert await listed(metering) == []


async def test_usage_of_nobody_is_told_and_listed_until_somebody_is_called_so(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """And counts all the while for whoever asks by that name: what metering has heard of never decides that."""
    await hear(suite, ANN, "ann")
    outcomes = await send(metering, event("1"), event("2", customer="bob"), event("3", customer=ANN))
    assert outcomes == [OK, NOBODY, OK]
    assert await send(metering, event("2", customer="bob"), event("4", customer="bob", meter="gas")) == [
        (DUPLICATE, "", ""),
        NO_METER,
    ]
    assert await listed(metering) == [("gas", "bob", "UNKNOWN_METER", 1), ("kwh", "bob", "UNKNOWN_CUSTOMER", 1)]
    year = [datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)]
    query = pb.UsageQuery(customer_id=BOB, external_id="bob", meter="kwh")
    query.period.start_time.FromDatetime(year[0])
    query.period.end_time.FromDatetime(year[1])
    assert (await metering.QueryUsage(pb.QueryUsageRequest(query=query))).event_count == 1
    await create(metering, "gas")
    assert await listed(metering) == [("gas", "bob", "UNKNOWN_CUSTOMER", 1), ("kwh", "bob", "UNKNOWN_CUSTOMER", 1)]
    await hear(suite, BOB, "bob")
    assert await listed(metering) == []
    assert await send(metering, event("5", customer="bob"), event("6", customer=BOB)) == [OK, OK]


async def test_every_name_of_a_customer_is_known(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Aliases, and the ids and keys of those merged into it; also from announcements of before there were names."""
    await hear(suite, ANN, "ann", "old-ann", merged_ids=[BOB])
    await hear(suite, "cus_01h455vb4pex5vsknk084sn02s", external_id="cid", aliases=["el-cid"])
    strangers = ["a", "ann!", "anna", "z", "Ánn"]
    events = [event(name, customer=name) for name in ("ann", "old-ann", BOB, "cid", "el-cid", *strangers)]
    assert await send(metering, *events) == [OK] * 5 + [NOBODY] * 5
    assert sorted(await listed(metering)) == sorted(("kwh", name, "UNKNOWN_CUSTOMER", 1) for name in strangers)


async def test_a_name_that_was_taken_back_is_nobodys_again(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its usage would be billed to nobody; unless another customer is called so."""
    monkeypatch.setattr(customers, "KNOWN_SECONDS", 0)
    await hear(suite, ANN, "ann", "shared", "gone")
    assert await send(metering, event("1", customer="gone"), event("2", customer="shared")) == [OK, OK]
    await hear(suite, BOB, "shared")
    await hear(suite, ANN, "ann", revision=2)
    assert await listed(metering) == [("kwh", "gone", "UNKNOWN_CUSTOMER", 1)]
    assert await send(metering, event("3", customer="gone"), event("4", customer="shared")) == [NOBODY, OK]
    await hear(suite, ANN, "ann", "gone", revision=3)
    assert await listed(metering) == []


async def test_an_announcement_that_comes_late_changes_nothing(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """Announcements may come again, and out of order."""
    await hear(suite, ANN, "ann", "new", revision=7)
    await hear(suite, ANN, "ann", revision=6)
    assert await send(metering, event("1", customer="new")) == [OK]
    assert await listed(metering) == []


async def test_no_seller_sees_what_anothers_customers_are_called(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """Neither in outcomes nor in the list."""
    await hear(suite, ANN, "ann")
    await send(metering, event("1", customer="nobody"), event("2", meter="gas"))
    other = suite.stub(MeteringServiceStub, "metering", seller=ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START)))
    await create(other, "kwh")
    assert await send(other, event("1", customer="nobody")) == [OK]
    assert await listed(other) == []
    assert len(await listed(metering)) == 2


async def test_events_of_every_leaf_are_counted_in_the_list(suite: Suite) -> None:
    """Those with indexes, and the one that is being written."""
    await suite.start("metering", leaf_rows=LEAF_ROWS)
    metering = suite.stub(MeteringServiceStub, "metering")
    for batch in range(5):
        await send(metering, *(event(f"{batch}-{n}", meter="gas", minutes=n) for n in range(LEAF_ROWS // 2 + 1)))
    assert await listed(metering) == [("gas", "ann", "UNKNOWN_METER", 5 * (LEAF_ROWS // 2 + 1))]


async def test_a_page_token_of_another_list_is_refused(metering: Any) -> None:
    """It names no pair."""
    token = wire.encode_page_token("mtr_1")
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.ListUnmatchedUsage(pb.ListUnmatchedUsageRequest(page_token=token))
    assert refusal.field == "page_token"


class Seen:
    """A gauge, as whoever reads the metrics would find it."""

    figures: ClassVar[dict[str, int]] = {}

    def __init__(self, name: str) -> None:
        self._name = name

    def set(self, value: int, _: object = None) -> None:
        self.figures[self._name] = value


async def told(figure: int) -> None:
    for _ in range(100):
        if Seen.figures.get("saldo.usage_events.unmatched") == figure:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"there are {figure}, and the figures are {Seen.figures}")


async def test_how_many_nobody_counts_is_a_figure(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revenue is being lost and nobody looks at the list: an alert can be set on it."""
    monkeypatch.setattr(NoOpMeter, "create_gauge", lambda _meter, name, **_: Seen(name))
    monkeypatch.setattr(Seen, "figures", {})
    monkeypatch.setattr(common.service, "MONITOR_SECONDS", 0.05)
    await suite.start("metering")
    client = suite.stub(MeteringServiceStub, "metering")
    await told(0)
    await create(client, "kwh")
    await hear(suite, ANN, "ann")
    await send(client, event("1"), event("2", meter="gas"), event("3", meter="gas"), event("4", customer="bob"))
    other = suite.stub(MeteringServiceStub, "metering", seller=ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START)))
    await send(other, event("1", meter="gas"), event("2", meter="a"), event("3", meter="z"))
    await told(6)
    await create(client, "gas")
    await hear(suite, BOB, "bob")
    await told(3)


def announced(suite: Suite) -> list[tuple[str, str, str]]:
    """In order: what was told, of which reason and meter."""
    told = [("Found", each.unmatched_name) for each in suite.announced(events.UnmatchedNameDetected)]
    told += [("Matched", each.unmatched_name) for each in suite.announced(events.UnmatchedNameMatched)]
    told.sort(key=lambda each: (each[1].id, each[1].revision))
    return [(what, name.reason, name.meter) for what, name in told]


async def test_a_name_that_nobody_has_is_told_of_once(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Whoever watches need not ask; and hears when it is settled, without being told who that is."""
    await hear(suite, ANN, "ann")
    for n in range(2):
        await send(metering, event(f"a{n}", meter="gas"), event(f"b{n}", customer="Bob Smith"), event(f"c{n}"))
        await suite.quiet()
    assert sorted(announced(suite)) == [("Found", "UNKNOWN_CUSTOMER", ""), ("Found", "UNKNOWN_METER", "gas")]
    found = suite.announced(events.UnmatchedNameDetected)
    assert not any(b"Bob" in each.SerializeToString() for each in found)
    page = await metering.ListUnmatchedUsage(pb.ListUnmatchedUsageRequest())
    assert {each.unmatched_name_id: each.reason for each in page.unmatched_usages} == {
        each.unmatched_name.id: each.unmatched_name.reason for each in found
    }
    await create(metering, "gas")
    await suite.quiet()
    [gas] = suite.announced(events.UnmatchedNameMatched)
    assert (gas.unmatched_name.meter, gas.unmatched_name.revision) == ("gas", 2)
    assert gas.unmatched_name.matched_time == wire.timestamp(SANDBOX_START)
    await hear(suite, BOB, "Bob Smith")
    assert announced(suite).count(("Matched", "UNKNOWN_CUSTOMER", "")) == 1
    # Somebody who is no longer called so, and whose usage would be nobody's again.
    await hear(suite, BOB, "bob", revision=2)
    [_, _, again] = suite.announced(events.UnmatchedNameDetected)
    assert again.unmatched_name.revision == 3
    assert not again.unmatched_name.HasField("matched_time")
    assert len({each.unmatched_name.id for each in suite.announced(events.UnmatchedNameDetected)}) == 2


async def test_who_is_unknown_shows_when_the_first_customer_is_heard_of(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """Nothing was sent since; and on a meter that is made later somebody may be unknown too."""
    await send(metering, event("1"), event("2", customer="bob"), event("3", customer="carl", meter="gas"))
    await suite.quiet()
    assert announced(suite) == [("Found", "UNKNOWN_METER", "gas")]
    await hear(suite, ANN, "ann")
    assert sorted(announced(suite)) == [("Found", "UNKNOWN_CUSTOMER", ""), ("Found", "UNKNOWN_METER", "gas")]
    await create(metering, "gas")
    await suite.quiet()
    assert len(suite.announced(events.UnmatchedNameDetected)) == 3


async def test_an_open_backfill_is_not_told_of(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """It counts for nobody on purpose; when it is closed, what it names has to be there."""
    backfills = suite.stub(BackfillServiceStub, "metering")
    opened = await backfills.OpenBackfill(backfills_pb.OpenBackfillRequest(reason="last year"))
    await metering.IngestEvents(pb.IngestEventsRequest(events=[event("1", meter="gas")], backfill_id=opened.id))
    await send(metering, event("2"))
    await suite.quiet()
    assert announced(suite) == []
    await backfills.CloseBackfill(backfills_pb.CloseBackfillRequest(id=opened.id))
    await suite.quiet()
    assert announced(suite) == [("Found", "UNKNOWN_METER", "gas")]


async def test_so_many_names_are_told_of_and_no_more(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who sends nonsense drowns nobody; some at a time, and others when some are settled."""
    monkeypatch.setattr(usecases_unmatched, "FOUND_TOGETHER", 2)
    monkeypatch.setattr(usecases_unmatched, "OPEN_MAX", 5)
    await send(metering, *(event(f"{n}", meter=f"m{n}") for n in range(7)))
    await suite.quiet()
    assert announced(suite) == [("Found", "UNKNOWN_METER", f"m{n}") for n in range(5)]
    await create(metering, "m0")
    await suite.quiet()
    assert announced(suite)[-1] == ("Found", "UNKNOWN_METER", "m5")
