"""Meters through the door: real PostgreSQL, real gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from common import ids
from common.caller import Role
from common.migrate import differences
from common.testing import SANDBOX_START, Suite, refused
from metering.store import metadata
from saldo.metering.v1 import events_pb2, meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

CALLS = pb.CreateMeterRequest(
    code="calls", display_name="API calls", aggregation=meter_pb2.Meter.COUNT, request_id="meter-calls"
)


@pytest.mark.own_services
async def test_migrating_from_nothing_leaves_no_difference(suite: Suite, metering: Any) -> None:
    """What the code believes about the tables is what the tables are."""
    assert await differences(suite.urls["metering"], metadata) == []


async def test_a_meter_is_created_found_and_announced(suite: Suite, metering: Any) -> None:
    """By id and by code it is the same one, and everyone hears of it once, however often it is asked for."""
    created = await metering.CreateMeter(CALLS)
    assert await metering.CreateMeter(CALLS) == created
    assert (created.code, created.aggregation, created.revision) == ("calls", meter_pb2.Meter.COUNT, 1)
    assert await metering.GetMeter(pb.GetMeterRequest(id=created.id)) == created
    assert await metering.GetMeter(pb.GetMeterRequest(code="calls")) == created
    await suite.quiet()
    assert [event.meter for event in suite.announced(events_pb2.MeterCreated)] == [created]


async def test_a_meter_of_unique_values_keeps_their_dimension(suite: Suite, metering: Any) -> None:
    """Without it nobody could say later what the quantity meant."""
    created = await metering.CreateMeter(
        pb.CreateMeterRequest(
            code="devices",
            display_name="Devices",
            aggregation=meter_pb2.Meter.UNIQUE_COUNT,
            unique_dimension="device",
        )
    )
    assert (created.aggregation, created.unique_dimension) == (meter_pb2.Meter.UNIQUE_COUNT, "device")
    assert await metering.GetMeter(pb.GetMeterRequest(code="devices")) == created
    await suite.quiet()
    assert [event.meter for event in suite.announced(events_pb2.MeterCreated)] == [created]


async def test_a_code_is_taken_once(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Usage events name the code: two meanings of it would be two bills."""
    with refused("METER_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
        await metering.CreateMeter(
            pb.CreateMeterRequest(code="kwh", display_name="Another", aggregation=meter_pb2.Meter.COUNT)
        )
    assert refusal.metadata["code"] == "kwh"
    assert await metering.GetMeter(pb.GetMeterRequest(code="kwh")) == kwh


async def test_a_request_id_stands_for_one_meter(metering: Any) -> None:
    """The same key with another content is a mistake of the caller, which it must see."""
    await metering.CreateMeter(CALLS)
    other = pb.CreateMeterRequest()
    other.CopyFrom(CALLS)
    other.code = "other"
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await metering.CreateMeter(other)


async def test_meters_are_listed_page_by_page(metering: Any) -> None:
    """Every one exactly once, oldest first."""
    codes = [f"meter-{n}" for n in range(5)]
    for code in codes:
        await metering.CreateMeter(pb.CreateMeterRequest(code=code, display_name=code, aggregation=meter_pb2.Meter.SUM))
    listed: list[str] = []
    token = ""
    for _ in range(3):
        answer = await metering.ListMeters(pb.ListMetersRequest(page_size=2, page_token=token))
        listed += [meter.code for meter in answer.meters]
        token = answer.next_page_token
    assert listed == codes
    assert token == ""


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateMeterRequest(display_name="x", aggregation=meter_pb2.Meter.SUM), "code"),
        (pb.CreateMeterRequest(code="Ä", display_name="x", aggregation=meter_pb2.Meter.SUM), "code"),
        (pb.CreateMeterRequest(code="x", aggregation=meter_pb2.Meter.SUM), "display_name"),
        (pb.CreateMeterRequest(code="x", display_name="a\x00b", aggregation=meter_pb2.Meter.SUM), "display_name"),
        (pb.CreateMeterRequest(code="x", display_name="x"), "aggregation"),
        (pb.CreateMeterRequest(code="x", display_name="x", aggregation=99), "aggregation"),  # type: ignore[arg-type] # garbage is the point
        (
            pb.CreateMeterRequest(
                code="x", display_name="x", aggregation=meter_pb2.Meter.SUM, unit_label="kilowatt-hours " * 9
            ),
            "unit_label",
        ),
        (
            pb.CreateMeterRequest(code="x", display_name="x", aggregation=meter_pb2.Meter.UNIQUE_COUNT),
            "unique_dimension",
        ),
        (
            pb.CreateMeterRequest(
                code="x", display_name="x", aggregation=meter_pb2.Meter.UNIQUE_COUNT, unique_dimension="De vice"
            ),
            "unique_dimension",
        ),
        (
            pb.CreateMeterRequest(
                code="x", display_name="x", aggregation=meter_pb2.Meter.MAX, unique_dimension="device"
            ),
            "unique_dimension",
        ),
        (
            pb.CreateMeterRequest(code="x", display_name="x", aggregation=meter_pb2.Meter.SUM, request_id="r" * 129),
            "request_id",
        ),
    ],
)
async def test_a_bad_meter_is_refused_with_its_field(
    metering: Any, request_: pb.CreateMeterRequest, field: str
) -> None:
    """Whoever sets meters up must see at once what is wrong, and nothing of it may stay."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await metering.CreateMeter(request_)
    assert refusal.field == field
    assert not (await metering.ListMeters(pb.ListMetersRequest())).meters


async def test_a_meter_is_named_by_one_key(metering: Any, kwh: meter_pb2.Meter) -> None:
    """Two keys could name two meters, and no key names none."""
    for request in (pb.GetMeterRequest(), pb.GetMeterRequest(id=kwh.id, code=kwh.code)):
        with refused("INVALID_ARGUMENT") as refusal:
            await metering.GetMeter(request)
        assert refusal.field == "id"
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await metering.GetMeter(pb.GetMeterRequest(code="gas"))
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await metering.GetMeter(pb.GetMeterRequest(id=ids.mint("meter", SANDBOX_START)))


async def test_another_seller_sees_nothing(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Not even by an id that it has learned, and the code is still free for it."""
    stranger = suite.stub(
        MeteringServiceStub, "metering", seller=ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START))
    )
    with refused("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stranger.GetMeter(pb.GetMeterRequest(id=kwh.id))
    assert not (await stranger.ListMeters(pb.ListMetersRequest())).meters
    own = await stranger.CreateMeter(
        pb.CreateMeterRequest(code="kwh", display_name="Mine", aggregation=meter_pb2.Meter.COUNT)
    )
    assert own.id != kwh.id


async def test_nothing_is_open(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Without a token nothing is answered, and who may only look cannot write."""
    anyone = suite.raw_stub(MeteringServiceStub, "metering", token="")
    viewer = suite.stub(MeteringServiceStub, "metering", role=Role.VIEWER)
    with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
        await anyone.ListMeters(pb.ListMetersRequest())
    with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
        await anyone.IngestEvents(pb.IngestEventsRequest())
    assert (await viewer.GetMeter(pb.GetMeterRequest(code="kwh"))) == kwh
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.CreateMeter(CALLS)
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.IngestEvents(pb.IngestEventsRequest())
