"""Knows the port behind which usage is counted: what every store of usage events answers, and how PostgreSQL does.

PostgreSQL's log is where usage events are acknowledged, told apart from repeats and given their positions, whichever
store counts them. Another store has a copy of the log, through a position: see `metering.clickhouse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from common.db import Tx
from metering.domain.meter import Definition, MeterVersion
from metering.domain.usage import Usage, UsageQuery
from metering.domain.usage_event import EventPlace, UsageEvent
from metering.store import events
from metering.store.totals import totals
from metering.store.usages import usages


class UsageStore(Protocol):
    """Answers questions about usage: every store the same, to the byte.

    What was stored before a question is in its answer if it is to be `complete`, or the question fails with
    UsageCopyBehind. An answer that need not be may say a position before the last one, and is right through that.
    """

    async def usages(
        self, tx: Tx, queries: Sequence[UsageQuery], *, versions: Sequence[MeterVersion], complete: bool
    ) -> list[Usage]:
        """In the order asked, each by a version of its meter."""

    async def list_events(
        self, tx: Tx, query: UsageQuery, *, definition: Definition, after: EventPlace, limit: int, complete: bool
    ) -> list[UsageEvent]:
        """Those that a usage counts, in order of time, source and id."""


class LogStore:
    """The log itself: what is in it is counted, always."""

    async def usages(
        self, tx: Tx, queries: Sequence[UsageQuery], *, versions: Sequence[MeterVersion], complete: bool
    ) -> list[Usage]:
        are_short = (
            query.is_short and each.definition.is_summed for query, each in zip(queries, versions, strict=True)
        )
        if all(are_short) and (found := await totals(tx, queries, versions)) is not None:
            return found
        return await usages(tx, queries, versions=versions)

    async def list_events(
        self, tx: Tx, query: UsageQuery, *, definition: Definition, after: EventPlace, limit: int, complete: bool
    ) -> list[UsageEvent]:
        return await events.list_events(tx, query, definition=definition, after=after, limit=limit)


LOG: Final[UsageStore] = LogStore()
