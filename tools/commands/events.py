"""Knows `saldo events`: has what was announced be announced again, for a service whose database was restored."""

from __future__ import annotations

import importlib
from datetime import datetime
from typing import Annotated, Final

import typer

from common import wire
from common.caller import Role
from saldo.operations.v1 import operations_service_pb2 as pb
from tools.client import Client
from tools.commands import console
from tools.stack import SERVICES

app = typer.Typer(help="What services have announced.", no_args_is_help=True)

STRETCH: Final = 100_000
"""As many positions as are replayed by one call."""

CALLS_MAX: Final = 10_000
"""For each service; a suite that announces faster than it can replay would never come to an end."""


@app.callback()
def events() -> None:
    """What services have announced."""


@app.command()
def replay(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="the service that is to hear it again")],
    since: Annotated[
        str, typer.Option(help="some minutes before its backup was made, for example 2026-07-01T00:00:00Z")
    ],
    of: Annotated[str, typer.Option(help="only what this service announced")] = "",
) -> None:
    """Have those that a service listens to announce again what they announced since then; what it knows it ignores."""
    if service not in SERVICES:
        console.fail(f"there is no service {service}: {', '.join(SERVICES)}", code=console.MISUSED)
    instant = console.instant(since, option="--since")
    sources = heard_by(service)
    if of and of not in sources:
        console.fail(f"{service} does not listen to {of}: {', '.join(sources) or 'to nobody'}", code=console.MISUSED)
    sources = (of,) if of else sources
    if not sources:
        console.out.print(f"{service} listens to nobody")
    console.run(lambda client: _replay(client, sources, instant), console.suite(context), role=Role.PLATFORM)


def heard_by(service: str) -> tuple[str, ...]:
    """The services that a service listens to."""
    try:
        handlers = importlib.import_module(f"{service}.consumers").HANDLERS
    except ModuleNotFoundError:
        return ()
    return tuple(sorted({kind.DESCRIPTOR.file.package.split(".")[1] for kind in handlers}))


async def announce_again(client: Client, service: str, since: datetime) -> int:
    """How many events there are."""
    request = pb.ReplayEventsRequest(since_time=wire.timestamp(since))
    count = 0
    for _ in range(CALLS_MAX):
        answer = await client.operations[service].ReplayEvents(request)
        count += answer.event_count
        if not answer.next_position:
            return count
        request = pb.ReplayEventsRequest(
            from_position=answer.next_position, through_position=answer.next_position + STRETCH
        )
    return console.fail(f"{service} announces faster than it can replay: {count} events so far")


async def _replay(client: Client, sources: tuple[str, ...], since: datetime) -> None:
    for source in sources:
        console.out.print(f"{source}: {await announce_again(client, source, since)} events")
