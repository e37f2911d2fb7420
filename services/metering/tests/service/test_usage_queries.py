"""Usage is asked for by many queries at once, and event by event, by whoever may; what makes no sense is refused."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from common import ids, wire
from common.caller import Role
from common.testing import SANDBOX_START, Suite, refused
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from services.metering.tests.service.test_usage import (
    ACCEPTED,
    ANNA,
    DECEMBER,
    HOUR,
    batch,
    event,
    outcomes,
    query,
    usage,
)


async def test_many_usages_at_once_keep_their_order(metering: Any, kwh: meter_pb2.Meter) -> None:
    """The bill run asks for hundreds of customers in one call, of the same snapshot."""
    customers = [ids.mint("cus", SANDBOX_START) for _ in range(250)]
    await metering.CreateMeter(
        pb.CreateMeterRequest(code="calls", display_name="Calls", aggregation=meter_pb2.Meter.COUNT)
    )
    events = [
        event(f"{meter}-{n}", str(n), customer=customer, meter=meter)
        for meter in ("kwh", "calls")
        for n, customer in enumerate(customers)
    ]
    await metering.IngestEvents(batch(*events))
    asked = [query(customer_id=customer, meter=meter) for customer in customers for meter in ("kwh", "calls")]
    asked += [asked[0]] * 500
    answer = await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=asked))
    assert [(each.customer_id, each.meter) for each in answer.usages] == [(q.customer_id, q.meter) for q in asked]
    assert [each.quantity.value for each in answer.usages[:500:2]] == [str(n) for n in range(250)]
    assert {each.quantity.value for each in answer.usages[1:500:2]} == {"1"}
    assert {each.through_position for each in answer.usages} == {500}
    assert answer.usages[0] == await usage(metering, asked[0])


async def test_usage_of_no_meter_is_not_zero(metering: Any, kwh: meter_pb2.Meter) -> None:
    """A misspelt meter must stop a bill, not make it cheaper."""
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
        await metering.BatchQueryUsage(
            pb.BatchQueryUsageRequest(queries=[query(), query(meter="water"), query(meter="gas")])
        )
    assert refusal.metadata["codes"] == "gas,water"
    with refused("METER_NOT_FOUND"):
        await usage(metering, query(meter="gas"))
    with refused("METER_NOT_FOUND"):
        await metering.ListEvents(pb.ListEventsRequest(query=query(meter="gas")))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (pb.UsageQuery(), "customer_id"),
        (query(customer_id="anna"), "customer_id"),
        (query(external_id="x" * 129), "external_id"),
        (query(names=["x" * 128, "x" * 129]), "names[1]"),
        (query(names=[""]), "names[0]"),
        (query(names=["a\x1fb"]), "names[0]"),
        (query(names=["x"] * 201), "names"),
        (query(meter=""), "meter"),
        (pb.UsageQuery(customer_id=ANNA, meter="kwh"), "period.start_time"),
    ],
)
async def test_a_bad_query_is_refused_with_its_field(
    metering: Any, kwh: meter_pb2.Meter, asked: pb.UsageQuery, field: str
) -> None:
    """In a batch the path says which one."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await usage(metering, asked)
    assert refusal.field == f"query.{field}"
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=[query(), asked]))
    assert refusal.field == f"queries[1].{field}"


@pytest.mark.parametrize("size", [0, 1_001])
async def test_a_batch_of_queries_has_a_size(metering: Any, kwh: meter_pb2.Meter, size: int) -> None:
    """Bounded work for one call."""
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=[query()] * size))
    assert refusal.field == "queries"


async def test_events_are_listed_in_order_of_time(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Page by page, each once, also where many share an instant; as they were sent but for absent values."""
    sent = [
        event(f"e{n}", "2.5", source=f"meter-{n % 2}", time=wire.timestamp(DECEMBER.start + (n // 3) * HOUR))
        for n in range(9)
    ]
    other = [event("bob", customer="bob"), event("late", time=wire.timestamp(DECEMBER.end))]
    await metering.IngestEvents(batch(*reversed(sent), *other, event("plain", customer="anna")))
    listed: list[usage_event_pb2.UsageEvent] = []
    async for page in pages(metering, query(external_id="anna"), size=4):
        assert len(page.events) <= 4
        listed += page.events
    in_order = sorted(sent, key=lambda each: (each.time.seconds, each.source, each.id))
    plain = next(each for each in listed if each.id == "plain")
    assert plain.value.value == "1"
    assert [each for each in listed if each is not plain] == in_order


async def pages(metering: Any, asked: pb.UsageQuery, *, size: int) -> Any:  # Any: an iterator of responses
    token = ""
    for _ in range(100):
        page = await metering.ListEvents(pb.ListEventsRequest(query=asked, page_size=size, page_token=token))
        yield page
        token = page.next_page_token
        if not token:
            return
    raise AssertionError("the list does not end")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        wire.encode_page_token("a"),
        wire.encode_page_token("noon", "s", "i"),
        wire.encode_page_token("2026-01-01", "s", "i"),
    ],
)
async def test_a_forged_page_token_is_refused(metering: Any, kwh: meter_pb2.Meter, token: str) -> None:
    """It is only a place, but not any place."""
    with refused("INVALID_ARGUMENT") as refusal:
        await metering.ListEvents(pb.ListEventsRequest(query=query(), page_token=token))
    assert refusal.field == "page_token"


async def test_sellers_do_not_share_usage(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """The same source, id, customer and meter at two sellers are two events."""
    stranger = suite.stub(
        MeteringServiceStub, "metering", seller=ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START))
    )
    await stranger.CreateMeter(pb.CreateMeterRequest(code="kwh", display_name="Power", aggregation=meter_pb2.Meter.SUM))
    await metering.IngestEvents(batch(event("a", "1"), event("b", "1")))
    assert outcomes(await stranger.IngestEvents(batch(event("a", "5")))) == [ACCEPTED]
    own, others = await usage(metering), await usage(stranger)
    assert (own.quantity.value, own.through_position) == ("2", 2)
    assert (others.quantity.value, others.through_position) == ("5", 1)
    assert not (await stranger.ListEvents(pb.ListEventsRequest(query=query()))).events[1:]


async def test_usage_may_be_read_by_viewers_only_with_a_token(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter
) -> None:
    """Reading is a right of its own; nothing is open to nobody."""
    viewer = suite.stub(MeteringServiceStub, "metering", role=Role.VIEWER)
    assert (await usage(viewer)).event_count == 0
    assert (await viewer.BatchQueryUsage(pb.BatchQueryUsageRequest(queries=[query()]))).usages
    anyone = suite.raw_stub(MeteringServiceStub, "metering", token="")
    for call, request in (
        (anyone.QueryUsage, pb.QueryUsageRequest(query=query())),
        (anyone.BatchQueryUsage, pb.BatchQueryUsageRequest(queries=[query()])),
        (anyone.ListEvents, pb.ListEventsRequest(query=query())),
    ):
        with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
            await call(request)
