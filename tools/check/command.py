"""Knows the command `saldo check`: verify everything in the data of the suite, whether it runs or not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tools.commands import console
from tools.suite import Suite

if TYPE_CHECKING:
    from tools.check.report import Report

PATIENCE_SECONDS: Final = 10.0
"""How long a suite that is running may take to come to rest."""

DEMO_JOURNALS: Final = "demo-*.journal.jsonl"
"""What the demo wrote down of its own calls is held against the data, too."""

OWN_SERVER: Final = "SALDO_POSTGRES_URL"
"""Data on another server is not what those journals are about."""


def check(
    context: typer.Context,
    seller: Annotated[str, typer.Option(help="only the data of this seller")] = "",
    journal: Annotated[
        list[Path] | None, typer.Option(help="what a client wrote down; more than one may be given")
    ] = None,
) -> None:
    """Verify every invariant in the data of all services; names the first that offend, and exits with 1 if any do."""
    suite = console.suite(context)
    was_up = suite.stack.servers() is not None
    if not was_up:
        suite.stack.start()
    try:
        found = asyncio.run(_verify(suite, seller, journal))
    finally:
        if not was_up:
            suite.stack.stop()
    found.print(console.out)
    console.out.print()
    if not found.content:
        console.fail("Something that must hold does not.")
    console.out.print("[green]Everything that must hold does.[/]")


async def _verify(suite: Suite, seller: str, journals: list[Path] | None) -> Report:
    from tools.check.records import Sources  # imported late: no other command has to wait for it
    from tools.check.verification import verify

    supervisor = suite.roster.supervisor
    runs = supervisor is not None and supervisor.runs()
    if journals is None and OWN_SERVER not in os.environ:
        journals = sorted((suite.folder / "run").glob(DEMO_JOURNALS))
    sources = Sources(databases=suite.database_urls(), journals=journals or (), seller_id=seller)
    return await verify(sources, patience_seconds=PATIENCE_SECONDS if runs else 0.0)
