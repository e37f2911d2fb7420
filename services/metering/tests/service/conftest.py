"""A running metering service, and what most of its tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from common.testing import Suite
from metering.log import sums
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub


@pytest_asyncio.fixture
async def metering(suite: Suite) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    await suite.start("metering")
    yield suite.stub(MeteringServiceStub, "metering")


@pytest.fixture
def sum_open(suite: Suite) -> Callable[[], Awaitable[int]]:
    """What is done every so often while little comes; how much of the open leaves is not in the sums of days then."""

    async def sum_open() -> int:
        async with suite.running["metering"].database.session() as connection:
            rows = await connection.fetch("SELECT leaf FROM usage_leaves WHERE state = 'OPEN'")
            return sum([await sums.sum_open(connection, row["leaf"], at_least=0) for row in rows])

    return sum_open


@pytest.fixture
def counting(request: pytest.FixtureRequest) -> dict[str, object]:
    """The settings by which one of the stores counts: what holds for one holds for the other."""
    if request.param == "postgresql":
        return {}
    return {
        "usage_store": request.param,
        "clickhouse_url": request.getfixturevalue("clickhouse_url"),
        "clickhouse_pause_seconds": 0.01,
        "clickhouse_wait_seconds": 20,
    }


@pytest_asyncio.fixture
async def kwh(metering: Any) -> meter_pb2.Meter:  # Any: as above
    meter: meter_pb2.Meter = await metering.CreateMeter(
        pb.CreateMeterRequest(code="kwh", display_name="Electricity", aggregation=meter_pb2.Meter.SUM, unit_label="kWh")
    )
    return meter


@pytest_asyncio.fixture
async def thresholds(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> AsyncIterator[Any]:  # Any: generated stubs
    yield suite.stub(UsageThresholdServiceStub, "metering")


@pytest_asyncio.fixture
async def fixing(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> AsyncIterator[Any]:  # Any: stubs are generated
    yield suite.stub(CorrectionServiceStub, "metering")
