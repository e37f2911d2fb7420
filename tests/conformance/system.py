"""Knows how a case asks Saldo: by the public calls of the services, as the owner of a sandbox."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from common.neighbours import error_info
from tests.conformance.rooms import Rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    # Any, of all of these: stubs are generated
    rating: Any
    money: Any
    tax: Any
    metering: Any
    rooms: Rooms
    """For what takes time."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What a call was refused with."""

    reason: str
    field: str


async def attempt(call: Awaitable[Any]) -> Any:  # Any: a generated response, or what was answered instead
    """The response, or why there is none. Whatever is no refusal of the caller's input is a failure of the run."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        if info is None or error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            raise
        return Refused(info.reason, _field(error))


def _field(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
            return str(bad.field_violations[0].field)
    return ""
