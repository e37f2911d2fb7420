"""Quotas through the door: what customers may use is checked against what was granted, used and reserved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.period import Period
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import events_pb2 as catalog
from saldo.catalog.v1.product_pb2 import Feature
from saldo.metering.v1 import meter_pb2, quota_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import quota_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceStub
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.subscriptions.v1 import events_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import BillingProfile, Customer, CustomerName
from saldo.subscriptions.v1.entitlement_pb2 import CustomerEntitlements, Entitlement, EntitlementGrant, ResetInterval

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
