"""Knows `saldo deadletters`: what could not be processed, and what an operator decides about it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from common.caller import Role
from saldo.operations.v1 import operations_service_pb2 as pb
from tools.client import Client, pages
from tools.commands import console
from tools.stack import SERVICES

app = typer.Typer(help="What could not be processed.", no_args_is_help=True)

Service = Annotated[str, typer.Argument(help="the service that could not process it")]
Id = Annotated[str, typer.Argument(help="as the list shows it")]


@app.command(name="list")
def list_(context: typer.Context, service: Annotated[str, typer.Option(help="only this one's")] = "") -> None:
    """What waits for a decision in each service, oldest first."""
    names = (_known(service),) if service else SERVICES
    console.run(lambda client: _list(client, names), console.suite(context), role=Role.PLATFORM)


@app.command()
def requeue(context: typer.Context, service: Service, dead_letter: Id) -> None:
    """Try it again: an event is handled now, a job is made due."""
    name = _known(service)
    console.run(lambda client: _requeue(client, name, dead_letter), console.suite(context), role=Role.PLATFORM)


@app.command()
def discard(
    context: typer.Context,
    service: Service,
    dead_letter: Id,
    reason: Annotated[str, typer.Option(help="why, for the record", show_default=False)],
) -> None:
    """Give it up for ever, keeping the reason."""
    name = _known(service)
    console.run(lambda client: _discard(client, name, dead_letter, reason), console.suite(context), role=Role.PLATFORM)


async def _list(client: Client, names: tuple[str, ...]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("service", "id", "subject", "seller", "tries", "error"):
        table.add_column(heading, overflow="fold")
    for name in names:
        request = pb.ListDeadLettersRequest(page_size=1000)
        async for page in pages(client.operations[name].ListDeadLetters, request, pb.ListDeadLettersResponse):
            for letter in page.dead_letters:
                tries, error = str(letter.attempts), letter.error.strip().splitlines()[-1:]
                table.add_row(name, escape(letter.id), letter.subject, letter.seller_id, tries, escape("".join(error)))
    if table.row_count:
        console.out.print(table)
    else:
        console.out.print("none")


async def _requeue(client: Client, service: str, dead_letter: str) -> None:
    await client.operations[service].RequeueDeadLetter(pb.RequeueDeadLetterRequest(id=dead_letter))


async def _discard(client: Client, service: str, dead_letter: str, reason: str) -> None:
    request = pb.DiscardDeadLetterRequest(id=dead_letter, reason=reason)
    await client.operations[service].DiscardDeadLetter(request)


def _known(service: str) -> str:
    if service not in SERVICES:
        console.fail(f"there is no service {service}: {', '.join(SERVICES)}", code=console.MISUSED)
    return service
