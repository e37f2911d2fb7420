"""Composes the `saldo` command: what there is to type, and nothing of how it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools.check.command import check
from tools.commands import calls, catalog, clocks, credit, deadletters, events, ledger, processes, taxes, tokens, usage
from tools.demo.command import demo
from tools.stack import FOLDER

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def saldo(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="where the suite keeps its data, keys and logs")] = FOLDER,
) -> None:
    """Run Saldo on this machine, call it, let its sandboxes' time pass, and check its books."""
    context.obj = folder


app.command()(demo)
app.command()(check)
app.command()(processes.up)
app.command()(processes.down)
app.command()(processes.status)
app.command()(tokens.token)
app.command()(calls.call)
app.add_typer(catalog.app, name="catalog")
app.add_typer(clocks.app, name="clock")
app.add_typer(credit.app, name="credit")
app.add_typer(deadletters.app, name="deadletters")
app.add_typer(events.app, name="events")
app.add_typer(ledger.app, name="ledger")
app.add_typer(taxes.app, name="tax")
app.add_typer(usage.app, name="usage")
