"""Knows the command `saldo demo [INPUT]`: the whole story of a folder, with real servers, from empty to verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from tools.stack import CHECKOUT

LONDON: Final = CHECKOUT / "examples" / "london"


def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="[INPUT]", help="a folder in the shape that examples/README.md describes")
    ] = LONDON,
    skip_bad_rows: Annotated[bool, typer.Option(help="play without the rows of usage that are malformed")] = False,
) -> None:
    """Load a folder's catalog, customers and usage, let its months pass, and account for every cent."""
    from tools.demo.stage import show  # imported late: it takes a second, which no other command has to wait

    show(context.obj, folder, skip_bad_rows=skip_bad_rows)
