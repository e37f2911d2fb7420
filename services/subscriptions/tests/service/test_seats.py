"""Seats through the door: never more assigned than there are, whoever comes at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.rpc import error_info
from common.testing import SANDBOX_START, Suite, refused
from saldo.subscriptions.v1 import events_pb2, personal_data_service_pb2, seat_pb2, subscription_pb2
from saldo.subscriptions.v1 import seat_service_pb2 as seats
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.personal_data_service_pb2_grpc import PersonalDataServiceStub
from saldo.subscriptions.v1.seat_service_pb2_grpc import SeatServiceStub

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STATE, REASON = seat_pb2.Seat.State, seat_pb2.Seat.RevokeReason
INVITED, CLAIMED, REVOKED = STATE.INVITED, STATE.CLAIMED, STATE.REVOKED
AT_TIME = subscription_pb2.SubscriptionChange.AT_TIME
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
EMAIL = "grace@example.com"


def day(n: int) -> datetime:
    return JAN_1 + timedelta(days=n)


class Room:
    """A subscription whose first item has seats."""

    def __init__(self, suite: Suite, shop: Any) -> None:
        self.suite = suite
        self.shop = shop
        self.api: Any = suite.stub(SeatServiceStub, "subscriptions")  # Any: grpc stubs are generated
        self.subscription = subscription_pb2.Subscription()

    async def open(self, quantity: str, **changes: Any) -> None:  # Any: fields of the request
        self.plan = await self.shop.plan(self.shop.price("seats"), self.shop.metered("calls"), self.shop.price("setup"))
        prices = [price.id for price in self.plan.prices]
        items = [
            subscription_pb2.ItemSpec(price_id=prices[0], quantity=decimal_pb2.Decimal(value=quantity)),
            *(subscription_pb2.ItemSpec(price_id=price_id) for price_id in prices[1:]),
        ]
        customer = await self.shop.customer()
        self.subscription = await self.shop.subscribe(customer, self.plan, items=items, **changes)
        # Or the first of several at once would be done before the others have a connection.
        await asyncio.gather(*(self.usage() for _ in range(20)))

    @property
    def item_id(self) -> str:
        return self.subscription.items[0].id

    async def invite(self, holder: str, /, **changes: Any) -> seats.InviteSeatResponse:  # Any: fields of the request
        answer: seats.InviteSeatResponse = await self.api.InviteSeat(
            seats.InviteSeatRequest(
                **{"subscription_id": self.subscription.id, "item_id": self.item_id, "holder": holder} | changes
            )
        )
        return answer

    async def claim(self, invited: seats.InviteSeatResponse) -> seat_pb2.Seat:
        claimed: seat_pb2.Seat = await self.api.ClaimSeat(seats.ClaimSeatRequest(token=invited.token))
        return claimed

    async def revoke(self, seat_id: str) -> seat_pb2.Seat:
        revoked: seat_pb2.Seat = await self.api.RevokeSeat(seats.RevokeSeatRequest(id=seat_id))
        return revoked

    async def usage(self) -> tuple[int, int, int, int]:
        """Seats, invited, claimed, unassigned."""
        found = await self.api.GetSeatUsage(
            seats.GetSeatUsageRequest(subscription_id=self.subscription.id, item_id=self.item_id)
        )
        return found.seat_count, found.invited_count, found.claimed_count, found.unassigned_count

    async def seats(self, **changes: Any) -> list[seat_pb2.Seat]:  # Any: fields of the request
        request = seats.ListSeatsRequest(subscription_id=self.subscription.id, **changes)
        return list((await self.api.ListSeats(request)).seats)

    async def set_quantity(self, quantity: str, **timing: Any) -> None:  # Any: fields of the request
        await self.change(
            {"set_quantity": {"item_id": self.item_id, "quantity": decimal_pb2.Decimal(value=quantity)}}, **timing
        )

    async def change(self, *actions: dict[str, Any], **timing: Any) -> None:  # Any: fields of the request
        await self.shop.api.ChangeSubscription(
            pb.ChangeSubscriptionRequest(
                id=self.subscription.id,
                actions=[subscription_pb2.SubscriptionAction(**each) for each in actions],
                **timing,
            )
        )

    async def told(self, kind: Any) -> list[seat_pb2.Seat]:  # Any: the class of an event
        await self.suite.quiet()
        return [event.seat for event in self.suite.announced(kind)]


@pytest_asyncio.fixture
async def room(suite: Suite, shop: Any) -> Room:
    return Room(suite, shop)


async def test_a_seat_is_offered_claimed_and_taken_back(room: Room) -> None:
    """The main job, told at every step; the seat is free again for whoever comes next, and be it the same."""
    await room.open("2.9")
    assert await room.usage() == (2, 0, 0, 2)
    invited = await room.invite("grace", email=EMAIL, expire_days=3)
    assert ids.prefix_of(invited.seat.id) == "seat"
    assert invited.seat == seat_pb2.Seat(
        id=invited.seat.id,
        subscription_id=room.subscription.id,
        item_id=room.item_id,
        customer_id=room.subscription.customer_id,
        holder="grace",
        state=INVITED,
        invite_time=wire.timestamp(JAN_1),
        expire_time=wire.timestamp(day(3)),
        email=EMAIL,
        revision=1,
    )
    assert await room.seats() == [invited.seat]
    assert await room.usage() == (2, 1, 0, 1)
    claimed = await room.claim(invited)
    assert (claimed.state, claimed.claim_time, claimed.email) == (CLAIMED, wire.timestamp(JAN_1), "")
    assert not claimed.HasField("expire_time")
    assert await room.usage() == (2, 0, 1, 1)
    await room.suite.travel(day(9))
    revoked = await room.revoke(claimed.id)
    assert (revoked.state, revoked.revoke_reason) == (REVOKED, REASON.REQUESTED)
    assert (revoked.revoke_time, revoked.revision) == (wire.timestamp(day(9)), 3)
    assert await room.usage() == (2, 0, 0, 2)
    assert (await room.invite("grace")).seat.expire_time == wire.timestamp(day(16))
    invited.seat.email = ""
    assert (await room.told(events_pb2.SeatInvited))[0] == invited.seat
    assert await room.told(events_pb2.SeatClaimed) == [claimed]
    assert await room.told(events_pb2.SeatRevoked) == [revoked]


async def test_fifty_at_once_get_ten_seats(room: Room) -> None:
    """Each of them sees those before: not one too many, and not one too few."""
    await room.open("10")

    async def outcome(n: int) -> str:
        try:
            await room.invite(f"holder-{n}")
        except grpc.aio.AioRpcError as error:
            info = error_info(error)
            assert info is not None
            return info.reason
        return "INVITED"

    outcomes = await asyncio.gather(*(outcome(n) for n in range(50)))
    assert Counter(outcomes) == {"INVITED": 10, "SEATS_EXHAUSTED": 40}
    assert await room.usage() == (10, 10, 0, 0)
    assert len(await room.told(events_pb2.SeatInvited)) == 10


async def test_a_quantity_is_lowered_while_a_seat_is_assigned(room: Room) -> None:
    """One of the two comes first, and the other is refused: there are never fewer seats than are assigned."""
    await room.open("2")
    await room.invite("first")
    for n in range(8):
        both = await asyncio.gather(room.invite(f"holder-{n}"), room.set_quantity("1"), return_exceptions=True)
        refusals = [error_info(each) for each in both if isinstance(each, grpc.aio.AioRpcError)]
        [reason] = [info.reason for info in refusals if info is not None]
        there_are, invited, _, _ = await room.usage()
        assert (reason, there_are, invited) in [("SEATS_EXHAUSTED", 1, 1), ("SEATS_ASSIGNED", 2, 2)]
        await room.set_quantity("2")
        if isinstance(both[0], seats.InviteSeatResponse):
            await room.revoke(both[0].seat.id)


async def test_nobody_has_two_seats_of_one_item(room: Room) -> None:
    """Of another item they may; and ten clicks at once are one invitation."""
    await room.open("10")
    outcomes = await asyncio.gather(*(room.invite("grace") for _ in range(10)), return_exceptions=True)
    [invited] = [each for each in outcomes if isinstance(each, seats.InviteSeatResponse)]
    with refused("SEAT_HOLDER_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
        await room.invite("grace")
    assert refusal.metadata == {"item": room.item_id, "seat": invited.seat.id}
    other = await room.invite("grace", item_id=room.subscription.items[2].id)
    assert [each.id for each in await room.seats(item_id=other.seat.item_id)] == [other.seat.id]


async def test_a_token_claims_once(room: Room) -> None:
    """Ten at once are one claim; what was claimed, revoked or has expired is claimed by nobody."""
    await room.open("3")
    invited, revoked, late = await room.invite("a"), await room.invite("b"), await room.invite("c", expire_days=1)
    outcomes = await asyncio.gather(*(room.claim(invited) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, seat_pb2.Seat) for each in outcomes) == 1
    await room.revoke(revoked.seat.id)
    await room.suite.travel(day(1))
    for each, state in [(invited, "CLAIMED"), (revoked, "REVOKED"), (late, "REVOKED")]:
        with refused("SEAT_NOT_INVITED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await room.claim(each)
        assert refusal.metadata["state"] == state
    with refused("SEAT_NOT_ASSIGNED", grpc.StatusCode.FAILED_PRECONDITION):
        await room.revoke(revoked.seat.id)
    invited.token += "x"
    with refused("SEAT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.claim(invited)
    with refused("SEAT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.revoke(ids.mint("seat", SANDBOX_START))


async def test_a_repeated_request_is_answered_the_same(room: Room) -> None:
    """With the same token, which nothing but a digest and a sealed answer keeps."""
    await room.open("3")
    first = await room.invite("grace", email=EMAIL, request_id="r1")
    assert await room.invite("grace", email=EMAIL, request_id="r1") == first
    claimed = await room.api.ClaimSeat(seats.ClaimSeatRequest(token=first.token, request_id="r2"))
    assert await room.api.ClaimSeat(seats.ClaimSeatRequest(token=first.token, request_id="r2")) == claimed
    assert await room.usage() == (3, 0, 1, 2)


@pytest.mark.own_services
async def test_nothing_stored_tells_the_token_or_the_mail_address(room: Room) -> None:
    """Neither while the invitation is open nor afterwards, in any table; and no event does."""
    await room.open("3")
    invited = await room.invite("grace", email=EMAIL, request_id="r1")
    await room.suite.quiet()
    connection = await asyncpg.connect(room.suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        for secret in (invited.token, EMAIL):
            for table in ("seats", "requests", "outbox"):
                rows = await connection.fetch(f"SELECT t.* FROM {table} t")  # constants
                assert rows
                assert not any(_holds(value, secret) for row in rows for value in row.values()), (table, secret)
        await room.claim(invited)
        assert await connection.fetchval("SELECT sealed_email FROM seats") is None
    finally:
        await connection.close()


def _holds(value: object, secret: str) -> bool:
    return secret.encode() in value if isinstance(value, bytes) else secret in str(value)


async def test_an_invitation_expires(room: Room) -> None:
    """The job frees the seat at its time, once, and somebody else can have it."""
    await room.open("1")
    await room.invite("grace", expire_days=2)
    await room.suite.travel(day(2) - timedelta(seconds=1))
    with refused("SEATS_EXHAUSTED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await room.invite("ada")
    assert refusal.metadata == {"item": room.item_id, "seats": "1"}
    await room.suite.travel(day(2))
    [seat] = await room.told(events_pb2.SeatRevoked)
    assert (seat.state, seat.revoke_reason, seat.revoke_time) == (REVOKED, REASON.EXPIRED, wire.timestamp(day(2)))
    claimed = await room.claim(await room.invite("ada"))
    await room.suite.travel(day(90))
    assert await room.seats(state=CLAIMED) == [claimed]


async def test_fewer_seats_than_assigned_are_refused_now(room: Room) -> None:
    """By quantity, with the item, or with the plan; what leaves enough is no matter of seats."""
    await room.open("5")
    for n in range(3):
        await room.claim(await room.invite(f"holder-{n}"))
    another = await room.shop.plan(room.shop.price("other"))
    for actions in (
        [{"set_quantity": {"item_id": room.item_id, "quantity": decimal_pb2.Decimal(value="2.99")}}],
        [{"remove_item": {"item_id": room.item_id}}],
        [{"change_plan": {"plan_id": another.id}}],
    ):
        with refused("SEATS_ASSIGNED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await room.change(*actions)
        assert refusal.metadata["item"] == room.item_id
        assert refusal.metadata["assigned"] == "3"
    await room.set_quantity("3")
    await room.set_quantity("3.5")
    assert await room.usage() == (3, 0, 3, 0)
    assert await room.told(events_pb2.SeatRevoked) == []


async def test_a_scheduled_reduction_takes_the_newest(room: Room) -> None:
    """First those who were invited, then those who have claimed, the last first; nobody before its time."""
    await room.open("5")
    for holder in "abc":
        await room.claim(await room.invite(holder))
    for holder in "de":
        await room.invite(holder, expire_days=60)
    later = {"timing": AT_TIME, "effective_time": wire.timestamp(day(10))}
    await room.set_quantity("2", **later)
    await room.suite.travel(day(9))
    assert await room.usage() == (5, 2, 3, 0)
    assert await room.told(events_pb2.SeatRevoked) == []
    await room.suite.travel(day(10))
    assert [each.holder for each in await room.told(events_pb2.SeatRevoked)] == ["e", "d", "c"]
    assert {each.revoke_reason for each in await room.seats(state=REVOKED)} == {REASON.QUANTITY_REDUCED}
    assert [each.holder for each in await room.seats(state=CLAIMED)] == ["a", "b"]
    assert await room.usage() == (2, 0, 2, 0)
    later["effective_time"] = wire.timestamp(day(20))
    await room.change({"remove_item": {"item_id": room.item_id}}, **later)
    await room.suite.travel(day(20))
    assert [each.holder for each in await room.seats(state=CLAIMED)] == []
    with refused("ITEM_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.invite("f")


async def test_seats_go_with_their_subscription(room: Room) -> None:
    """To another customer; and through its end to its reactivation, in which nobody new gets one."""
    await room.open("3")
    held, open_ = await room.claim(await room.invite("a")), await room.invite("b", expire_days=90)
    bob = await room.shop.customer()
    await room.shop.api.TransferSubscription(
        pb.TransferSubscriptionRequest(id=room.subscription.id, customer_id=bob.id)
    )
    assert {each.customer_id for each in await room.seats()} == {bob.id}
    await room.shop.api.CancelSubscription(
        pb.CancelSubscriptionRequest(id=room.subscription.id, timing=pb.CancelSubscriptionRequest.NOW)
    )
    with refused("SUBSCRIPTION_NOT_CHANGEABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await room.invite("c")
    with refused("SUBSCRIPTION_NOT_CHANGEABLE", grpc.StatusCode.FAILED_PRECONDITION):
        await room.claim(open_)
    await room.suite.travel(day(1))
    await room.shop.api.ReactivateSubscription(pb.ReactivateSubscriptionRequest(id=room.subscription.id))
    claimed = await room.claim(open_)
    assert claimed.customer_id == bob.id
    assert [each.id for each in await room.seats(state=CLAIMED)] == [held.id, claimed.id]


async def test_an_erased_customer_takes_the_mail_addresses_along(room: Room) -> None:
    """They were sealed under its key; the repeat of an invitation is refused, and so is another one."""
    await room.open("3")
    await room.invite("grace", email=EMAIL, expire_days=90, request_id="r1")
    await room.shop.api.CancelSubscription(
        pb.CancelSubscriptionRequest(id=room.subscription.id, timing=pb.CancelSubscriptionRequest.NOW)
    )
    privacy = room.suite.stub(PersonalDataServiceStub, "subscriptions")
    await privacy.ErasePersonalData(
        personal_data_service_pb2.ErasePersonalDataRequest(customer_id=room.subscription.customer_id)
    )
    [seat] = await room.seats()
    assert (seat.holder, seat.email, seat.state) == ("grace", "", INVITED)
    with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
        await room.invite("grace", email=EMAIL, expire_days=90, request_id="r1")
    with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
        await room.invite("ada")


async def test_what_is_asked_is_checked(room: Room) -> None:
    """By field; seats are of a licensed item of the subscription that is named."""
    await room.open("3")
    cases: list[tuple[dict[str, Any], str]] = [  # Any: fields of the request
        ({"holder": ""}, "holder"),
        ({"holder": "x" * 129}, "holder"),
        ({"email": "nobody"}, "email"),
        ({"expire_days": 91}, "expire_days"),
        ({"expire_days": -1}, "expire_days"),
        ({"item_id": "x"}, "item_id"),
        ({"subscription_id": "x"}, "subscription_id"),
    ]
    for changes, field in cases:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await room.invite("grace", **changes)
        assert refusal.field == field
    with refused("ITEM_WITHOUT_SEATS", grpc.StatusCode.FAILED_PRECONDITION):
        await room.invite("grace", item_id=room.subscription.items[1].id)
    with refused("ITEM_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.invite("grace", item_id=ids.mint("subi", SANDBOX_START))
    with refused("SUBSCRIPTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.invite("grace", subscription_id=ids.mint("sub", SANDBOX_START))
    assert await room.seats() == []


async def test_the_list_has_pages(room: Room) -> None:
    """In the order in which seats were assigned, all of them, each once."""
    await room.open("5")
    for holder in "abcde":
        await room.invite(holder)
    seen: list[str] = []
    request = seats.ListSeatsRequest(subscription_id=room.subscription.id, page_size=2)
    for _ in range(3):
        answer = await room.api.ListSeats(request)
        seen += [each.holder for each in answer.seats]
        request.page_token = answer.next_page_token
    assert (seen, request.page_token) == (list("abcde"), "")


async def test_another_seller_sees_none_of_it(room: Room) -> None:
    """Nor can it claim or revoke, with the right token and the right id."""
    await room.open("3")
    invited = await room.invite("grace")
    stranger = room.suite.stub(
        SeatServiceStub, "subscriptions", seller=ids.check_seller(ids.mint("sel_sandbox", JAN_1))
    )
    with refused("SUBSCRIPTION_NOT_FOUND"):
        await stranger.ListSeats(seats.ListSeatsRequest(subscription_id=room.subscription.id))
    with refused("SEAT_NOT_FOUND"):
        await stranger.ClaimSeat(seats.ClaimSeatRequest(token=invited.token))
    with refused("SEAT_NOT_FOUND"):
        await stranger.RevokeSeat(seats.RevokeSeatRequest(id=invited.seat.id))
    assert await room.usage() == (3, 1, 0, 2)
