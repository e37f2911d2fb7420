"""Thresholds through the door: what usage reaches is announced once, and what it falls below recovers."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest
from google.type import decimal_pb2

from common import ids, wire
from common.ids import SellerId
from common.outbox import stream_of, subject_of
from common.period import Period
from common.testing import SANDBOX_START, Suite
from metering import usecases_thresholds as usecases
from metering.store import alerts
from metering.store.looks import LEAVES_PER_LOOK
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import meter_pb2, usage_event_pb2, usage_threshold_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import usage_threshold_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_threshold_pb2 import CalendarPeriod, UsageAlert
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub
from saldo.subscriptions.v1 import events_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import Customer, CustomerName

ANNA: Final = "cus_01h455vb4pex5vsknk084sn02q"
BERT: Final = "cus_01h455vb4pex5vsknk084sn02r"
JANUARY: Final = Period(SANDBOX_START, datetime(2026, 2, 1, tzinfo=UTC))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLLS, POLL_SECONDS = 500, 0.02
TOLD: Final = {
    subject_of(kind): (kind, word)
    for kind, word in (
        (events.UsageThresholdWarned, "warned"),
        (events.UsageThresholdReached, "reached"),
        (events.UsageThresholdRecovered, "recovered"),
    )
}


def decimal(value: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=value)


def event(event_id: str, value: str, **changes: Any) -> usage_event_pb2.UsageEvent:  # Any: fields of the message
    fields: dict[str, Any] = {
        "id": event_id,
        "source": "s",
        "customer": ANNA,
        "meter": "kwh",
        "time": wire.timestamp(SANDBOX_START),
        "value": decimal(value),
    }
    if "at" in changes:
        changes["time"] = wire.timestamp(changes.pop("at"))
    return usage_event_pb2.UsageEvent(**(fields | changes))


async def send(suite: Suite, metering: Any, *sent: usage_event_pb2.UsageEvent) -> None:  # Any: a stub
    answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=sent))
    assert answer.rejected_count == answer.duplicate_count == 0
    await suite.quiet()


def month(zone: str = "UTC") -> CalendarPeriod:
    return CalendarPeriod(length=CalendarPeriod.MONTH, time_zone=zone)


def day(zone: str = "UTC") -> CalendarPeriod:
    return CalendarPeriod(length=CalendarPeriod.DAY, time_zone=zone)


async def create(
    thresholds: Any, of: str = "100", warning: str = "", **changes: Any
) -> usage_threshold_pb2.UsageThreshold:  # Any: a stub, and fields of the message
    fields: dict[str, Any] = {"meter": "kwh", "value": decimal(of)}
    if "interval" not in changes:
        fields["calendar"] = month()
    if warning:
        fields["warning_value"] = decimal(warning)
    made: usage_threshold_pb2.UsageThreshold = await thresholds.CreateUsageThreshold(
        pb.CreateUsageThresholdRequest(**(fields | changes))
    )
    return made


def told(suite: Suite) -> list[tuple[str, str, str]]:
    """All that has been announced, oldest first: what happened, to whose usage, and how much that was."""
    return [(word, each.usage_alert.customer_id, each.usage_alert.quantity.value) for word, each in announced(suite)]


def announced(suite: Suite) -> list[tuple[str, Any]]:  # Any: one of three events
    messages = suite.published(stream_of(events.UsageThresholdWarned))
    found = []
    for each in messages:
        if each.subject in TOLD:
            kind, word = TOLD[each.subject]
            found.append((word, kind.FromString(each.data)))
    return found


async def raised(thresholds: Any, **asked: Any) -> list[UsageAlert]:  # Any: a stub, and fields of the message
    """What is not OK, by pages of one."""
    found: list[UsageAlert] = []
    token = ""
    for _ in range(50):
        page = await thresholds.ListUsageAlerts(pb.ListUsageAlertsRequest(page_size=1, page_token=token, **asked))
        assert len(page.usage_alerts) <= 1
        found += page.usage_alerts
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the list has no end")


async def hear(suite: Suite, customer_id: str, *names: str | CustomerName, revision: int = 1, **changes: Any) -> None:
    """As subscriptions announces a customer."""
    told_names = [CustomerName(key=each) if isinstance(each, str) else each for each in names]
    customer = Customer(id=customer_id, revision=revision, names=told_names, **changes)
    kind = subscriptions.CustomerCreated if revision == 1 else subscriptions.CustomerUpdated
    await suite.announce(kind(customer=customer), source="subscriptions")
    await suite.quiet()


async def fetch(suite: Suite, query: str, *, seller: SellerId | None = None) -> list[asyncpg.Record]:
    async with suite.own_rows("metering", seller=seller) as connection:
        found: list[asyncpg.Record] = await connection.fetch(query)
        return found


async def test_usage_is_warned_of_reaches_the_value_and_recovers(suite: Suite, metering: Any, thresholds: Any) -> None:
    """The whole way up and, by a correction, down again: one event for each change, with all that it is about."""
    threshold = await create(thresholds, "100", "80.5", customer_id=ANNA)
    await send(suite, metering, event("a", "80.4"))
    assert told(suite) == []
    await send(suite, metering, event("b", "0.1"))
    await send(suite, metering, event("c", "19.4"))
    assert told(suite) == [("warned", ANNA, "80.5")]
    await send(suite, metering, event("d", "0.1"))
    assert told(suite) == [("warned", ANNA, "80.5"), ("reached", ANNA, "100")]
    [alert] = await raised(thresholds)
    assert (alert.usage_threshold_id, alert.meter, alert.customer_id) == (threshold.id, "kwh", ANNA)
    assert (alert.state, alert.previous_state) == (UsageAlert.REACHED, UsageAlert.WARNING)
    assert alert.period == wire.interval(JANUARY)
    assert (alert.through_position, alert.change_time) == (4, wire.timestamp(SANDBOX_START))
    assert not alert.period_ended
    assert announced(suite)[-1][1].usage_alert == alert
    assert announced(suite)[-1][1].usage_threshold == threshold
    await send(suite, metering, event("e", "-0.1"))
    await send(suite, metering, event("f", "-19.5"))
    assert told(suite)[2:] == [("warned", ANNA, "99.9"), ("recovered", ANNA, "80.4")]
    assert announced(suite)[2][1].usage_alert.previous_state == UsageAlert.REACHED
    assert await raised(thresholds) == []


async def test_what_is_told_is_never_told_again(suite: Suite, metering: Any, thresholds: Any) -> None:
    """However many events and batches there are on either side of a value."""
    await create(thresholds, "10", customer_id=ANNA)
    for n in range(6):
        await send(suite, metering, *(event(f"{n} {k}", "1") for k in range(4)))
    assert told(suite) == [("reached", ANNA, "12")]
    await send(suite, metering, event("a", "-20"), event("b", "20"))
    assert len(told(suite)) == 1


async def test_thresholds_on_one_meter_are_apart(suite: Suite, metering: Any, thresholds: Any) -> None:
    """Each by its own values, whoever else is told of the same usage."""
    low, high = await create(thresholds, "10", customer_id=ANNA), await create(thresholds, "20", "5", customer_id=ANNA)
    await send(suite, metering, event("a", "12"))
    found = {(each.usage_threshold.id, word) for word, each in announced(suite)}
    assert found == {(low.id, "reached"), (high.id, "warned")}
    await send(suite, metering, event("b", "8"))
    assert [(each.usage_threshold.id, word) for word, each in announced(suite)[2:]] == [(high.id, "reached")]
    assert [each.usage_threshold_id for each in await raised(thresholds)] == [low.id, high.id]
    assert [each.state for each in await raised(thresholds, usage_threshold_id=high.id)] == [UsageAlert.REACHED]


async def test_every_customer_is_measured_by_itself(suite: Suite, metering: Any, thresholds: Any) -> None:
    """By all names of each; what names nobody is nobody's, until somebody is called so."""
    await hear(suite, ANNA, "anna", "device-1")
    await hear(suite, BERT, "bert")
    await create(thresholds, "10")
    await send(
        suite,
        metering,
        event("a", "4"),
        event("b", "4", customer="anna"),
        event("c", "4", customer="device-1"),
        event("d", "9", customer="bert"),
        event("e", "50", customer="nobody"),
    )
    assert told(suite) == [("reached", ANNA, "12")]
    await hear(suite, BERT, "bert", "nobody", revision=2)
    assert told(suite)[1:] == [("reached", BERT, "59")]
    await hear(suite, BERT, "bert", revision=3)
    assert told(suite)[2:] == [("recovered", BERT, "9")]
    await hear(suite, BERT, "nobody", revision=4)
    await hear(suite, BERT, revision=5)
    assert told(suite)[3:] == [("reached", BERT, "50"), ("recovered", BERT, "0")]
    assert [each.customer_id for each in await raised(thresholds)] == [ANNA]
    assert await raised(thresholds, customer_id=BERT) == []


async def test_customers_of_whom_nothing_was_heard_go_by_their_ids(
    suite: Suite, metering: Any, thresholds: Any
) -> None:
    """Metering that listens to nobody calls nobody unknown; by any other name it cannot tell whose usage is."""
    await create(thresholds, "10")
    await send(suite, metering, event("a", "10"), event("b", "10", customer="anna"))
    assert told(suite) == [("reached", ANNA, "10")]


async def test_usage_that_is_there_counts_for_a_new_threshold(
    suite: Suite, metering: Any, thresholds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the period under way, whoever's it is, in as many parts as it takes; and not of one that was over."""
    monkeypatch.setattr(alerts, "STREAMS_PER_SWEEP", 2)
    customers = [ids.mint("cus", SANDBOX_START) for _ in range(7)]
    await send(
        suite,
        metering,
        *(event(each, "10", customer=each) for each in customers),
        event("before", "99", at=SANDBOX_START - DAY),
    )
    await create(thresholds, "10")
    await suite.quiet()
    assert sorted(told(suite)) == [("reached", each, "10") for each in sorted(customers)]
    await create(thresholds, "10", customer_id=customers[3])
    await suite.quiet()
    assert told(suite)[7:] == [("reached", customers[3], "10")]


async def test_only_what_the_filter_lets_through_is_measured(suite: Suite, metering: Any, thresholds: Any) -> None:
    """A limit on one region is no limit on another."""
    only = meter_pb2.EventFilter(match=[meter_pb2.DimensionMatch(dimension="region", values=["eu"])])
    threshold = await create(thresholds, "10", filter=only)
    assert threshold.filter == only
    await send(
        suite, metering, event("a", "9", dimensions={"region": "eu"}), event("b", "9", dimensions={"region": "us"})
    )
    assert told(suite) == []
    await send(suite, metering, event("c", "1", dimensions={"region": "eu"}))
    assert told(suite) == [("reached", ANNA, "10")]


async def test_any_quantity_that_rises_has_thresholds(suite: Suite, metering: Any, thresholds: Any) -> None:
    """However it is made of the usage events: those that days are added up of, and all others, in one batch."""
    quantities: dict[str, tuple[str, dict[str, Any]]] = {
        "COUNT": ("3", {}),
        "MAX": ("9", {}),
        "LATEST": ("4", {}),
        "UNIQUE_COUNT": ("3", {"unique_dimension": "u"}),
        "AVERAGE": ("5", {}),
        "PERCENTILE": ("4", {"percentile": decimal("50")}),
        "SUM_OF_MAX": ("15", {"bucket": meter_pb2.Meter.HOUR}),
    }
    sent = []
    for aggregation, (quantity, more) in quantities.items():
        code = aggregation.lower()
        await metering.CreateMeter(
            metering_pb.CreateMeterRequest(
                code=code, display_name=code, aggregation=meter_pb2.Meter.Aggregation.Value(aggregation), **more
            )
        )
        await create(thresholds, quantity, meter=code)
        for n, value in enumerate(("2", "9", "4")):
            at = SANDBOX_START + n * HOUR
            sent.append(event(f"{code} {n}", value, meter=code, at=at, dimensions={"u": str(n)}))
    await send(suite, metering, *sent)
    found = {each.usage_alert.meter: (word, each.usage_alert.quantity.value) for word, each in announced(suite)}
    assert found == {name.lower(): ("reached", quantity) for name, (quantity, _) in quantities.items()}


async def test_nothing_is_missed_while_usage_comes_in(suite: Suite, metering: Any, thresholds: Any) -> None:
    """At whatever moment between looks a threshold is created or somebody gets a name: all are counted to the end."""
    await hear(suite, ANNA)

    async def use() -> None:
        for n in range(30):
            answer = await metering.IngestEvents(
                metering_pb.IngestEventsRequest(
                    events=[event(f"{n} id", "1"), event(f"{n} name", "1", customer="anna")]
                )
            )
            assert answer.rejected_count == 0

    async def watch() -> None:
        for n in range(12):
            await create(thresholds, str(5 * (n + 1)), customer_id=ANNA if n % 2 else "")
            if n == 6:
                named = Customer(id=ANNA, revision=2, names=[CustomerName(key="anna")])
                await suite.announce(subscriptions.CustomerUpdated(customer=named), source="subscriptions")

    await asyncio.gather(use(), watch())
    await suite.quiet()
    assert Counter(word for word, _ in announced(suite)) == {"reached": 12}
    assert len({each.usage_threshold.id for _, each in announced(suite)}) == 12
    assert {(each.quantity.value, each.through_position) for each in await raised(thresholds)} == {("60", 60)}


async def test_a_live_seller_hears_within_half_a_minute(suite: Suite, metering: Any) -> None:
    """At a quarter of a million usage events a second, to look after every ingest would be to do nothing else."""
    seller = SellerId(ids.mint(ids.SELLER, SANDBOX_START))
    live, thresholds = (
        suite.stub(stub, "metering", seller=seller) for stub in (MeteringServiceStub, UsageThresholdServiceStub)
    )
    await live.CreateMeter(
        metering_pb.CreateMeterRequest(code="kwh", display_name="Electricity", aggregation=meter_pb2.Meter.SUM)
    )
    at = datetime.now(UTC) - timedelta(seconds=1)
    await create(thresholds, "10", calendar=CalendarPeriod(length=CalendarPeriod.YEAR))
    for _ in range(POLLS):
        if not await fetch(suite, "SELECT FROM usage_thresholds WHERE sweep_time IS NOT NULL", seller=seller):
            break
        await asyncio.sleep(POLL_SECONDS)
    await send(suite, live, event("a", "10", at=at))
    for _ in range(POLLS):
        if told(suite):
            break
        await asyncio.sleep(POLL_SECONDS)
    assert told(suite) == [("reached", ANNA, "10")]
    await send(suite, live, event("b", "-10", at=at))
    await asyncio.sleep(10 * POLL_SECONDS)
    [look] = await fetch(suite, "SELECT next_time - now() AS wait, position FROM threshold_looks", seller=seller)
    assert look["position"] == 1
    assert timedelta(seconds=20) < look["wait"] < usecases.GROWTH_LOOK_WAIT == timedelta(seconds=30)
    assert len(told(suite)) == 1


async def test_a_seller_without_thresholds_is_not_looked_at(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Nothing is kept of what nobody wants to hear of."""
    await send(suite, metering, event("a", "10"))
    for table in ("threshold_looks", "usage_alerts"):
        assert await fetch(suite, f"SELECT FROM {table}") == []


async def test_a_long_log_is_looked_through_in_parts(suite: Suite) -> None:
    """A look is bounded, and what it leaves is for the next: over more leaves than one look reads."""
    await suite.start("metering", leaf_rows=1)
    metering = suite.stub(MeteringServiceStub, "metering")
    thresholds = suite.stub(UsageThresholdServiceStub, "metering")
    await metering.CreateMeter(
        metering_pb.CreateMeterRequest(code="kwh", display_name="Electricity", aggregation=meter_pb2.Meter.SUM)
    )
    await create(thresholds, "12")
    # Nobody looks while the log grows.
    async with suite.own_rows("metering") as connection, connection.transaction():
        await connection.execute("SELECT FROM threshold_looks FOR UPDATE")
        for n in range(3 * LEAVES_PER_LOOK):
            answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=[event(f"{n}", "1")]))
            assert answer.accepted_count == 1
    await suite.quiet()
    assert told(suite) == [("reached", ANNA, "12")]


async def test_a_threshold_and_a_name_wait_for_a_look_under_way(suite: Suite, metering: Any, thresholds: Any) -> None:
    """What the look goes past meanwhile, not seeing them, would be reached in silence."""
    await hear(suite, ANNA)
    await create(thresholds, "10")
    async with suite.own_rows("metering") as connection, connection.transaction():
        await connection.execute("SELECT FROM threshold_looks FOR UPDATE")
        creating = asyncio.create_task(create(thresholds, "20"))
        hearing = asyncio.create_task(hear(suite, ANNA, "anna", revision=2))
        done, _ = await asyncio.wait({creating, hearing}, timeout=10 * POLL_SECONDS)
        assert not done
        assert [row["revision"] for row in await fetch(suite, "SELECT revision FROM customers")] == [1]
    await asyncio.gather(creating, hearing)
    await send(suite, metering, event("a", "20", customer="anna"))
    assert Counter(told(suite)) == {("reached", ANNA, "20"): 2}
