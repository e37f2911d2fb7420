"""The door to seats: parse, call, answer."""

from __future__ import annotations

from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from saldo.subscriptions.v1 import seat_pb2
from saldo.subscriptions.v1 import seat_service_pb2 as pb
from saldo.subscriptions.v1.seat_service_pb2_grpc import SeatServiceServicer
from subscriptions import store
from subscriptions.convert.customer_parts import email
from subscriptions.convert.seat import seat_to_proto, usage_to_proto
from subscriptions.domain.seat import EXPIRE_DAYS_MAX, SeatId
from subscriptions.domain.terms import ItemId, SubscriptionId
from subscriptions.store.seats import list_seats
from subscriptions.usecases import seats

HOLDER_LENGTH_MAX: Final = 128
TOKEN_LENGTH_MAX: Final = 128


class SeatsApi(SeatServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def InviteSeat(self, request: pb.InviteSeatRequest, tx: Tx) -> pb.InviteSeatResponse:
        if not 0 <= request.expire_days <= EXPIRE_DAYS_MAX:
            raise InvalidArgument(f"must be 1 to {EXPIRE_DAYS_MAX}, or 0", field="expire_days")
        invited, token = await seats.invite(
            tx,
            _subscription_id(request.subscription_id),
            _item_id(request.item_id),
            holder=wire.text(request.holder, field="holder", max_length=HOLDER_LENGTH_MAX),
            email=email(request.email, field="email") if request.email else "",
            expire_days=request.expire_days,
        )
        return pb.InviteSeatResponse(seat=seat_to_proto(invited.seat, invited.customer_id), token=token)

    @transactional
    async def ClaimSeat(self, request: pb.ClaimSeatRequest, tx: Tx) -> seat_pb2.Seat:
        token = wire.text(request.token, field="token", max_length=TOKEN_LENGTH_MAX)
        claimed = await seats.claim(tx, token)
        return seat_to_proto(claimed.seat, claimed.customer_id)

    @transactional
    async def RevokeSeat(self, request: pb.RevokeSeatRequest, tx: Tx) -> seat_pb2.Seat:
        revoked = await seats.revoke(tx, SeatId(ids.check(request.id, "seat")))
        return seat_to_proto(revoked.seat, revoked.customer_id)

    @transactional
    async def ListSeats(self, request: pb.ListSeatsRequest, tx: Tx) -> pb.ListSeatsResponse:
        page = wire.page(request)
        subscription = await store.subscription(tx, _subscription_id(request.subscription_id))
        found = await list_seats(
            tx,
            subscription.id,
            item_id=_item_id(request.item_id) if request.item_id else "",
            state=wire.enum_name(seat_pb2.Seat.State, request.state, field="state") if request.state else "",
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        customer_id = subscription.as_of(tx.now).customer_id
        return pb.ListSeatsResponse(
            seats=[seat_to_proto(seat, customer_id) for seat in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def GetSeatUsage(self, request: pb.GetSeatUsageRequest, tx: Tx) -> pb.SeatUsage:
        usage = await seats.usage(tx, _subscription_id(request.subscription_id), _item_id(request.item_id))
        return usage_to_proto(usage.terms, usage.assigned)


def _subscription_id(text: str) -> SubscriptionId:
    return SubscriptionId(ids.check(text, "sub", field="subscription_id"))


def _item_id(text: str) -> ItemId:
    return ItemId(ids.check(text, "subi", field="item_id"))
