"""What the chassis costs a call, against a bare grpc.aio echo of the same size: `make bench T=rpc`.

The server under test has one core to itself; client, PostgreSQL and NATS are on the other. Both servers answer the
same client, in turns. Ratios are medians over the turns; the latencies were taken at half the measured rate.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import grpc
import grpc.aio
import uvloop

from bench.figures import Figure, median_ratio, percentile_ms
from bench.stage import MEASURED_CORE, NOTEBOOK, OTHER_CORE, SELLER, Stage, stage, tell_ready
from common.caller import Role
from libs.common.tests.notebook.contracts import note_pb2, notebook_grpc
from libs.common.tests.notebook.contracts import notebook_pb2 as pb
from libs.common.tests.notebook.main import PACKAGE

ROUNDS: Final = 5
TURN_SECONDS: Final = 1.0
WARM_UP_SECONDS: Final = 0.5
HALF_LOAD_SECONDS: Final = 1.5
IN_FLIGHT: Final = 32
TEXT: Final = "x" * 64

Call = Callable[[int], Awaitable[bool]]
"""Makes the n-th call; whether the answer was the right one."""


@dataclass(slots=True)
class Case:
    """One kind of call, and everything that was seen of it."""

    name: str
    call: Call
    rates: list[float] = field(default_factory=list)
    answered: int = 0
    wrong: int = 0
    latencies: list[float] = field(default_factory=list)

    async def turn(self, seconds: float) -> float:
        """As many calls as `IN_FLIGHT` callers get answered; the rate."""
        began = time.perf_counter()
        before = self.answered

        async def ask() -> None:
            while time.perf_counter() - began < seconds:
                await self._count(self.call)

        await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
        return (self.answered - before) / (time.perf_counter() - began)

    async def at_rate(self, rate: float, seconds: float) -> None:
        """Calls that begin when they are due, whether or not earlier ones are answered."""
        began = time.perf_counter()
        calls = []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            calls.append(asyncio.create_task(self._timed(due)))
        await asyncio.gather(*calls)

    async def _timed(self, due: float) -> None:
        await self._count(self.call)
        self.latencies.append(time.perf_counter() - due)

    async def _count(self, call: Call) -> None:
        right = await call(self.answered)
        self.answered += 1
        self.wrong += not right


async def main() -> None:
    os.sched_setaffinity(0, {OTHER_CORE})
    async with stage() as here:
        here.pin_servers(OTHER_CORE)
        url = await here.database(NOTEBOOK)
        environment = here.environment(here.settings(NOTEBOOK, url))
        served = here.start([f"{PACKAGE}.main", NOTEBOOK], environment, core=MEASURED_CORE)
        bare = here.start(["bench.rpc", "bare"], {}, core=MEASURED_CORE)
        token = here.keys.token(role=Role.OWNER, seller_id=SELLER)
        async with grpc.aio.insecure_channel(bare) as bare_channel, grpc.aio.insecure_channel(served) as channel:
            metadata = (("authorization", f"Bearer {token}"),)
            ceiling = Case("bare echo", _echo(notebook_grpc.NotebookServiceStub(bare_channel), metadata))
            stub = notebook_grpc.NotebookServiceStub(channel)
            jotted: list[str] = []
            written: list[str] = []
            cases = [
                Case("command", _write(stub, metadata, written)),
                Case("write", _jot(stub, metadata, jotted)),
                Case("echo", _echo(stub, metadata)),
            ]
            await measure(ceiling, cases)
        checked = await verify(here, url, jotted=jotted, written=written)
        for case in cases:
            figure = Figure(
                bench=f"rpc/{case.name}",
                value=statistics.median(case.rates),
                unit="calls/s",
                ceiling=statistics.median(ceiling.rates),
                ratio=median_ratio(case.rates, ceiling.rates),
                p50_ms=percentile_ms(case.latencies, 0.50),
                p99_ms=percentile_ms(case.latencies, 0.99),
                checked=checked and not case.wrong and not ceiling.wrong,
                more={"rounds": [round(a / b, 3) for a, b in zip(case.rates, ceiling.rates, strict=True)]},
            )
            print(figure.line())


async def measure(ceiling: Case, cases: list[Case]) -> None:
    for case in (ceiling, *cases):
        await case.turn(WARM_UP_SECONDS)
    for _ in range(ROUNDS):
        # The ceiling on both sides of what it is compared with.
        before = await ceiling.turn(TURN_SECONDS / 2)
        for case in cases:
            case.rates.append(await case.turn(TURN_SECONDS))
        ceiling.rates.append((before + await ceiling.turn(TURN_SECONDS / 2)) / 2)
    for case in cases:
        await case.at_rate(statistics.median(case.rates) / 2, HALF_LOAD_SECONDS)


async def verify(here: Stage, url: str, *, jotted: list[str], written: list[str]) -> bool:
    """Every acknowledged note is there once, nothing else is, and every command announced itself once."""
    connection = await asyncpg.connect(here.as_administrator(url))
    try:
        notes = [row["id"] for row in await connection.fetch("SELECT id FROM notes WHERE text = $1", TEXT)]
        announced = [row["aggregate_id"] for row in await connection.fetch("SELECT aggregate_id FROM outbox")]
        requests = await connection.fetchval("SELECT count(*) FROM requests WHERE response IS NOT NULL")
    finally:
        await connection.close()
    return (
        len(set(notes)) == len(notes)
        and sorted(notes) == sorted(jotted + written)
        and sorted(announced) == sorted(written)
        and requests == len(written)
    )


def _echo(stub: Any, metadata: Any) -> Call:  # Any here and below: grpc's stubs, compiled when this runs
    request = pb.EchoNoteRequest(text=TEXT)

    async def call(_: int) -> bool:
        answer = await stub.EchoNote(request, metadata=metadata)
        return bool(answer.text == TEXT)

    return call


def _jot(stub: Any, metadata: Any, ids: list[str]) -> Call:
    request = pb.JotNoteRequest(text=TEXT)

    async def call(_: int) -> bool:
        answer = await stub.JotNote(request, metadata=metadata)
        ids.append(answer.id)
        return bool(answer.text == TEXT)

    return call


def _write(stub: Any, metadata: Any, ids: list[str]) -> Call:
    """The whole of a command: a `request_id` that is remembered, and an event."""
    number = iter(range(sys.maxsize))

    async def call(_: int) -> bool:
        request = pb.WriteNoteRequest(text=TEXT, request_id=f"bench-{next(number)}")
        answer = await stub.WriteNote(request, metadata=metadata)
        ids.append(answer.id)
        return bool(answer.text == TEXT)

    return call


class BareEcho(notebook_grpc.NotebookServiceServicer):  # type: ignore[misc] # compiled when this runs
    async def EchoNote(self, request: Any, context: object) -> Any:  # noqa: N802 # named as in the contract
        return note_pb2.Note(text=request.text)


async def serve_bare() -> None:
    """What gRPC alone can do: no interceptor, nothing else in the process."""
    server = grpc.aio.server()
    notebook_grpc.add_NotebookServiceServicer_to_server(BareEcho(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell_ready(f"127.0.0.1:{port}")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve_bare() if sys.argv[1:] == ["bare"] else main())
