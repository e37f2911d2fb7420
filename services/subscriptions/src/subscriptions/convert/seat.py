"""Knows how seats look on the wire, and in events: there without the mail address."""

from __future__ import annotations

from common import wire
from saldo.subscriptions.v1 import seat_pb2, seat_service_pb2
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.seat import Assigned, Seat, seat_count
from subscriptions.domain.terms import Terms


def seat_to_proto(seat: Seat, customer_id: CustomerId) -> seat_pb2.Seat:
    return seat_pb2.Seat(
        id=seat.id,
        subscription_id=seat.subscription_id,
        item_id=seat.item_id,
        customer_id=customer_id,
        holder=seat.holder,
        state=seat_pb2.Seat.State.Value(seat.state.name),
        invite_time=wire.timestamp(seat.invite_time),
        expire_time=wire.timestamp(seat.expire_time) if seat.expire_time else None,
        claim_time=wire.timestamp(seat.claim_time) if seat.claim_time else None,
        revoke_time=wire.timestamp(seat.revoke_time) if seat.revoke_time else None,
        revoke_reason=(
            seat_pb2.Seat.RevokeReason.Value(seat.revoke_reason.name)
            if seat.revoke_reason
            else seat_pb2.Seat.REVOKE_REASON_UNSPECIFIED
        ),
        email=seat.email,
        revision=seat.revision,
    )


def seat_for_events(seat: Seat, customer_id: CustomerId) -> seat_pb2.Seat:
    proto = seat_to_proto(seat, customer_id)
    proto.ClearField("email")
    return proto


def usage_to_proto(terms: Terms, assigned: Assigned) -> seat_service_pb2.SeatUsage:
    """Of an item that has seats."""
    assert terms.quantity is not None, "a metered item has no seats"
    there_are = seat_count(terms)
    return seat_service_pb2.SeatUsage(
        quantity=wire.decimal(terms.quantity),
        seat_count=there_are,
        invited_count=assigned.invited,
        claimed_count=assigned.claimed,
        # A scheduled change may have taken effect just now, and the job that revokes what is too much be still to come.
        unassigned_count=max(there_are - assigned.count, 0),
    )
