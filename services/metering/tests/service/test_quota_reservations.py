"""What is reserved of a quota is reserved once, by nobody more than there is, and is free again when it expires."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest

from common import ids
from common.testing import SANDBOX_START, Suite, refused
from metering.domain.reservation import KEPT
from saldo.metering.v1 import events_pb2 as events
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import quota_service_pb2 as pb
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceStub
from saldo.subscriptions.v1.entitlement_pb2 import EntitlementGrant, ResetInterval
from services.metering.tests.service import test_quotas
from services.metering.tests.service.test_quotas import (
    ANN,
    BOB,
    FEBRUARY,
    MICROSECOND,
    Door,
    State,
    decimal,
    feature,
    figures,
    grant,
    quota,
    usage,
    use,
)

door = test_quotas.door


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
