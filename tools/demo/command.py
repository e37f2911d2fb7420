"""Knows the command `saldo demo [INPUT]`: the whole story of a folder, with real servers, from empty to verified."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import grpc.aio
import typer
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from common.rpc import error_info
from common.travel import NeverQuiet
from tools.binaries import ServerFailed
from tools.commands import console
from tools.demo.example import Example
from tools.demo.faults import Malformed
from tools.demo.folder import fingerprint, read_folder
from tools.demo.performance import Progress, perform
from tools.demo.telling import tell, tell_faults
from tools.demo.timeline import end_of
from tools.exclusive import exclusive
from tools.stack import CHECKOUT
from tools.suite import Suite, SuiteFailed

LONDON: Final = CHECKOUT / "examples" / "london"
LOCK_SECONDS: Final = 1.0
LINE_WIDTH: Final = 120


def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="[INPUT]", help="a folder in the shape that examples/README.md describes")
    ] = LONDON,
    skip_bad_rows: Annotated[bool, typer.Option(help="play without the rows of usage that are malformed")] = False,
) -> None:
    """Load a folder's catalog, customers and usage, let its months pass, and account for every cent."""
    try:
        reading = read_folder(folder)
    except Malformed as error:
        tell_faults(console.problems, error.faults)
        console.fail(f"{folder}: nothing was sent")
    if reading.faults:
        tell_faults(console.problems, reading.faults)
        if not skip_bad_rows:
            count = len(reading.faults)
            console.fail(f"{folder}: nothing was sent. Correct {count} rows, or leave them out with --skip-bad-rows")
    home: Path = context.obj
    (home / "run").mkdir(parents=True, exist_ok=True)

    def build(endpoint: str) -> Suite:
        return Suite(home, otlp_endpoint=endpoint)

    try:
        with (
            console.ended_by_sigterm(),
            exclusive(home / "run" / "demo.lock", timeout_seconds=LOCK_SECONDS),
            _bars(reading.example) as on_progress,
        ):
            outcome = asyncio.run(perform(build, reading.example, fingerprint(folder), on_progress))
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        console.fail(f"{info.reason if info else error.code().name}: {error.details()}")
    except (NeverQuiet, ServerFailed, SuiteFailed, TimeoutError) as error:
        console.fail(str(error) or type(error).__name__)
    # A file or a pipe has no width of its own.
    tell(console.out if console.out.is_terminal else Console(width=LINE_WIDTH), outcome)
    if reading.faults or outcome.sent.rejected or not outcome.report.content:
        raise typer.Exit(console.FAILED)


@contextmanager
def _bars(example: Example) -> Iterator[Callable[[Progress], None]]:
    """How far the story has come: a bar where somebody watches, a line for each month and phase where nobody does."""
    start = example.story.start
    total = (end_of(example.story) - start).total_seconds()
    columns = (SpinnerColumn(), TextColumn("{task.description:48}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console.problems, transient=True) as bars:
        task = bars.add_task("", total=total or 1.0)
        said = ""

        def on_progress(progress: Progress) -> None:
            nonlocal said
            text = progress.phase
            if progress.time is not None and progress.sent is not None:
                count = progress.sent.accepted + progress.sent.duplicate
                text = f"{progress.time:%d %B %Y}, {count:,} usage events"
                bars.update(task, completed=(progress.time - start).total_seconds())
            bars.update(task, description=text)
            step = f"{progress.time:%B %Y}" if progress.time is not None else progress.phase
            if step != said and not console.problems.is_terminal:
                console.problems.print(text, markup=False, highlight=False)
            said = step

        yield on_progress
