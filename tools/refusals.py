"""Knows how the refusal of a catalog is told: by the lines of the file that it came from."""

from __future__ import annotations

import re
from typing import Final

import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from common.document import Fault

APPLY_SECONDS: Final = 120.0
"""A catalog of ten thousand prices takes its time."""

_PLACE: Final = re.compile(r"document:(\d+):(\d+)")


def faults_of(error: grpc.aio.AioRpcError, file: str) -> list[Fault]:
    """What is wrong with the document; nothing if it was refused for something else."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only; works on both
    faults: list[Fault] = []
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            for violation in bad.field_violations:
                if place := _PLACE.fullmatch(violation.field):
                    faults.append(Fault(file, int(place[1]), int(place[2]), violation.description))
    return faults
