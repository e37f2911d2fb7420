"""What is answered to a batch is never more than its sender takes."""

from __future__ import annotations

from typing import Any

import pytest

from common import wire
from common.testing import SANDBOX_START, Suite
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.metering_service_pb2 import CreateMeterRequest, IngestEventsRequest
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventColumns, EventResult
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.events_pb2 import CustomerCreated

EVENTS = 10_000
LONG = "\N{GREEN HEART}"


@pytest.mark.parametrize(
    ("id_length", "customer_length", "kept"), [(8, 8, {"id", "message"}), (128, 8, {"message"}), (8, 128, set())]
)
async def test_the_answer_about_long_names_fits(
    suite: Suite, id_length: int, customer_length: int, kept: set[str]
) -> None:
    """Whoever cannot take the answer would send the same batch for ever."""
    await suite.start("metering")
    metering: Any = suite.stub(MeteringServiceStub, "metering")  # Any: grpc stubs are generated
    await metering.CreateMeter(CreateMeterRequest(code="kwh", display_name="Power", aggregation=Meter.SUM))
    somebody = Customer(id="cus_01h455vb4pex5vsknk084sn02q", revision=1)
    await suite.announce(CustomerCreated(customer=somebody), source="subscriptions")
    await suite.quiet()
    ids = [(f"{n:07}" + LONG * (id_length - 7)).encode() for n in range(EVENTS)]
    sent = IngestEventsRequest(
        columns=EventColumns(
            strings=["long", LONG * customer_length, "kwh"],
            ids=b"".join(ids),
            id_lengths=[len(each) for each in ids],
            sources=[0],
            customers=[1],
            meters=[2],
            times_micros=[wire.timestamp(SANDBOX_START).ToMicroseconds()],
            units=[1],
        )
    )
    answer = await metering.IngestEvents(sent)
    assert answer.unmatched_count == len(answer.results) == EVENTS
    assert [each.index for each in answer.results] == list(range(EVENTS))
    assert {(each.outcome, each.reason, each.field) for each in answer.results} == {
        (EventResult.UNMATCHED, "UNKNOWN_CUSTOMER", "customer")
    }
    for name in ("id", "message"):
        assert all(bool(getattr(each, name)) == (name in kept) for each in answer.results)
