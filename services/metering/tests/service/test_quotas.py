"""Quotas through the door: what customers may use is checked, set aside, used up once, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from metering import committing
from metering.domain.reservation import KEPT
from metering.domain.usage_event import QUOTA_SOURCE
from saldo.catalog.v1 import events_pb2 as catalog
from saldo.catalog.v1.product_pb2 import Feature
from saldo.metering.v1 import backfill_service_pb2 as backfills_pb
from saldo.metering.v1 import corrections_service_pb2 as corrections_pb
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import meter_pb2, quota_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import quota_service_pb2 as pb
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult, UsageEvent
from saldo.subscriptions.v1 import events_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import BillingProfile, Customer, CustomerName
from saldo.subscriptions.v1.entitlement_pb2 import (
    CustomerEntitlements,
    Entitlement,
    EntitlementGrant,
    ResetInterval,
)

ANN: Final = "cus_01h455vb4pex5vsknk084sn02q"
BOB: Final = "cus_01h455vb4pex5vsknk084sn02r"
NOBODY: Final = "cus_01h455vb4pex5vsknk084sn02s"
MICROSECOND: Final = timedelta(microseconds=1)
FEBRUARY: Final = datetime(2026, 2, 1, tzinfo=UTC)
State = quota_pb2.QuotaReservation.State


def decimal(value: object) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=str(value))


def quota(
    granted: object,
    unit: ResetInterval.CalendarUnit.ValueType = ResetInterval.MONTH,
    count: int = 1,
) -> EntitlementGrant:
    return EntitlementGrant(quota=decimal(granted), reset_interval=ResetInterval(unit=unit, count=count))


async def grant(suite: Suite, customer_id: str, *, revision: int = 1, **grants: list[EntitlementGrant]) -> None:
    """As subscriptions announces what a customer is entitled to."""
    told = [Entitlement(feature=feature, grants=granted) for feature, granted in grants.items()]
    entitlements = CustomerEntitlements(id=customer_id, revision=revision, entitlements=told)
    await suite.announce(
        subscriptions.CustomerEntitlementsChanged(customer_entitlements=entitlements), source="subscriptions"
    )
    await suite.quiet()


async def feature(suite: Suite, code: str, kind: Feature.Kind.ValueType = Feature.QUOTA, *, meter: str = "") -> None:
    """As the catalog announces it."""
    told = Feature(id=ids.mint("feat", SANDBOX_START), code=code, kind=kind, meter=meter)
    await suite.announce(catalog.FeatureCreated(feature=told), source="catalog")
    await suite.quiet()


async def hear(suite: Suite, customer_id: str, *names: str, time_zone: str = "UTC", revision: int = 1) -> None:
    customer = Customer(
        id=customer_id,
        revision=revision,
        names=[CustomerName(key=each) for each in names],
        billing_profile=BillingProfile(time_zone=time_zone),
    )
    await suite.announce(subscriptions.CustomerUpdated(customer=customer), source="subscriptions")
    await suite.quiet()


async def use(
    suite: Suite, event_id: str, value: object, *, customer: str = ANN, at: datetime = SANDBOX_START, meter: str = "kwh"
) -> None:
    """Usage that was never reserved."""
    metering = suite.stub(MeteringServiceStub, "metering")
    event = UsageEvent(
        id=event_id, source="s", customer=customer, meter=meter, time=wire.timestamp(at), value=decimal(value)
    )
    answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=[event]))
    assert answer.rejected_count == 0, answer


async def usage(suite: Suite, customer_id: str = ANN, meter: str = "kwh") -> str:
    metering = suite.stub(MeteringServiceStub, "metering")
    ever = Period(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    query = metering_pb.UsageQuery(customer_id=customer_id, meter=meter, period=wire.interval(ever))
    found = await metering.QueryUsage(metering_pb.QueryUsageRequest(query=query))
    return str(found.quantity.value)


async def stored(suite: Suite) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        found: list[asyncpg.Record] = await connection.fetch(
            "SELECT source, event_id, customer, time, value, dimensions FROM usage_events ORDER BY position"
        )
        return found
    finally:
        await connection.close()


class Door:
    """The questions and commands of these tests, in few words."""

    def __init__(self, stub: Any) -> None:  # Any: grpc stubs are generated
        self.stub = stub

    async def check(
        self, quantity: object | None = None, *, customer_id: str = ANN, feature: str = "energy"
    ) -> pb.CheckEntitlementResponse:
        request = pb.CheckEntitlementRequest(
            customer_id=customer_id, feature=feature, quantity=None if quantity is None else decimal(quantity)
        )
        answer: pb.CheckEntitlementResponse = await self.stub.CheckEntitlement(request)
        return answer

    async def acquire(
        self,
        quantity: object = 1,
        *,
        customer_id: str = ANN,
        feature: str = "energy",
        seconds: int = 60,
        request_id: str = "",
    ) -> pb.AcquireQuotaResponse:
        request = pb.AcquireQuotaRequest(
            customer_id=customer_id,
            feature=feature,
            quantity=decimal(quantity),
            time_to_live_seconds=seconds,
            request_id=request_id,
        )
        answer: pb.AcquireQuotaResponse = await self.stub.AcquireQuota(request)
        return answer

    async def commit(
        self, reservation_id: str, quantity: object | None = None, *, request_id: str = "", **dimensions: str
    ) -> quota_pb2.QuotaReservation:
        request = pb.CommitQuotaRequest(
            id=reservation_id,
            quantity=None if quantity is None else decimal(quantity),
            dimensions=dimensions,
            request_id=request_id,
        )
        answer: quota_pb2.QuotaReservation = await self.stub.CommitQuota(request)
        return answer

    async def release(self, reservation_id: str, *, request_id: str = "") -> quota_pb2.QuotaReservation:
        request = pb.ReleaseQuotaRequest(id=reservation_id, request_id=request_id)
        answer: quota_pb2.QuotaReservation = await self.stub.ReleaseQuota(request)
        return answer

    async def get(self, reservation_id: str) -> quota_pb2.QuotaReservation:
        answer: quota_pb2.QuotaReservation = await self.stub.GetQuotaReservation(
            pb.GetQuotaReservationRequest(id=reservation_id)
        )
        return answer


def figures(answer: pb.CheckEntitlementResponse) -> tuple[str, str, str, str]:
    """Granted, used, reserved, remaining."""
    return answer.granted.value, answer.used.value, answer.reserved.value, answer.remaining.value


@pytest_asyncio.fixture
async def door(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> AsyncIterator[Door]:  # Any: stubs are generated
    await feature(suite, "energy", meter="kwh")
    yield Door(suite.stub(QuotaServiceStub, "metering"))


async def test_a_quota_is_what_is_left_of_it(suite: Suite, door: Door) -> None:
    """Used by whoever reported it and by whatever name, and reserved; and it says when it begins anew."""
    await grant(suite, ANN, energy=[quota(100)])
    await hear(suite, ANN, "ann", BOB)
    await use(suite, "1", 10)
    await use(suite, "2", "5.5", customer="ann")
    await use(suite, "3", 2, customer=BOB)
    await use(suite, "4", 1_000, at=SANDBOX_START - MICROSECOND)
    await door.acquire(20)
    answer = await door.check("62.5")
    assert (answer.has_access, answer.reason, answer.kind) == (True, "", pb.CheckEntitlementResponse.QUOTA)
    assert figures(answer) == ("100", "17.5", "20", "62.5")
    assert answer.reset_time.ToDatetime(UTC) == FEBRUARY
    [period] = answer.periods
    assert period.period == wire.interval(Period(SANDBOX_START, FEBRUARY))
    more = await door.check("62.6")
    assert (more.has_access, more.reason, more.remaining.value) == (False, "QUOTA_EXCEEDED", "62.5")


async def test_switches_and_limits_are_checked_too(suite: Suite, door: Door) -> None:
    """One question for everything that a plan entitles to."""
    on, off = EntitlementGrant(enabled=True), EntitlementGrant(enabled=False)
    five, any_number = EntitlementGrant(limit=decimal(5)), EntitlementGrant(unlimited=True)
    await grant(suite, ANN, sso=[on], audit=[off], seats=[five], projects=[any_number])
    await feature(suite, "projects", Feature.LIMIT)
    expected = {
        ("sso", None): (True, "", pb.CheckEntitlementResponse.SWITCH),
        ("audit", None): (False, "NOT_ENTITLED", pb.CheckEntitlementResponse.SWITCH),
        ("seats", None): (True, "", pb.CheckEntitlementResponse.LIMIT),
        ("seats", 5): (True, "", pb.CheckEntitlementResponse.LIMIT),
        ("seats", 6): (False, "LIMIT_EXCEEDED", pb.CheckEntitlementResponse.LIMIT),
        ("projects", 10**9): (True, "", pb.CheckEntitlementResponse.LIMIT),
        ("nothing", None): (False, "NOT_ENTITLED", pb.CheckEntitlementResponse.KIND_UNSPECIFIED),
    }
    for (code, quantity), told in expected.items():
        answer = await door.check(quantity, feature=code)
        assert (answer.has_access, answer.reason, answer.kind) == told, code
    assert (await door.check(feature="seats")).granted.value == "5"
    assert (await door.check(feature="projects")).unlimited
    with refused("INVALID_ARGUMENT") as refusal:
        await door.check(1, feature="sso")
    assert refusal.field == "quantity"
    for code in ("sso", "seats", "projects"):
        with refused("FEATURE_NOT_QUOTA", grpc.StatusCode.FAILED_PRECONDITION):
            await door.acquire(feature=code)


async def test_what_was_not_heard_of_is_not_granted(suite: Suite, door: Door) -> None:
    """A customer, a feature or a meter that is yet to come is no error of a check; nothing is reserved of it."""
    await grant(suite, ANN, unheard=[quota(1)], unmetered=[quota(1)])
    await feature(suite, "unmetered", meter="no_such_meter")
    expected = {
        (NOBODY, "energy"): ("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        (ANN, "energy"): ("NOT_ENTITLED", grpc.StatusCode.FAILED_PRECONDITION),
        (ANN, "unheard"): ("FEATURE_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        (ANN, "unmetered"): ("METER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    }
    for (customer_id, code), (reason, status) in expected.items():
        answer = await door.check(customer_id=customer_id, feature=code)
        assert (answer.has_access, answer.reason) == (False, reason)
        with refused(reason, status):
            await door.acquire(customer_id=customer_id, feature=code)


async def test_an_older_announcement_changes_nothing(suite: Suite, door: Door) -> None:
    """Announcements may come again and out of order; the newest is all there is, so what it leaves out is gone."""
    await grant(suite, ANN, revision=2, energy=[quota(5)])
    await grant(suite, ANN, revision=1, energy=[quota(500)], other=[quota(1)])
    assert (await door.check()).granted.value == "5"
    assert not (await door.check(feature="other")).has_access
    await grant(suite, ANN, revision=3)
    assert (await door.check()).reason == "NOT_ENTITLED"


async def test_together_nobody_acquires_more_than_there_is(suite: Suite, door: Door) -> None:
    """Forty at once for a quota of twenty-five: twenty-five have it, and fifteen are told."""
    await grant(suite, ANN, energy=[quota(25)])

    async def attempt() -> str:
        try:
            await door.acquire()
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "acquired"

    outcomes = await asyncio.gather(*(attempt() for _ in range(40)))
    assert (outcomes.count("acquired"), outcomes.count("FAILED_PRECONDITION")) == (25, 15)
    assert figures(await door.check()) == ("25", "0", "25", "0")


async def test_commits_and_others_between_give_nothing_away(suite: Suite, door: Door) -> None:
    """While some commit what they have, others acquire: at no moment is what is used neither used nor reserved."""
    await grant(suite, ANN, energy=[quota(12)])

    async def work(n: int) -> int:
        done = 0
        for _ in range(3):
            try:
                acquired = await door.acquire()
            except grpc.aio.AioRpcError:
                continue
            if n % 3:
                await door.commit(acquired.reservation.id)
                done += 1
            else:
                await door.release(acquired.reservation.id)
        return done

    done = sum(await asyncio.gather(*(work(n) for n in range(9))))
    assert done <= 12
    assert await usage(suite) == str(done)
    assert figures(await door.check()) == ("12", str(done), "0", str(12 - done))


@pytest.mark.own_services
async def test_a_commit_is_usage_like_any_other(suite: Suite, door: Door) -> None:
    """One usage event, of the reservation's id, at the time of the commit; what was not used is free again."""
    await grant(suite, ANN, energy=[quota(10)])
    reservation = (await door.acquire(8)).reservation
    await suite.travel(SANDBOX_START + timedelta(seconds=30))
    done = await door.commit(reservation.id, "2.5", region="eu")
    assert (done.state, done.committed_quantity.value, dict(done.dimensions)) == (
        State.COMMITTED,
        "2.5",
        {"region": "eu"},
    )
    [event] = await stored(suite)
    assert (event["source"], event["event_id"], event["customer"]) == (QUOTA_SOURCE, reservation.id, ANN)
    assert (event["time"], str(event["value"])) == (SANDBOX_START + timedelta(seconds=30), "2.5")
    assert figures(await door.check()) == ("10", "2.5", "0", "7.5")


async def test_every_command_is_carried_out_once(suite: Suite, door: Door) -> None:
    """Whoever lost the answer gets it again, and nothing is acquired, used or given back a second time."""
    await grant(suite, ANN, energy=[quota(10)])
    first = await door.acquire(4, request_id="a")
    assert await door.acquire(4, request_id="a") == first
    assert (first.remaining.value, first.reset_time.ToDatetime(UTC)) == ("6", FEBRUARY)
    other = await door.acquire(3, request_id="b")
    done = await door.commit(first.reservation.id, request_id="c")
    assert await door.commit(first.reservation.id, request_id="c") == done
    assert await door.commit(first.reservation.id, request_id="d") == done
    with refused("REQUEST_ID_REUSED"):
        await door.commit(other.reservation.id, request_id="c")
    with refused("QUOTA_RESERVATION_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await door.commit(first.reservation.id, 1)
    released = await door.release(other.reservation.id, request_id="e")
    assert await door.release(other.reservation.id, request_id="e") == released
    assert await door.release(other.reservation.id) == released
    with refused("QUOTA_RESERVATION_ENDED"):
        await door.release(first.reservation.id)
    with refused("QUOTA_RESERVATION_ENDED"):
        await door.commit(other.reservation.id)
    assert await usage(suite) == "4"
    assert figures(await door.check()) == ("10", "4", "0", "6")


async def test_a_reservation_expires_by_itself(suite: Suite, door: Door) -> None:
    """To the microsecond, told once; those that were committed or released are not told of."""
    await grant(suite, ANN, energy=[quota(10)])
    lost = (await door.acquire(4, seconds=60)).reservation
    await door.commit((await door.acquire(1)).reservation.id)
    await door.release((await door.acquire(1)).reservation.id)
    assert (await door.check()).remaining.value == "5"
    await suite.travel(SANDBOX_START + timedelta(seconds=60) - MICROSECOND)
    assert (await door.get(lost.id)).state == State.OPEN
    await suite.travel(SANDBOX_START + timedelta(seconds=60))
    await suite.quiet()
    expired = await door.get(lost.id)
    assert (expired.state, expired.end_time) == (State.EXPIRED, lost.expire_time)
    assert [each.reservation for each in suite.announced(events.QuotaReservationExpired)] == [expired]
    with refused("QUOTA_RESERVATION_EXPIRED", grpc.StatusCode.FAILED_PRECONDITION):
        await door.commit(lost.id)
    assert await door.release(lost.id) == expired
    assert figures(await door.check()) == ("10", "1", "0", "9")


async def test_what_expired_is_free_before_anybody_wrote_it_down(
    suite: Suite, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may be late; time is not."""
    await grant(suite, ANN, energy=[quota(5)])
    lost = (await door.acquire(5, seconds=1)).reservation
    await suite.stop("metering")
    monkeypatch.setattr("metering.main.jobs", lambda *_, **__: ())
    await suite.start("metering")
    again = Door(suite.stub(QuotaServiceStub, "metering"))
    await suite.travel(SANDBOX_START + timedelta(seconds=1))
    assert (await again.get(lost.id)).state == State.EXPIRED
    assert (await again.check()).remaining.value == "5"
    assert not (await again.stub.ListQuotaReservations(pb.ListQuotaReservationsRequest(under_way=True))).reservations
    await again.acquire(5)
    with refused("QUOTA_RESERVATION_EXPIRED"):
        await again.commit(lost.id)


@pytest.mark.parametrize(
    ("time_zone", "boundary"),
    [("UTC", FEBRUARY), ("Asia/Tokyo", datetime(2026, 2, 1, tzinfo=ZoneInfo("Asia/Tokyo")).astimezone(UTC))],
)
async def test_a_quota_begins_anew_at_the_customers_midnight(
    suite: Suite, door: Door, time_zone: str, boundary: datetime
) -> None:
    """Not a microsecond before; what is reserved then is still to be used, and counts in the new month."""
    await grant(suite, ANN, energy=[quota(10)])
    await hear(suite, ANN, time_zone=time_zone)
    await suite.travel(boundary - timedelta(hours=1))
    await use(suite, "1", 7, at=boundary - MICROSECOND - timedelta(hours=1))
    held = (await door.acquire(2, seconds=7_200)).reservation
    await suite.travel(boundary - MICROSECOND)
    assert figures(await door.check()) == ("10", "7", "2", "1")
    with refused("QUOTA_EXCEEDED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await door.acquire(2)
    assert refusal.metadata == {"feature": "energy", "remaining": "1", "reset_time": boundary.isoformat()}
    await suite.travel(boundary)
    assert figures(await door.check()) == ("10", "0", "2", "8")
    await door.commit(held.id)
    assert figures(await door.check()) == ("10", "2", "0", "8")


async def test_quotas_of_different_intervals_are_each_for_itself(suite: Suite, door: Door) -> None:
    """What any of them leaves may be used, and all use counts in each."""
    await grant(suite, ANN, energy=[quota(5, ResetInterval.DAY), quota(12)])
    for expected in ("11", "1"):
        await door.commit((await door.acquire(1 if expected == "11" else 10)).reservation.id)
        assert (await door.check()).remaining.value == expected
    with refused("QUOTA_EXCEEDED"):
        await door.acquire(2)
    await door.commit((await door.acquire(1)).reservation.id)
    assert not (await door.check()).has_access
    await suite.travel(SANDBOX_START + timedelta(days=1))
    answer = await door.check()
    assert [each.remaining.value for each in answer.periods] == ["5", "0"]
    assert figures(answer) == ("5", "0", "0", "5")
    assert answer.reset_time.ToDatetime(UTC) == SANDBOX_START + timedelta(days=2)


async def test_features_of_one_meter_share_what_is_reserved(suite: Suite, door: Door) -> None:
    """What one of them sets aside will be use of the meter, and so of the other."""
    await feature(suite, "green", meter="kwh")
    await grant(suite, ANN, energy=[quota(10)], green=[quota(6)])
    await door.acquire(5)
    assert figures(await door.check(feature="green")) == ("6", "0", "5", "1")
    with refused("QUOTA_EXCEEDED"):
        await door.acquire(2, feature="green")


async def test_what_a_merged_customer_reserved_counts_for_the_other(suite: Suite, door: Door) -> None:
    """As its usage does, from when metering has heard of the merge."""
    await grant(suite, BOB, energy=[quota(10)])
    held = (await door.acquire(4, customer_id=BOB)).reservation
    await grant(suite, BOB, revision=2)
    await grant(suite, ANN, energy=[quota(10)])
    await hear(suite, ANN, BOB)
    assert figures(await door.check()) == ("10", "0", "4", "6")
    await door.commit(held.id, 3)
    assert figures(await door.check()) == ("10", "3", "0", "7")
    assert (await door.check(customer_id=BOB)).reason == "NOT_ENTITLED"


async def test_the_unlimited_is_reserved_and_used_too(suite: Suite, door: Door) -> None:
    """Whoever asks need not know who has how much."""
    await grant(suite, ANN, energy=[EntitlementGrant(unlimited=True)])
    acquired = await door.acquire("1000000")
    assert (acquired.unlimited, acquired.HasField("remaining")) == (True, False)
    answer = await door.check(10**20)
    assert (answer.has_access, answer.unlimited, answer.reserved.value) == (True, True, "1000000")
    await door.commit(acquired.reservation.id)
    assert await usage(suite) == "1000000"


async def test_more_used_than_granted_leaves_nothing(suite: Suite, door: Door) -> None:
    """Nobody is stopped from reporting what was used; what is left is never negative."""
    await grant(suite, ANN, energy=[quota(3)])
    await use(suite, "1", 5)
    answer = await door.check()
    assert (answer.has_access, figures(answer)) == (False, ("3", "5", "0", "0"))
    await use(suite, "2", -4)
    assert (await door.check()).remaining.value == "2"


async def test_only_what_counts_for_its_value_is_reserved(suite: Suite, metering: Any, door: Door) -> None:
    """Of the largest value, say, nothing can be set aside; one of a count can. All of them can be checked."""
    for code, aggregation in (("peak", meter_pb2.Meter.MAX), ("calls", meter_pb2.Meter.COUNT)):
        await metering.CreateMeter(
            metering_pb.CreateMeterRequest(code=code, display_name=code, aggregation=aggregation)
        )
        await feature(suite, code, meter=code)
    await grant(suite, ANN, peak=[quota(10)], calls=[quota(10)])
    await use(suite, "1", 4, meter="peak")
    assert (await door.check(feature="peak")).remaining.value == "6"
    with refused("QUOTA_NOT_RESERVABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await door.acquire(feature="peak")
    with refused("QUOTA_NOT_RESERVABLE"):
        await door.acquire(2, feature="calls")
    await door.commit((await door.acquire(feature="calls")).reservation.id)
    assert (await door.check(feature="calls")).used.value == "1"


async def test_no_more_are_under_way_than_can_be_summed(
    suite: Suite, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who never commits is stopped before it is slow for everybody."""
    monkeypatch.setattr("metering.domain.reservation.UNDER_WAY_MAX", 2)
    await grant(suite, ANN, energy=[EntitlementGrant(unlimited=True)])
    first, _ = await door.acquire(), await door.acquire()
    with refused("TOO_MANY_QUOTA_RESERVATIONS", grpc.StatusCode.FAILED_PRECONDITION):
        await door.acquire()
    await door.release(first.reservation.id)
    await door.acquire()


@pytest.mark.own_services
@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_commit_that_was_broken_off_is_finished(
    suite: Suite, door: Door, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """By itself half a minute later, or by a repeat; until then it counts, and longer than it was reserved for."""
    await grant(suite, ANN, energy=[quota(10)])
    held = [(await door.acquire(4, seconds=5)).reservation.id for _ in range(2)]

    class Dead(Exception):
        pass

    def die(name: str) -> None:
        if name == (committing.BEGUN if point == "before" else committing.STORED):
            raise Dead

    with monkeypatch.context() as patch:
        patch.setattr(committing, "crashpoint", die)
        for each in held:
            with pytest.raises(grpc.aio.AioRpcError):
                await door.commit(each, request_id=f"commit {each}")
    assert (await door.get(held[0])).state == State.COMMITTING
    with refused("QUOTA_RESERVATION_ENDED"):
        await door.release(held[0])
    await suite.travel(SANDBOX_START + timedelta(seconds=29))
    # Counted at least once: by the reservation, and by the usage event if that is there.
    assert (await door.check(3)).reason == "QUOTA_EXCEEDED"
    repeated = await door.commit(held[0], request_id=f"commit {held[0]}")
    assert (repeated.state, repeated.commit_time.ToDatetime(UTC)) == (State.COMMITTED, SANDBOX_START)
    await suite.travel(SANDBOX_START + timedelta(seconds=30))
    assert (await door.get(held[1])).state == State.COMMITTED
    assert [event["event_id"] for event in await stored(suite)] == held
    assert figures(await door.check()) == ("10", "8", "0", "2")


async def test_reservations_are_listed(suite: Suite, door: Door) -> None:
    """Oldest first, in pages; by customer, and those that set something aside."""
    await grant(suite, ANN, energy=[quota(10)])
    await grant(suite, BOB, energy=[quota(10)])
    made = [(await door.acquire(customer_id=each)).reservation.id for each in (ANN, BOB, ANN)]
    await door.release(made[0])

    async def listed(**filters: Any) -> list[str]:  # Any: fields of the request
        found: list[str] = []
        token = ""
        for _ in range(10):
            page = await door.stub.ListQuotaReservations(
                pb.ListQuotaReservationsRequest(page_size=1, page_token=token, **filters)
            )
            found += [each.id for each in page.reservations]
            token = page.next_page_token
            if not token:
                return found
        raise AssertionError("the list has no end")

    assert await listed() == made
    assert await listed(customer_id=ANN) == [made[0], made[2]]
    assert await listed(under_way=True) == made[1:]
    other = suite.stub(QuotaServiceStub, "metering", seller=ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START)))
    assert not (await other.ListQuotaReservations(pb.ListQuotaReservationsRequest())).reservations
    with refused("QUOTA_RESERVATION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.GetQuotaReservation(pb.GetQuotaReservationRequest(id=made[1]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer_id": "ann"}, "customer_id"),
        ({"feature": ""}, "feature"),
        ({"quantity": decimal(0)}, "quantity"),
        ({"quantity": decimal(-1)}, "quantity"),
        ({"quantity": decimal("0.0000000000001")}, "quantity"),
        ({"quantity": decimal(10**26)}, "quantity"),
        ({"quantity": decimal("NaN")}, "quantity"),
        ({"time_to_live_seconds": 0}, "time_to_live_seconds"),
        ({"time_to_live_seconds": 86_401}, "time_to_live_seconds"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    suite: Suite, door: Door, changes: dict[str, Any], field: str
) -> None:  # Any: fields of the request
    """Whatever the customer has."""
    fields: dict[str, Any] = {"customer_id": ANN, "feature": "energy", "quantity": decimal(1)}  # Any: as above
    fields["time_to_live_seconds"] = 60
    with refused("INVALID_ARGUMENT") as refusal:
        await door.stub.AcquireQuota(pb.AcquireQuotaRequest(**(fields | changes)))
    assert refusal.field == field


async def test_a_commit_that_could_not_be_stored_is_refused_first(suite: Suite, door: Door) -> None:
    """Otherwise it would be tried for ever."""
    await grant(suite, ANN, energy=[quota(10)])
    held = (await door.acquire(2)).reservation.id
    for quantity, dimensions, field in ((3, {}, "quantity"), (0, {}, "quantity"), (1, {"Ü": "x"}, "dimensions")):
        with refused("INVALID_ARGUMENT") as refusal:
            await door.commit(held, quantity, **dimensions)
        assert refusal.field == field
    assert (await door.get(held)).state == State.OPEN


async def test_nobody_else_sends_what_a_commit_stores(suite: Suite, metering: Any, door: Door) -> None:
    """Otherwise a reservation could be used up that was never committed; what is stored is corrected like all usage."""
    await grant(suite, ANN, energy=[quota(10)])
    held = (await door.acquire(4)).reservation
    forged = UsageEvent(
        id=held.id, source=QUOTA_SOURCE, customer=ANN, meter="kwh", time=held.create_time, value=decimal(1)
    )
    backfills = suite.stub(BackfillServiceStub, "metering")
    opened = await backfills.OpenBackfill(backfills_pb.OpenBackfillRequest(reason="forged"))
    for backfill_id in ("", opened.id):
        for _ in range(2):
            answer = await metering.IngestEvents(
                metering_pb.IngestEventsRequest(events=[forged], backfill_id=backfill_id)
            )
            [told] = answer.results
            assert (told.outcome, told.reason, told.field) == (EventResult.REJECTED, "SOURCE_RESERVED", "source")
    corrections = suite.stub(CorrectionServiceStub, "metering")
    amendment = corrections_pb.AmendEventRequest(event=forged, reason="less was used")
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await corrections.AmendEvent(amendment)
    await door.commit(held.id)
    # What is stored is still nobody's to send.
    answer = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=[forged]))
    assert answer.results[0].reason == "SOURCE_RESERVED"
    await corrections.AmendEvent(amendment)
    assert figures(await door.check()) == ("10", "1", "0", "9")
    assert (await door.get(held.id)).committed_quantity.value == "4"


async def test_commits_wait_for_nobody_who_acquires(suite: Suite, door: Door) -> None:
    """Only those who acquire for one customer and meter take turns; what is committed or released is free for them."""
    await grant(suite, ANN, energy=[quota(10)])
    held = [(await door.acquire(4)).reservation.id for _ in range(2)]
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        async with connection.transaction():
            await connection.execute("SELECT FROM quota_turns FOR UPDATE")
            waiting = asyncio.create_task(door.acquire(6))
            async with asyncio.timeout(10):
                assert (await door.commit(held[0], 1)).state == State.COMMITTED
                assert (await door.release(held[1])).state == State.RELEASED
            assert not waiting.done()
    finally:
        await connection.close()
    assert (await waiting).remaining.value == "3"


async def test_what_others_were_given_is_not_committed_by_a_clock_that_is_behind(suite: Suite, door: Door) -> None:
    """Of two replicas the one whose clock is ahead has found it expired: that is written down, and told, at once."""
    await grant(suite, ANN, energy=[quota(5)])
    lost = (await door.acquire(5, seconds=60)).reservation
    connection = await asyncpg.connect(suite.urls["metering"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        await connection.execute("UPDATE quota_turns SET time = time + interval '60 seconds'")
        given = (await door.acquire(5)).reservation
        # As if nobody knew of the clock that was ahead.
        await connection.execute("UPDATE quota_turns SET time = time - interval '60 seconds'")
    finally:
        await connection.close()
    assert (await door.get(lost.id)).state == State.EXPIRED
    with refused("QUOTA_RESERVATION_EXPIRED"):
        await door.commit(lost.id)
    await door.commit(given.id)
    assert await usage(suite) == "5"
    await suite.quiet()
    assert [each.reservation.id for each in suite.announced(events.QuotaReservationExpired)] == [lost.id]


async def test_what_is_settled_is_forgotten_in_time(suite: Suite, door: Door) -> None:
    """To the microsecond 35 days after it ended; what is under way is not, and the usage stays."""
    await grant(suite, ANN, energy=[quota(10, ResetInterval.YEAR)])
    expired, released, committed = [(await door.acquire(1, seconds=60)).reservation.id for _ in range(3)]
    await door.release(released)
    await door.commit(committed, request_id="c")
    await suite.travel(SANDBOX_START + KEPT - MICROSECOND)
    assert (await door.commit(committed, request_id="c")).state == State.COMMITTED
    assert (await door.release(released)).state == State.RELEASED
    held = (await door.acquire(1, seconds=600)).reservation.id
    await suite.travel(SANDBOX_START + KEPT)
    for each in (released, committed):
        with refused("QUOTA_RESERVATION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await door.get(each)
    assert (await door.get(expired)).state == State.EXPIRED
    await suite.travel(SANDBOX_START + timedelta(seconds=60) + KEPT)
    with refused("QUOTA_RESERVATION_NOT_FOUND"):
        await door.get(expired)
    assert (await door.get(held)).state == State.OPEN
    assert figures(await door.check()) == ("10", "1", "1", "8")


async def test_answers_say_by_which_version_was_counted(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter, door: Door
) -> None:
    """A quota's period is counted by the version in effect when it begins, whatever has come since."""
    await grant(suite, ANN, energy=[quota(10)])
    await suite.travel(SANDBOX_START + timedelta(days=1))
    await metering.UpdateMeter(metering_pb.UpdateMeterRequest(id=kwh.id, accepts_days=90))
    january = await door.check()
    assert (january.meter_version, [each.meter_version for each in january.periods]) == (1, [1])
    assert (await door.acquire()).meter_version == 1
    await suite.travel(FEBRUARY)
    february = await door.check()
    assert (february.meter_version, [each.meter_version for each in february.periods]) == (2, [2])
    assert (await door.acquire()).meter_version == 2
    await grant(suite, ANN, revision=2, energy=[EntitlementGrant(unlimited=True)])
    assert ((await door.check()).meter_version, (await door.acquire()).meter_version) == (0, 0)
