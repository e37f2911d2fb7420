"""A replica that does not store hands usage events on to the one that does, once, in the sender's own name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio
from google.type.decimal_pb2 import Decimal

from common import ids, wire
from common.caller import Role
from common.testing import SANDBOX_START, Suite, refused
from metering import forwarding
from metering.forwarding import FORWARDED
from metering.log import ownership
from saldo.catalog.v1.events_pb2 import FeatureCreated
from saldo.catalog.v1.product_pb2 import Feature
from saldo.metering.v1 import backfill_service_pb2 as backfills
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1 import quota_service_pb2 as quotas
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import (
    MeteringServiceServicer,
    MeteringServiceStub,
    add_MeteringServiceServicer_to_server,
)
from saldo.metering.v1.quota_pb2 import QuotaReservation
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult, FlatEvent
from saldo.subscriptions.v1.entitlement_pb2 import CustomerEntitlements
from saldo.subscriptions.v1.events_pb2 import CustomerEntitlementsChanged
from services.metering.tests.replicas import beside

pytestmark = pytest.mark.own_services

ANN: Final = "cus_01h455vb4pex5vsknk084sn02q"
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
NOBODY: Final = "127.0.0.1:9"


def request(*event_ids: str) -> pb.IngestEventsRequest:
    micros = int(SANDBOX_START.timestamp()) * 1_000_000
    return pb.IngestEventsRequest(
        flat_events=[
            FlatEvent(id=each, source="s", customer="c", meter="kwh", time_micros=micros) for each in event_ids
        ]
    )


@asynccontextmanager
async def second(suite: Suite, *, role: Role = Role.OWNER) -> AsyncIterator[Any]:  # Any: grpc stubs are generated
    """A replica that is there beside the first one, and a stub of it."""
    token = suite.keys.token(role=role, seller_id=suite.seller)
    async with beside(suite) as (_, channel):
        yield _Told(channel, token)


class _Told:
    """A stub that tells a token with every call."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub: Any = MeteringServiceStub(channel)  # Any: as above
        self._corrections: Any = CorrectionServiceStub(channel)  # Any: as above
        self._backfills: Any = BackfillServiceStub(channel)  # Any: as above
        self._quotas: Any = QuotaServiceStub(channel)  # Any: as above
        self.metadata = [("authorization", f"Bearer {token}")]

    def IngestEvents(self, request: Any, *, metadata: Any = ()) -> Any:  # Any: grpc's signature
        return self._stub.IngestEvents(request, metadata=[*self.metadata, *metadata], timeout=20)

    def VoidEvent(self, request: Any, *, metadata: Any = ()) -> Any:  # Any: as above
        return self._corrections.VoidEvent(request, metadata=[*self.metadata, *metadata], timeout=20)

    def AmendEvent(self, request: Any) -> Any:  # Any: as above
        return self._corrections.AmendEvent(request, metadata=self.metadata, timeout=20)

    def GetEvent(self, request: Any) -> Any:  # Any: as above
        return self._corrections.GetEvent(request, metadata=self.metadata, timeout=20)

    def OpenBackfill(self, request: Any) -> Any:  # Any: as above
        return self._backfills.OpenBackfill(request, metadata=self.metadata, timeout=20)

    def CloseBackfill(self, request: Any) -> Any:  # Any: as above
        return self._backfills.CloseBackfill(request, metadata=self.metadata, timeout=20)

    def RevertBackfill(self, request: Any) -> Any:  # Any: as above
        return self._backfills.RevertBackfill(request, metadata=self.metadata, timeout=20)

    def GetBackfill(self, request: Any) -> Any:  # Any: as above
        return self._backfills.GetBackfill(request, metadata=self.metadata, timeout=20)

    def CommitQuota(self, request: Any) -> Any:  # Any: as above
        return self._quotas.CommitQuota(request, metadata=self.metadata, timeout=20)

    def StreamEvents(self) -> Any:  # Any: as above
        return self._stub.StreamEvents(metadata=self.metadata, timeout=20)


@pytest_asyncio.fixture
async def other(suite: Suite, metering: Any, kwh: Any) -> AsyncIterator[Any]:  # Any: as above
    await metering.IngestEvents(request("first"))  # so that this one is the owner
    async with second(suite) as stub:
        yield stub


async def logged(suite: Suite, question: str) -> list[Any]:  # Any: one column
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        return [row[0] for row in await connection.fetch(question)]
    finally:
        await connection.close()


async def advertise(suite: Suite, address: str) -> None:
    await logged(suite, f"UPDATE shards SET address = '{address}' RETURNING address")


async def test_what_is_sent_to_either_replica_is_stored_once(suite: Suite, metering: Any, other: Any) -> None:
    """Whoever is asked answers as the owner would: what was sent to one of them is a duplicate for both."""
    told = await other.IngestEvents(request("a", "first"))
    assert [each.outcome for each in told.results] == [EventResult.ACCEPTED, EventResult.DUPLICATE]
    assert (await metering.IngestEvents(request("a"))).duplicate_count == 1
    assert await logged(suite, "SELECT event_id FROM usage_events ORDER BY position") == ["first", "a"]


async def test_a_commit_of_quota_is_handed_on_too(suite: Suite, metering: Any, kwh: Any) -> None:  # Any: as above
    """Its usage event is one like any other: stored by the owner, whichever replica was asked."""
    await metering.IngestEvents(request("first"))
    told = CustomerEntitlements(id=ANN, revision=1)
    told.entitlements.add(feature="energy").grants.add(unlimited=True)
    await suite.announce(
        FeatureCreated(feature=Feature(id="feat_1", code="energy", kind=Feature.QUOTA, meter="kwh")), source="catalog"
    )
    await suite.announce(CustomerEntitlementsChanged(customer_entitlements=told), source="subscriptions")
    await suite.quiet()
    acquired = await suite.stub(QuotaServiceStub, "metering").AcquireQuota(
        quotas.AcquireQuotaRequest(
            customer_id=ANN, feature="energy", quantity=Decimal(value="2"), time_to_live_seconds=60
        )
    )
    commit = quotas.CommitQuotaRequest(id=acquired.reservation.id)
    async with second(suite) as other:
        done = await other.CommitQuota(commit)
        assert await other.CommitQuota(commit) == done
    assert done.state == QuotaReservation.COMMITTED
    assert await logged(suite, "SELECT event_id FROM usage_events ORDER BY position") == ["first", done.id]


async def test_a_stream_is_handed_on_batch_by_batch(metering: Any, other: Any) -> None:
    """Its sender cannot tell to which replica it is connected."""
    call = other.StreamEvents()
    for n in range(40):
        await call.write(pb.StreamEventsRequest(batch=request(f"{n}", "first")))
    await call.done_writing()
    answers = [each.batch async for each in call]
    assert [answer.results[0].id for answer in answers] == [f"{n}" for n in range(40)]
    assert all((answer.accepted_count, answer.duplicate_count) == (1, 1) for answer in answers)


async def test_a_correction_is_handed_on(suite: Suite, metering: Any, other: Any) -> None:
    """Only the owner writes; what it refuses is told as it is; and everybody reads for themselves."""
    corrected = other.AmendEvent
    amended = usage_event_pb2.UsageEvent(
        id="first", source="s", customer="c", meter="kwh", time=wire.timestamp(SANDBOX_START)
    )
    amended.value.value = "5"
    history = await corrected(corrections.AmendEventRequest(event=amended, reason="wrong", request_id="r1"))
    assert [each.event.value.value for each in history.versions] == ["1", "5"]
    assert history.corrections[0].actor == "tester"
    amended.value.value = "6"
    with refused("REQUEST_ID_REUSED"):
        await corrected(corrections.AmendEventRequest(event=amended, reason="wrong", request_id="r1"))
    amended.time.seconds += 10 * 86_400
    with refused("EVENT_IN_FUTURE") as refusal:
        await corrected(corrections.AmendEventRequest(event=amended, reason="wrong"))
    assert refusal.field == "event.time"
    void = corrections.VoidEventRequest(source="s", id="first", reason="wrong")
    voided = await other.VoidEvent(void)
    assert voided.is_voided
    assert await other.GetEvent(corrections.GetEventRequest(source="s", id="first")) == voided
    with refused("USAGE_EVENT_VOIDED"):
        await corrected(
            corrections.AmendEventRequest(
                event=usage_event_pb2.UsageEvent(
                    id="first", source="s", customer="c", meter="kwh", time=wire.timestamp(SANDBOX_START)
                ),
                reason="wrong",
            )
        )
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.VoidEvent(corrections.VoidEventRequest(source="s", id="nobody's", reason="wrong"))
    with refused("INGEST_MOVING"):
        await other.VoidEvent(void, metadata=[(FORWARDED, "1")])
    assert await logged(suite, "SELECT corrects FROM usage_events ORDER BY position") == [None, 1, None, 3]


async def test_a_backfill_is_handed_on(suite: Suite, metering: Any, other: Any) -> None:
    """What is loaded, closed and reverted: only the owner knows what is new. Anybody opens one, and tells of it."""
    opened = await other.OpenBackfill(backfills.OpenBackfillRequest(reason="was offline"))
    batch = request("a", "first")
    batch.backfill_id = opened.id
    answer = await other.IngestEvents(batch)
    assert (answer.accepted_count, answer.duplicate_count) == (1, 1)
    close = backfills.CloseBackfillRequest(id=opened.id, event_count=2)
    with refused("BACKFILL_INCOMPLETE"):
        await other.CloseBackfill(close)
    close.event_count = 1
    closed = await other.CloseBackfill(close)
    assert (closed.state, closed.last_position, closed.closed_by) == (backfills.Backfill.CLOSED, 2, "tester")
    with refused("BACKFILL_NOT_OPEN"):
        await other.IngestEvents(batch)
    reverted = await other.RevertBackfill(backfills.RevertBackfillRequest(id=opened.id, reason="wrong"))
    assert await other.GetBackfill(backfills.GetBackfillRequest(id=opened.id)) == reverted
    with refused("BACKFILL_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.CloseBackfill(backfills.CloseBackfillRequest(id=ids.mint("bkf", SANDBOX_START)))
    assert (await metering.IngestEvents(request("a"))).accepted_count == 1


async def test_the_trace_of_the_sender_reaches_the_log(suite: Suite, other: Any) -> None:
    """Where an amount comes from can be followed to the call that brought the events, through both replicas."""
    await other.IngestEvents(request("a"), metadata=[("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")])
    [traceparent] = await logged(suite, "SELECT traceparent FROM ingests ORDER BY position DESC LIMIT 1")
    assert traceparent.split("-")[1] == TRACE


async def test_it_is_the_sender_who_is_judged(suite: Suite, metering: Any, kwh: Any) -> None:
    """A replica lends nobody its own rights."""
    await metering.IngestEvents(request("first"))
    async with second(suite, role=Role.VIEWER) as stub:
        with refused("ROLE_NOT_ALLOWED"):
            await stub.IngestEvents(request("a"))


async def test_a_refusal_of_the_owner_is_told_as_it_is(other: Any) -> None:
    """With its reason and its field."""
    with refused("INVALID_ARGUMENT") as refusal:
        await other.IngestEvents(pb.IngestEventsRequest())
    assert (refusal.field, refusal.message) == ("events", "must have 1 to 10000 events")


async def test_what_was_handed_on_goes_no_further(suite: Suite, other: Any) -> None:
    """Two replicas that each take the other for the owner would else pass a batch to and fro for ever."""
    with refused("INGEST_MOVING"):
        await asyncio.wait_for(other.IngestEvents(request("a"), metadata=[(FORWARDED, "1")]), timeout=2)
    assert await logged(suite, "SELECT event_id FROM usage_events") == ["first"]


async def test_what_is_handed_on_is_marked_and_in_the_name_of_its_sender(suite: Suite, other: Any) -> None:
    """Seen from where the database says that the owner is."""
    owner = _Owner()  # type: ignore[abstract] # nobody asks it anything else
    server = grpc.aio.server()
    add_MeteringServiceServicer_to_server(owner, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        await advertise(suite, f"127.0.0.1:{port}")
        await asyncio.sleep(2 * forwarding.ADDRESS_SECONDS)
        assert (await other.IngestEvents(request("a"))).accepted_count == 77
    finally:
        await server.stop(0)
    assert owner.told[FORWARDED]
    assert owner.told["authorization"] == dict(other.metadata)["authorization"]


class _Owner(MeteringServiceServicer):
    """Answers what no real one would, and remembers how it was asked."""

    async def IngestEvents(self, request: Any, context: Any) -> pb.IngestEventsResponse:  # Any: grpc's signature
        self.told = dict(context.invocation_metadata())
        return pb.IngestEventsResponse(accepted_count=77)


async def test_an_owner_that_cannot_be_reached(suite: Suite, other: Any) -> None:
    """It may be alive and storing for others: nobody may store in its place, so the sender is told to try again."""
    await advertise(suite, NOBODY)
    await asyncio.sleep(2 * forwarding.ADDRESS_SECONDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forwarding, "OWNER_SECONDS_MAX", 0.3)
        with refused("INGEST_MOVING", grpc.StatusCode.UNAVAILABLE):
            await other.IngestEvents(request("a"))


async def test_who_waits_when_the_owner_goes_is_answered_by_the_next(suite: Suite, other: Any) -> None:
    """The address of one that is gone is tried in vain until this replica is the owner itself."""
    await suite.stop("metering")
    await advertise(suite, NOBODY)
    assert (await other.IngestEvents(request("a", "first"))).duplicate_count == 1
    assert await logged(suite, "SELECT event_id FROM usage_events ORDER BY position") == ["first", "a"]


async def test_too_much_for_the_owner_is_refused_early(other: Any) -> None:
    """What waits for another replica takes memory here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forwarding, "WAITING_BYTES_MAX", 10)
        with refused("INGEST_OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED):
            await other.IngestEvents(request("a"))


async def test_an_owner_without_power_is_missed_within_seconds(suite: Suite, metering: Any) -> None:
    """Its connection ends with no word; by default the database would wait two hours before it asks."""
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await ownership.be_missed(connection)
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        idle, interval, count = [int(await connection.fetchval(f"SHOW {name}")) for name in names]
        assert idle + interval * count <= ownership.MISSED_SECONDS
        assert int(await connection.fetchval("SHOW tcp_user_timeout")) == ownership.MISSED_SECONDS * 1_000
    finally:
        await connection.close()
