"""Knows which backfills are to be closed or reverted, one after the other, and whose usage waits meanwhile.

    asked ─► its seller is paused ─► nothing of the seller is under way ─► one transaction, beside those of all others

Positions of the seller must follow each other, and the owner knows them by heart: so nobody else may take any.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from common.errors import FailedPrecondition, SaldoError
from metering.domain.errors import IngestMoving, IngestOverloaded
from metering.log.backfills import Settlement

WAITING_MAX: Final = 100
"""More are refused."""
RETRY_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class _Asked:
    settlement: Settlement
    done: asyncio.Future[None]


class Settling:
    def __init__(self) -> None:
        self._asked: deque[_Asked] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def paused(self) -> str | None:
        """The seller who waits."""
        return self._asked[0].settlement.seller_id if self._asked else None

    def ask(self, settlement: Settlement) -> asyncio.Future[None]:
        if len(self._asked) >= WAITING_MAX:
            raise IngestOverloaded("too many backfills are to be closed or reverted", retry_seconds=RETRY_SECONDS)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(settlement, done))
        return done

    def go_on(
        self, settle: Callable[[Settlement], Awaitable[None]], *, busy: Collection[str], then: Callable[[], None]
    ) -> None:
        """Answer what is done, and begin the next, unless something of its seller is under way. Fails as a commit
        does: then it is not known whether it was done.
        """
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            self._answer(task)
        if self._task is None and self._asked and self._asked[0].settlement.seller_id not in busy:
            self._task = asyncio.create_task(_carry_out(settle, self._asked[0].settlement))
            self._task.add_done_callback(lambda _: then())

    def _answer(self, task: asyncio.Task[None]) -> None:
        error = task.exception()
        if error is not None and not isinstance(error, FailedPrecondition):
            raise error
        asked = self._asked.popleft()
        if asked.done.done():  # whoever asked may be gone
            return
        if error is None:
            asked.done.set_result(None)
        else:
            asked.done.set_exception(error)

    async def stopped(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def refuse(self) -> None:
        """All that were asked for: the shard is no longer ours."""
        while self._asked:
            asked = self._asked.popleft()
            if not asked.done.done():
                asked.done.set_exception(_moving())


async def _carry_out(settle: Callable[[Settlement], Awaitable[None]], settlement: Settlement) -> None:
    await settle(settlement)


def _moving() -> SaldoError:
    return IngestMoving("it is not known whether this was done: ask again", retry_seconds=RETRY_SECONDS)
