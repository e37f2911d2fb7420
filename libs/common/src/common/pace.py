"""Knows how a loop waits: for work, for a while after a failure, and never longer than until it shall stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TypeVar

ResultT = TypeVar("ResultT")


class Pace:
    """The rhythm of one loop. `listen` before looking for work: what comes up meanwhile is then not slept through."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()

    def wake(self) -> None:
        """There may be work."""
        self._woken.set()

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()

    @property
    def stopping(self) -> bool:
        return self._stopped.is_set()

    def listen(self) -> None:
        if not self.stopping:
            self._woken.clear()

    async def pause(self, seconds: float) -> None:
        """Until somebody wakes the loop, or the time is over."""
        await _wait(self._woken, seconds)

    async def rest(self, seconds: float) -> None:
        """The whole time, whoever calls, unless the loop shall stop: after a failure, or when it is not our turn."""
        await _wait(self._stopped, seconds)

    async def unless_stopped(self, work: Coroutine[object, object, ResultT]) -> ResultT | None:
        """What the work gives; None when it was broken off because the loop shall stop."""
        working = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            return None
        finally:
            stopped.cancel()
            working.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)


class Stopwatch:
    """How long ago something was, by the loop's clock: for how long one waits, never for what time it is."""

    __slots__ = ("_loop", "_since")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()

    @property
    def seconds(self) -> float:
        return self._loop.time() - self._since


async def _wait(event: asyncio.Event, seconds: float) -> None:
    # Not wait_for: until Python 3.12 it may swallow a cancellation that comes together with the event, and whoever
    # brings the process down would wait for this loop for ever.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
