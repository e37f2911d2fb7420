"""Every RPC of every service, as its contract lists them, against every role: who gets in, and who does not."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory

from common.auth import Identity
from common.caller import Role
from common.neighbours import error_info
from common.testing import SERVICES, Suite, answered
from saldo.operations.v1 import operations_service_pb2

OWNER, INTEGRATOR, VIEWER = "owner", "integrator", "viewer"
PLATFORM, CALLER, STRANGER = "platform", "a service that may call", "another service"
EVERYBODY = {OWNER, INTEGRATOR, VIEWER, PLATFORM, CALLER}
NOBODY = "no token"

# Written down here once more, and not derived: a new verb, or a changed rule, has to be agreed with here.
READING = (
    *("Get", "List", "BatchGet", "BatchList", "Query", "BatchQuery", "Lookup", "Trace", "Export"),
    *("Rate", "BatchRate", "Explain", "Simulate", "Calculate", "Preview", "Round", "Allocate", "Check"),
    *("VerifyDigest", "VerifySeries", "ReplayInvoice"),  # whose verb is that of a command elsewhere
)
WRITING = (
    "Acquire", "Apply", "Archive", "Attach", "Cancel", "Commit", "Create", "Finalize", "Freeze", "Hold", "Ingest",
    "Pause", "Publish", "Redeem", "Stream", "Release", "Resume", "Retry", "Update",
    "Activate", "Add", "Align", "Change", "Claim", "End", "Extend", "Invite", "Merge", "Reactivate", "Remove", "Revert",
    "Revoke", "Set", "Start", "Transfer", "Verify", "Amend", "Void", "Open", "Close", "Delete",
    "Reissue", "Mark", "Record", "Grant", "Reserve",
)  # fmt: skip
EXCEPTIONS = {
    "CreateSeller": {PLATFORM},
    "ErasePersonalData": {OWNER, INTEGRATOR},
    "ExportPersonalData": {OWNER, INTEGRATOR},
    "GetSeller": EVERYBODY,
    "GetServiceState": {PLATFORM},
    "ListDeadLetters": {PLATFORM},
    "RequeueDeadLetter": {PLATFORM},
    "DiscardDeadLetter": {PLATFORM},
    "ReplayEvents": {PLATFORM},
    "ListArchivableLeaves": {PLATFORM},
    "ListLeafEvents": {PLATFORM},
    "ArchiveLeaf": {PLATFORM},
    "RestoreEvents": {PLATFORM},
    "RestoreLeaf": {PLATFORM},
    "GetClock": {PLATFORM, OWNER},
    "AdvanceClock": {PLATFORM, OWNER},
    "GetRequestRecord": {PLATFORM, OWNER},
}
CALLERS = {
    "catalog": {"subscriptions", "invoicing"},
    "subscriptions": {"invoicing", "dunning"},
    "invoicing": {"payments"},
    "metering": {"invoicing"},
    "payments": {"dunning"},
    "dunning": set(),
}


def methods(service: str) -> Iterator[Any]:
    """The descriptors of all that a service serves."""
    package = importlib.import_module(f"saldo.{service}.v1")
    contracts = [each.name for each in pkgutil.iter_modules(package.__path__) if each.name.endswith("_service_pb2")]
    described = [importlib.import_module(f"saldo.{service}.v1.{name}").DESCRIPTOR for name in contracts]
    for file in (*described, operations_service_pb2.DESCRIPTOR):
        for found in file.services_by_name.values():
            yield from found.methods


def allowed(method: str) -> set[str]:
    if method in EXCEPTIONS:
        return EXCEPTIONS[method]
    if method.startswith(READING):
        return {OWNER, INTEGRATOR, VIEWER, CALLER}
    assert method.startswith(WRITING), f"{method} has a verb that nobody has decided upon"
    return {OWNER, INTEGRATOR, CALLER}


def tokens(suite: Suite, service: str) -> dict[str, str]:
    found = {
        OWNER: suite.keys.token(role=Role.OWNER, seller_id=suite.seller),
        INTEGRATOR: suite.keys.token(role=Role.INTEGRATOR, seller_id=suite.seller),
        VIEWER: suite.keys.token(role=Role.VIEWER, seller_id=suite.seller),
        PLATFORM: suite.keys.token(role=Role.PLATFORM, seller_id=None),
        NOBODY: "",
    }
    for other in SERVICES:
        who = f"{CALLER}: {other}" if other in CALLERS[service] else f"{STRANGER}: {other}"
        found[who] = Identity(other, suite.keys.private(other)).token(suite.seller)
    return found


async def verdict(suite: Suite, service: str, method: Any, token: str) -> str:
    """What the door said to an empty request: nothing, or why not."""
    module = method.containing_service.file.name.removesuffix(".proto").replace("/", ".")
    stub = importlib.import_module(f"{module}_pb2_grpc")
    client = suite.raw_stub(getattr(stub, f"{method.containing_service.name}Stub"), service, token=token)
    request = message_factory.GetMessageClass(method.input_type)()
    try:
        await answered(getattr(client, method.name), request)
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        if info is None or error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return info.reason if info else error.code().name  # what no rule has refused is a mistake of ours
    return ""


@pytest.mark.parametrize("service", SERVICES)
async def test_each_role_may_call_what_it_is_for(suite: Suite, service: str) -> None:
    """An empty request is enough to see whether the door opens; behind it, it is refused for what it lacks."""
    await suite.start(service, log_level="error")
    checked = 0
    for method in methods(service):
        for who, token in tokens(suite, service).items():
            role = who.partition(":")[0]
            expected = ""
            if role == NOBODY:
                expected = "UNAUTHENTICATED"
            elif role == STRANGER:
                expected = "SERVICE_NOT_ALLOWED" if CALLER in allowed(method.name) else "ROLE_NOT_ALLOWED"
            elif role not in allowed(method.name):
                expected = "ROLE_NOT_ALLOWED"
            assert await verdict(suite, service, method, token) == expected, (method.name, who)
            checked += 1
    assert checked > 100
