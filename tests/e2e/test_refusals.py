"""Who has no business here, and what makes no sense, is refused with the right word, told once, and leaves nothing."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from itertools import groupby
from typing import Final

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from common.auth import READING_VERBS
from common.caller import Role
from common.ids import SellerId
from common.rpc import error_info
from common.testing import answered
from saldo.metering.v1.metering_service_pb2 import IngestEventsResponse, StreamEventsResponse
from tests.support.contents import Contents
from tests.support.contracts import Rpc, garbled, names_resources, requests_for, rpcs
from tests.support.sandbox import Sandbox
from tools.client import with_request_id
from tools.suite import Suite

REFUSALS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}
TRACE: Final = re.compile(r'"trace_id": "([0-9a-f]{32})"')
ID: Final = re.compile(r"\b(?:[a-z]+_)+[0-7][0-9a-z]{25}\b")
KNOW_NO_CUSTOMERS: Final = ("IngestEvents", "StreamEvents", "AttachPaymentMethod")
"""Their services keep whatever the caller says of a customer, for the caller's own seller."""

WHY_NOT: Final = {"CheckEntitlement": "CUSTOMER_NOT_FOUND"}
"""Those that answer why somebody may not, instead of refusing."""

NOT_FOR_VIEWERS: Final = ("ExportPersonalData",)
"""Reading of a kind that is not everybody's."""

LOG_SECONDS: Final = 10.0


class Caller:
    """Calls any RPC once, without patience, in a trace of its own that nobody exports."""

    def __init__(self, token: str, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._authorization = f"Bearer {token}" if token else ""
        self._channels = channels
        self.traces: dict[str, Counter[str]] = {}

    async def call(self, rpc: Rpc, request: Message) -> Message | grpc.aio.AioRpcError:
        trace_id = secrets.token_hex(16)
        metadata = [("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-00")]
        if self._authorization:
            metadata.append(("authorization", self._authorization))
        method = rpc.method_of(self._channels[rpc.service])
        try:
            answer: Message = await answered(method, with_request_id(request), timeout=20, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self.traces.setdefault(rpc.service, Counter())[trace_id] = 1
            return error
        return answer


Channels = Mapping[str, grpc.aio.Channel]


@pytest_asyncio.fixture(scope="module")
async def channels(processes: Suite) -> AsyncIterator[Channels]:
    """To each of the six, for all callers."""
    found = {name: grpc.aio.insecure_channel(address) for name, address in processes.addresses().items()}
    yield found
    for each in found.values():
        await each.close()


@pytest.fixture(scope="module", params=rpcs(), ids=str)
def rpc(request: pytest.FixtureRequest) -> Rpc:
    found: Rpc = request.param
    return found


@pytest_asyncio.fixture(scope="module")
async def world(
    processes: Suite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Sandbox, dict[str, Message]]]:
    """One seller who has a little of everything, and a valid request for every RPC."""
    async with await _open(processes, tmp_path_factory) as opened:
        yield opened, await requests_for(opened)
        await opened.verify(processes.database_urls())


async def _open(processes: Suite, folders: pytest.TempPathFactory) -> Sandbox:
    def token(role: Role, seller_id: SellerId | None) -> str:
        return processes.keys.token(role=role, seller_id=seller_id)

    return await Sandbox.open(processes.addresses(), token, journals=folders.mktemp("journal"))


@pytest_asyncio.fixture(scope="module")
async def stranger(processes: Suite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """Another seller, who has nothing."""
    async with await _open(processes, tmp_path_factory) as opened:
        yield opened
        await opened.verify(processes.database_urls())


@pytest_asyncio.fixture(scope="module")
async def contents(processes: Suite) -> AsyncIterator[Contents]:
    found = await Contents.open(processes.database_urls())
    yield found
    await found.close()


World = tuple[Sandbox, dict[str, Message]]


async def test_without_a_token_nothing_is_answered(rpc: Rpc, channels: Channels, world: World) -> None:
    """Health and reflection are open; every other door is not."""
    _, requests = world
    caller = Caller("", channels)
    answer = await caller.call(rpc, requests[rpc.path])
    assert isinstance(answer, grpc.aio.AioRpcError)
    assert answer.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "seller" not in (answer.details() or "")


async def test_a_viewer_changes_nothing(rpc: Rpc, processes: Suite, channels: Channels, world: World) -> None:
    """Whoever may look may look, and not more."""
    sandbox, requests = world
    caller = Caller(processes.keys.token(role=Role.VIEWER, seller_id=sandbox.seller_id), channels)
    answer = await caller.call(rpc, requests[rpc.path])
    for_operators = "operations" in rpc.contract or rpc.stub == "archives"
    if for_operators or rpc.name in NOT_FOR_VIEWERS or not rpc.name.startswith(READING_VERBS):
        assert isinstance(answer, grpc.aio.AioRpcError)
        assert answer.code() is grpc.StatusCode.PERMISSION_DENIED
    else:
        assert isinstance(answer, Message)


async def test_a_platform_that_speaks_for_one_seller_makes_no_other(
    processes: Suite, channels: Channels, world: World
) -> None:
    """Its token was made narrow on purpose."""
    sandbox, requests = world
    (rpc,) = [rpc for rpc in rpcs() if rpc.name == "CreateSeller"]
    caller = Caller(processes.keys.token(role=Role.PLATFORM, seller_id=sandbox.seller_id), channels)
    answer = await caller.call(rpc, requests[rpc.path])
    assert isinstance(answer, grpc.aio.AioRpcError)
    assert answer.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("naming", [rpc for rpc in rpcs() if names_resources(rpc)], ids=str)
async def test_the_ids_of_another_seller_open_nothing(
    naming: Rpc, processes: Suite, channels: Channels, world: World, stranger: Sandbox, contents: Contents
) -> None:
    """They are not found, as if they did not exist: not even that they do is told."""
    owner, requests = world
    request = requests[naming.path]
    named = set(ID.findall(str(request)))
    assert named, "the request must name something of the owner's"
    before = {service: await contents.of(service, owner.seller_id) for service in processes.addresses()}
    caller = Caller(stranger.client.token, channels)
    answer = await caller.call(naming, request)
    assert {service: await contents.of(service, owner.seller_id) for service in processes.addresses()} == before
    if isinstance(answer, grpc.aio.AioRpcError):
        assert answer.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)
    elif naming.name in WHY_NOT:
        assert getattr(answer, "reason") == WHY_NOT[naming.name]  # noqa: B009 # of the one message that has it
    else:
        assert naming.name.startswith("List") or naming.name in KNOW_NO_CUSTOMERS, str(answer)
        of_owner = {found for each in requests.values() for found in ID.findall(str(each))}
        assert not set(ID.findall(str(answer))) & (of_owner - named), "tells more than it was told"


async def test_garbage_in_any_field_is_refused_and_leaves_nothing(
    rpc: Rpc,
    processes: Suite,
    channels: Channels,
    world: World,
    contents: Contents,
    request: pytest.FixtureRequest,
) -> None:
    """Never INTERNAL, never UNKNOWN; always a reason; INVALID_ARGUMENT names the field; one log event; no row."""
    sandbox, requests = world
    token = sandbox.client.token
    if _is_for_platforms(rpc):
        token = processes.keys.token(role=Role.PLATFORM, seller_id=None)
    caller = Caller(token, channels)
    only_reads = rpc.name.startswith(READING_VERBS)
    before = await contents.of(rpc.service, sandbox.seller_id)
    garbage = garbled(rpc, requests[rpc.path], every=request.config.getoption("--thorough"))
    for field, group in groupby(garbage, key=lambda each: each.field):
        accepted = False
        for each in group:
            answer = await caller.call(rpc, each.request)
            if isinstance(answer, StreamEventsResponse):
                answer = answer.batch
            if isinstance(answer, grpc.aio.AioRpcError):
                _check_refusal(answer, rpc, each.request, processes)
            elif not isinstance(answer, IngestEventsResponse) or answer.accepted_count or answer.unmatched_count:
                accepted = True
        if only_reads:
            continue  # whatever it answers, nothing has changed at the end
        if accepted:
            await sandbox.quiet()
        now = await contents.of(rpc.service, sandbox.seller_id)
        assert accepted or now == before, f"garbage in {field} was refused and something was stored"
        before = now
    if only_reads:
        assert await contents.of(rpc.service, sandbox.seller_id) == before, "something was stored by who only asks"
    for service, traces in caller.traces.items():
        await _check_told_once(processes, service, traces)


def _is_for_platforms(rpc: Rpc) -> bool:
    if rpc.name == "CreateSeller" or rpc.stub == "archives":
        return True
    return "operations" in rpc.contract and "Clock" not in rpc.name


def _check_refusal(error: grpc.aio.AioRpcError, rpc: Rpc, request: Message, processes: Suite) -> None:
    def told() -> str:
        return f"{rpc} answered {error.code().name} {error.details()} to {str(request)[:500]}"

    assert error.code() in REFUSALS, f"{told()}\n{processes.log_of(rpc.service)[-5_000:]}"
    info = error_info(error)
    assert info is not None, told()
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+", info.reason), told()
    assert info.domain == f"saldo.{rpc.service}", told()
    assert "Traceback" not in (error.details() or ""), told()


async def _check_told_once(processes: Suite, service: str, traces: Counter[str]) -> None:
    """Each refusal is one event in the log of its service, under its own trace."""
    give_up = time.monotonic() + LOG_SECONDS
    while True:
        told: Counter[str] = Counter()
        for line in processes.log_of(service).splitlines():
            # Thousands of lines, of which few are meant.
            if '"request"' in line and (named := TRACE.search(line)) and named[1] in traces:
                told[named[1]] += 1
        found = {trace_id: told[trace_id] for trace_id in traces}
        if found == dict(traces) or time.monotonic() > give_up:
            assert found == dict(traces)
            return
        await asyncio.sleep(0.1)
