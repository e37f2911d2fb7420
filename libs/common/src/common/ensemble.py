"""Knows services that tests run around one bus: how they end, and which of them the next test may take over.

To start a service and to copy its database costs more than most tests do. One that a test has left at rest is as good
as a new one for a test that looks at its own sandbox only.
"""

from __future__ import annotations

import asyncio
import gc
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

from google.protobuf.message import Message

from common.bus import MemoryBus
from common.caller import Caller, current_caller
from common.ports import Ports
from common.service import Service

ANSWER_SECONDS: Final = 20.0
SPARES_MAX: Final = 2
"""What runs takes part in everything: it polls, and it keeps connections."""

USES_MAX: Final = 40
"""What so many sandboxes have left in the tables is looked through with every question about what is due."""


@dataclass(slots=True, kw_only=True)
class Ensemble:
    """Services in this process; where they listen, and where they keep their data."""

    bus: MemoryBus
    addresses: dict[str, str]
    settings: str = ""
    running: dict[str, Service] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    lives: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    uses: int = 0
    """How often it was given back."""

    @classmethod
    def on_free_ports(cls, bus: MemoryBus, names: Sequence[str]) -> Self:
        ports = Ports.of_this_process()
        return cls(bus=bus, addresses={name: f"127.0.0.1:{ports.take()}" for name in names})

    def give_back_ports(self) -> None:
        for address in self.addresses.values():
            Ports.of_this_process().give_back(int(address.rpartition(":")[2]))

    async def stop(self, *names: str) -> None:
        for name in names:
            self.running.pop(name).stop()
            await self.lives.pop(name)

    async def end(self, drop: Callable[[str], Awaitable[None]]) -> None:
        await self.stop(*self.running)
        self.give_back_ports()
        for url in self.urls.values():
            await drop(url)


class Nearby:
    """`OperationsService` of a service in this process, asked as by a caller, but without the wire: the clocks of all
    services are asked at every step of every journey of every test.
    """

    def __init__(self, service: Service, caller: Caller) -> None:
        self._service = service
        self._caller = caller

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:  # Any: the answer, as of a stub
        async def ask(request: Message, *, timeout: float = ANSWER_SECONDS) -> Any:  # Any: as above
            before = current_caller.set(self._caller)
            try:
                async with asyncio.timeout(timeout):
                    return await getattr(self._service.operations, method)(request, None)
            finally:
                current_caller.reset(before)

        return ask


class Spares:
    """Ensembles without an owner, by what was started in them, and with which settings."""

    def __init__(self, drop: Callable[[str], Awaitable[None]]) -> None:
        self._drop = drop
        self._idle: OrderedDict[tuple[str, ...], Ensemble] = OrderedDict()

    def take(self, names: Sequence[str], settings: str = "") -> Ensemble | None:
        return self._idle.pop((settings, *names), None)

    async def keep(self, ensemble: Ensemble) -> None:
        """For whoever wants the same, if there is enough left of it; only the latest few are kept."""
        ensemble.uses += 1
        if ensemble.uses >= USES_MAX:
            await ensemble.end(self._drop)
            return
        what = (ensemble.settings, *ensemble.running)
        replaced = self._idle.pop(what, None)
        self._idle[what] = ensemble
        surplus = [replaced] if replaced is not None else []
        while len(self._idle) > SPARES_MAX:
            surplus.append(self._idle.popitem(last=False)[1])
        for each in surplus:
            await each.end(self._drop)

    async def close(self) -> None:
        while self._idle:
            await self._idle.popitem()[1].end(self._drop)


@asynccontextmanager
async def handed_on(drop: Callable[[str], Awaitable[None]]) -> AsyncIterator[Spares]:
    """Until there is nobody any more who might take anything over."""
    found = Spares(drop)
    yield found
    await found.close()
    # What is left then stays, and need not be looked through for garbage again and again.
    gc.collect()
    gc.freeze()


async def live(service: Service, ready: asyncio.Event) -> None:
    """Until it is told to stop; says when it is there."""
    async with service.running():
        ready.set()
        await service.stopped()
