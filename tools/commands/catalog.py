"""Knows `saldo catalog`: the catalog of a seller as a document to keep under review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from common.caller import Role
from common.document import BYTES_MAX, Fault, Malformed
from tools.catalogs import Difference, apply, export, read_document
from tools.client import Client
from tools.commands import console
from tools.demo.document import text_of

DIFFERS: Final = 1
FAULTS_SHOWN: Final = 50

app = typer.Typer(help="The catalog of a seller as a document.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="YAML, as examples/README.md describes catalog.yaml")]
Prune = Annotated[bool, typer.Option("--prune", help="archive the plans and coupons that it does not name")]


@app.command(name="apply")
def apply_(
    context: typer.Context,
    file: File,
    seller: console.Seller,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="only tell what would change")] = False,
    prune: Prune = False,
) -> None:
    """Make the catalog what the file says, all of it or nothing, and tell what changed."""
    _compare(context, file, seller, validate_only=validate_only, prune=prune)


@app.command()
def diff(context: typer.Context, file: File, seller: console.Seller, prune: Prune = False) -> None:
    """Tell what applying the file would change. The exit code is 1 if it would change anything, 2 if it is wrong."""
    if _compare(context, file, seller, validate_only=True, prune=prune, faulty=console.MISUSED):
        raise typer.Exit(DIFFERS)


@app.command(name="export")
def export_(
    context: typer.Context,
    seller: console.Seller,
    file: Annotated[Path | None, typer.Argument(help="where to write it; otherwise it is printed")] = None,
) -> None:
    """Write the catalog, with the meters of its prices, as it is."""

    async def work(client: Client) -> None:
        document = await export(client)
        if file is None:
            typer.echo(document, nl=False)
        else:
            try:
                file.write_text(document, encoding="utf-8")
            except OSError as error:
                console.fail(f"{file} cannot be written: {error.strerror}", code=console.MISUSED)

    console.run(work, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))


def _compare(
    context: typer.Context,
    file: Path,
    seller: str,
    *,
    validate_only: bool,
    prune: bool,
    faulty: int = console.FAILED,
) -> bool:
    """Whether anything differed."""
    found: list[Difference] = []

    async def work(client: Client) -> None:
        found.extend(await apply(client, document, validate_only=validate_only, prune=prune))

    try:
        document = read_document(text_of(file, str(file), bytes_max=BYTES_MAX), str(file))
        console.run(work, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))
    except Malformed as error:
        _tell_faults(error.faults)
        console.fail(f"{file}: nothing was changed", code=faulty)
    for difference in found:
        console.out.print(difference.headline, style=difference.style, markup=False, highlight=False, soft_wrap=True)
        for line in difference.lines:
            console.out.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
    console.out.print(_summary(len(found), validate_only=validate_only))
    return bool(found)


def _summary(count: int, *, validate_only: bool) -> str:
    if not count:
        return "nothing differs"
    changes = "1 change" if count == 1 else f"{count} changes"
    return f"{changes} would be made" if validate_only else f"{changes} made"


def _tell_faults(faults: list[Fault]) -> None:
    for fault in faults[:FAULTS_SHOWN]:
        console.problems.print(str(fault), markup=False, highlight=False, soft_wrap=True)
    if len(faults) > FAULTS_SHOWN:
        console.problems.print(f"and {len(faults) - FAULTS_SHOWN} more")
