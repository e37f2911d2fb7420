"""Knows how backfills look on the wire."""

from __future__ import annotations

from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from metering.domain.backfill import Backfill, BackfillId, BackfillState
from saldo.metering.v1 import backfill_service_pb2 as pb

PREFIX: Final = "bkf"
REASON_LENGTH_MAX: Final = 500


def backfill_id(text: str, *, field: str = "id") -> BackfillId:
    return BackfillId(ids.check(text, PREFIX, field=field))


def reason_from_proto(request: pb.OpenBackfillRequest | pb.RevertBackfillRequest) -> str:
    return wire.text(request.reason, field="reason", max_length=REASON_LENGTH_MAX)


def expected_count(request: pb.CloseBackfillRequest) -> int | None:
    if not request.HasField("event_count"):
        return None
    if request.event_count < 0:
        raise InvalidArgument("must not be negative", field="event_count")
    return request.event_count


def state_from_proto(request: pb.ListBackfillsRequest) -> BackfillState | None:
    if request.state == pb.Backfill.STATE_UNSPECIFIED:
        return None
    return BackfillState[wire.enum_name(pb.Backfill.State, request.state, field="state")]


def backfill_to_proto(backfill: Backfill) -> pb.Backfill:
    message = pb.Backfill(
        id=backfill.id,
        state=pb.Backfill.State.Value(backfill.state.name),
        reason=backfill.reason,
        event_count=backfill.event_count,
        first_position=backfill.first_position or 0,
        last_position=backfill.last_position or 0,
        revert_position=backfill.revert_position or 0,
        opened_by=backfill.opened_by,
        create_time=wire.timestamp(backfill.create_time),
        expire_time=wire.timestamp(backfill.expire_time),
        closed_by=backfill.closed_by,
        reverted_by=backfill.reverted_by,
        revert_reason=backfill.revert_reason,
    )
    if backfill.close_time is not None:
        message.close_time.CopyFrom(wire.timestamp(backfill.close_time))
    if backfill.revert_time is not None:
        message.revert_time.CopyFrom(wire.timestamp(backfill.revert_time))
    return message
