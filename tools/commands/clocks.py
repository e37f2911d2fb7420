"""Knows `saldo clock`: the simulated time of a sandbox, the same in all six services."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.caller import Role
from common.travel import NeverQuiet, Step, travel
from saldo.operations.v1 import operations_service_pb2 as pb
from tools.client import Client
from tools.commands import console

app = typer.Typer(help="The simulated time of a sandbox.", no_args_is_help=True)


@app.command()
def advance(
    context: typer.Context,
    seller: console.Seller,
    to: Annotated[str, typer.Option(help="an instant, for example 2026-07-01T00:00:00Z", show_default=False)],
) -> None:
    """Let time pass, due moment by due moment, waiting for quiet at each. Interrupted, it can be called again."""
    target = console.instant(to, option="--to")
    owner = console.seller_id(seller)
    console.run(lambda client: _advance(client, target), console.suite(context), role=Role.OWNER, seller=owner)


@app.command()
def show(context: typer.Context, seller: console.Seller) -> None:
    """What time it is in the sandbox, and what is next, service by service."""
    console.run(_show, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))


async def _advance(client: Client, target: datetime) -> None:
    clock = await client.operations["catalog"].GetClock(pb.GetClockRequest())
    start = clock.time.ToDatetime(UTC)
    if target < start:
        console.fail(f"it is {console.when(clock.time)} there already; time only moves forward")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console.problems) as progress:
        bar = progress.add_task(start.isoformat(), total=(target - start).total_seconds() or 1)

        async def on_step(step: Step) -> None:
            passed = (step.time - start).total_seconds()
            progress.update(bar, completed=passed, description=step.time.isoformat())

        try:
            moments = await travel(client.operations, target, on_step=on_step)
        except NeverQuiet as error:
            console.fail(f"{error}; saldo deadletters list, and the logs that saldo status names, say more")
    console.out.print(f"{target.isoformat()}, {moments} due moments on the way", highlight=False)


async def _show(client: Client) -> None:
    names = list(client.operations)
    clocks = await asyncio.gather(*(client.operations[name].GetClock(pb.GetClockRequest()) for name in names))
    table = Table(box=None, header_style="bold")
    for heading in ("", "time", "next due", "quiet", "failing"):
        table.add_column(heading)
    for name, clock in zip(names, clocks, strict=True):
        upcoming = console.when(clock.next_due_time) if clock.HasField("next_due_time") else ""
        table.add_row(
            name, console.when(clock.time), upcoming, "yes" if clock.quiet else "no", str(clock.failing_count or "")
        )
    console.out.print(table)
