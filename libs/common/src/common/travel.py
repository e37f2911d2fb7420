"""Knows how to move a sandbox through time across services: from one due moment to the next, waiting for quiet at each.

The clocks of all services are moved to the earliest moment at which any of them has something to do; then everything
that follows from it is let happen, wherever it happens; then the next moment. So a year of billing plays in seconds, in
the order in which it would have played in a year.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final, TypeVar

import grpc

from common import wire
from common.errors import Unavailable
from saldo.operations.v1 import operations_service_pb2 as pb

STEPS_MAX: Final = 100_000
QUIET_SECONDS: Final = 60.0
UNREACHABLE_SECONDS: Final = 60.0
POLL_SECONDS: Final = (0.005, 0.01, 0.02, 0.02, 0.02, 0.05)
COUNTED_SECONDS: Final = 0.005
"""How long a bus may take to count what it has already accepted."""

PASSING: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

AnswerT = TypeVar("AnswerT")


class NeverQuiet(Exception):
    """Something keeps happening, or keeps failing, longer than anyone should wait; says where."""


@dataclass(frozen=True, slots=True)
class Step:
    """A moment that was reached, with everything in it done."""

    time: datetime
    waited_seconds: float


async def travel(
    clocks: Mapping[str, Any],  # Any: stubs of OperationsService, by name of service, that carry the sandbox's token
    to: datetime,
    *,
    on_step: Callable[[Step], Awaitable[None]] | None = None,
    quiet_seconds: float = QUIET_SECONDS,
) -> int:
    """Move to `to`; how many due moments were on the way. A service that is away for a while is waited for."""
    readings = await _catch_up(clocks, to.tzinfo)
    for steps in range(STEPS_MAX):
        began = time.monotonic()
        readings = await quiet(clocks, seconds=quiet_seconds, first=readings)
        now = max(reading.time.ToDatetime(to.tzinfo) for reading in readings.values())
        if on_step is not None:
            await on_step(Step(now, time.monotonic() - began))
        upcoming = [
            reading.next_due_time.ToDatetime(to.tzinfo)
            for reading in readings.values()
            if reading.HasField("next_due_time")
        ]
        if now >= to:
            return steps
        readings = await advance(clocks, min([to, *(moment for moment in upcoming if moment > now)]), known=readings)
    raise NeverQuiet(f"more than {STEPS_MAX} due moments on the way")


async def advance(  # Any: stubs, as for travel
    clocks: Mapping[str, Any], to: datetime, *, known: Mapping[str, pb.SandboxClock] | None = None
) -> dict[str, pb.SandboxClock]:
    """Move all clocks to one moment, and return what each said when it was let go on. None acts before every other has
    been told: what one of them does then, others must not find in their past.

    `known` is what all of them said when nothing was under way: those with nothing to do by then need not be held, nor
    the only one that has something, if it is told last.
    """
    acting = {name: clock for name, clock in clocks.items() if known is None or _acts_by(to, known[name])}
    free = {name: clock for name, clock in clocks.items() if name not in acting}
    told = pb.AdvanceClockRequest(time=wire.timestamp(to))
    held = pb.AdvanceClockRequest(time=told.time, hold=True)
    first, _ = await asyncio.gather(
        _ask(free, "AdvanceClock", told), _ask(acting if len(acting) > 1 else {}, "AdvanceClock", held)
    )
    return first | await _ask(acting, "AdvanceClock", told)


def _acts_by(time: datetime, reading: pb.SandboxClock) -> bool:
    return reading.HasField("next_due_time") and reading.next_due_time.ToDatetime(time.tzinfo) <= time


async def _catch_up(  # Any: stubs, as for travel
    clocks: Mapping[str, Any], zone: tzinfo | None
) -> dict[str, pb.SandboxClock]:
    """A traveller that was interrupted has left some clocks behind, or held."""
    readings = await _ask(clocks, "GetClock", pb.GetClockRequest())
    return await advance(clocks, max(reading.time.ToDatetime(zone) for reading in readings.values()))


async def quiet(  # Any: stubs, as for travel
    clocks: Mapping[str, Any],
    *,
    seconds: float = QUIET_SECONDS,
    first: Mapping[str, pb.SandboxClock] | None = None,
) -> dict[str, pb.SandboxClock]:
    """Wait until nothing is under way in any service, and return what all clocks say then. `first` is what they have
    already said.

    Two readings in a row of every service must be quiet and show the same progress, and all the second ones are made
    when the first ones are there: then there was a moment between them at which none of them was doing anything. What
    one service sends while another is being asked shows in the second. Who was quiet is not asked again before all are.
    """
    deadline = time.monotonic() + seconds
    before = dict(first or await _ask(clocks, "GetClock", pb.GetClockRequest()))
    polls = 0
    while True:
        asked = {name: clock for name, clock in clocks.items() if not before[name].quiet}
        if asked:
            await asyncio.sleep(POLL_SECONDS[min(polls, len(POLL_SECONDS) - 1)])
            polls += 1
        elif polls:
            await asyncio.sleep(COUNTED_SECONDS)
        readings = await _ask(asked or clocks, "GetClock", pb.GetClockRequest())
        restless = {
            name: reading
            for name, reading in readings.items()
            if not (reading.quiet and reading.progress == before[name].progress)
        }
        if not asked and not restless:
            return readings
        if time.monotonic() > deadline:
            busy = {name: reading.failing_count for name, reading in restless.items()}
            raise NeverQuiet(f"still busy after {seconds:.0f} s (service: failing rows): {busy}")
        before |= readings


async def _ask(  # Any: stubs, as for travel
    clocks: Mapping[str, Any], method: str, request: object
) -> dict[str, pb.SandboxClock]:
    """All of them at once."""
    answers: list[pb.SandboxClock] = await asyncio.gather(
        *(_patiently(getattr(clock, method), request) for clock in clocks.values())
    )
    return dict(zip(clocks, answers, strict=True))


async def _patiently(call: Callable[..., Awaitable[AnswerT]], request: object) -> AnswerT:
    """Ask until there is an answer: reading and advancing a clock can both be repeated."""
    deadline = time.monotonic() + UNREACHABLE_SECONDS
    while True:
        try:
            return await call(request, timeout=10)
        except (grpc.aio.AioRpcError, Unavailable) as error:
            # Over the wire, or from a service in this process.
            passing = isinstance(error, Unavailable) or error.code() in PASSING
            if not passing or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
