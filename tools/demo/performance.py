"""Knows how a folder is played from beginning to end: a suite to play it in, and all there is to tell afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from common.caller import Role
from common.ids import SellerId
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from tools.check.journal import Journal
from tools.check.records import Sources
from tools.check.report import Report
from tools.check.verification import verify
from tools.client import Client
from tools.demo.account import Account, ask_for_account, ask_for_event, write_documents
from tools.demo.example import Example
from tools.demo.loading import load
from tools.demo.sending import Sent
from tools.demo.spans import Spans, receiving
from tools.demo.standing import Standing, find_standing
from tools.demo.timeline import play
from tools.demo.trail import Trail, follow
from tools.suite import Suite

Build = Callable[[str], Suite]
"""Makes a suite that exports its spans to an address, or to nobody."""

ACTOR: Final = "demo"
PATIENCE_SECONDS: Final = 120.0
"""How long a service, or a server, may be away before the story is given up."""
REST_SECONDS: Final = 20.0
SPANS_ARRIVE_SECONDS: Final = 1.2
"""Services send their spans twice a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the story has come."""

    phase: str
    time: datetime | None = None
    sent: Sent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    standing: Standing
    sent: Sent
    unsent: int
    """Rows that lie after the end of the story."""
    account: Account
    documents: list[Path]
    trail: Trail | None
    event: UsageEvent | None
    """One of the usage events that the trail begins with."""
    report: Report


async def perform(build: Build, example: Example, fingerprint: str, on_progress: Callable[[Progress], None]) -> Outcome:
    """Play the folder from wherever it stands to its end, in a suite that is up already or built for it."""
    spans = Spans()
    async with _running(build, spans, on_progress) as suite:
        addresses = suite.addresses()
        token = suite.keys.token(role=Role.PLATFORM, seller_id=None, actor=ACTOR)
        async with Client(addresses, token, patience_seconds=PATIENCE_SECONDS) as platform:
            standing = await find_standing(platform, example, fingerprint, suite.folder / "run")
        token = suite.keys.token(role=Role.OWNER, seller_id=SellerId(standing.seller_id), actor=ACTOR)
        with Journal(standing.journal, seller_id=standing.seller_id) as journal:
            async with Client(addresses, token, patience_seconds=PATIENCE_SECONDS, record=journal.record) as client:
                loaded = await load(client, example, lambda what: on_progress(Progress(phase=f"loading {what}")))
                outgoing = await play(
                    client,
                    example,
                    loaded,
                    lambda time, sent: on_progress(Progress(phase="playing", time=time, sent=sent)),
                )
                on_progress(Progress(phase="writing documents"))
                account = await ask_for_account(client, customers=loaded.customers)
                folder = suite.folder / "documents" / standing.seller_id
                documents = await write_documents(client, account.invoices, folder)
                trail = await _trail(account, spans, standing)
                event = None if trail is None else await ask_for_event(client, account, trail.line)
        on_progress(Progress(phase="verifying"))
        sources = Sources(
            databases=await asyncio.to_thread(suite.database_urls),
            journals=[standing.journal],
            seller_id=standing.seller_id,
        )
        report = await verify(sources, patience_seconds=REST_SECONDS)
    return Outcome(
        standing=standing,
        sent=outgoing.sent,
        unsent=outgoing.left_count,
        account=account,
        documents=documents,
        trail=trail,
        event=event,
        report=report,
    )


@asynccontextmanager
async def _running(build: Build, spans: Spans, on_progress: Callable[[Progress], None]) -> AsyncIterator[Suite]:
    """A suite that is up already is used as it is; otherwise one is started that ends with the story."""
    suite = build("")
    supervisor = suite.roster.supervisor
    if supervisor is not None and supervisor.runs():
        on_progress(Progress(phase="waiting for the services"))
        await asyncio.to_thread(suite.await_healthy)
        yield suite
        return
    async with receiving(spans) as endpoint:
        suite = build(endpoint)
        on_progress(Progress(phase="starting PostgreSQL, NATS and six services"))
        try:
            await asyncio.to_thread(suite.hold)
            yield suite
        finally:
            await asyncio.to_thread(suite.release)


async def _trail(account: Account, spans: Spans, standing: Standing) -> Trail | None:
    """From what was taken in now, or was kept the first time: nothing happens twice, so nothing is seen twice."""
    await asyncio.sleep(SPANS_ARRIVE_SECONDS)
    found = follow(account, spans)
    if found is None:
        return follow(account, Spans.load(standing.trace))
    spans.save(standing.trace, found.traces)
    return found
