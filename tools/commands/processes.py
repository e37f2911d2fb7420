"""Knows `saldo up`, `saldo down` and `saldo status`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer
from rich.table import Table

from tools.commands import console
from tools.stack import ServerFailed
from tools.suite import Suite, SuiteFailed

FIRST_CALL: Final = """
A first call, by hand and with a token:

  {saldo} call catalog.CreateSeller '{{"mode": "SANDBOX", "display_name": "Acme",
      "address": {{"region_code": "GB", "locality": "London", "address_lines": ["1 High Street"]}},
      "sandbox_start_time": "2026-01-01T00:00:00Z"}}'
  {saldo} token                   a platform's token: creates sellers
  {saldo} token --seller sel_…    an owner's token: everything else of that seller

Health and reflection are open; every other call sends its token as metadata  authorization: Bearer …
"""


def up(
    context: typer.Context,
    otlp_endpoint: Annotated[
        str, typer.Option(envvar="SALDO_OTLP_ENDPOINT", help="host:port of an OTLP/gRPC collector")
    ] = "",
) -> None:
    """Start PostgreSQL, NATS and the six services in the background; again, and only what is missing is started."""
    suite = Suite(context.obj, otlp_endpoint=otlp_endpoint)
    try:
        with console.ended_by_sigterm(), console.problems.status("starting") as status:
            suite.up(on_wait=lambda what: status.update(what))
    except (SuiteFailed, ServerFailed, TimeoutError) as error:
        console.fail(str(error))
    _show(suite)
    told = FIRST_CALL.format(saldo=os.path.relpath(sys.argv[0]))
    console.out.print(told, markup=False, highlight=False, soft_wrap=True)


def down(context: typer.Context) -> None:
    """Stop everything that `saldo up` started. The data stays."""
    with console.problems.status("stopping"):
        console.suite(context).down()


def status(context: typer.Context) -> None:
    """Say what runs and where it listens; the exit code is 1 unless all of it is healthy."""
    suite = console.suite(context)
    _show(suite)
    states = suite.states()
    if not suite.roster.services or not all(state.healthy for state in states):
        raise typer.Exit(console.FAILED)


def _show(suite: Suite) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("", "address", "process", "health", "restarts"):
        table.add_column(heading)
    for state in suite.states():
        table.add_row(
            state.name,
            state.address,
            str(state.pid or ""),
            f"[{'green' if state.healthy else 'red'}]{state.health}",
            str(state.deaths or ""),
        )
    console.out.print(table)
    console.out.print(f"logs: {os.path.relpath(suite.folder / 'run')}", highlight=False, soft_wrap=True)
