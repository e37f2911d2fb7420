"""Knows how the demo looks to whoever watches: what is wrong with the folder, how far the story is, what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc.aio
import typer
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from common.document import Malformed
from common.rpc import error_info
from common.travel import NeverQuiet
from tools.binaries import ServerFailed
from tools.commands import console
from tools.demo.example import Example
from tools.demo.folder import fingerprint, read_folder
from tools.demo.performance import Progress, perform
from tools.demo.telling import tell, tell_faults
from tools.demo.timeline import end_of
from tools.exclusive import exclusive
from tools.suite import Suite, SuiteFailed

LOCK_SECONDS: Final = 1.0
LINE_WIDTH: Final = 120


def show(home: Path, folder: Path, *, skip_bad_rows: bool) -> None:
    """Read a folder, play it in the suite at `home`, tell what came of it; leaves with an exit code if it is bad."""
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
    (home / "run").mkdir(parents=True, exist_ok=True)

    reached = [Progress(phase="")]

    def build(endpoint: str) -> Suite:
        return Suite(home, otlp_endpoint=endpoint)

    try:
        with (
            console.ended_by_sigterm(),
            exclusive(home / "run" / "demo.lock", timeout_seconds=LOCK_SECONDS),
            _bars(reading.example, reached) as on_progress,
        ):
            outcome = asyncio.run(perform(build, reading.example, fingerprint(folder), on_progress))
    except Malformed as error:
        tell_faults(console.problems, error.faults)
        console.fail(f"{folder}: nothing was loaded")
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        console.fail(f"{reached[-1].phase}: {info.reason if info else error.code().name}: {error.details()}")
    except (NeverQuiet, ServerFailed, SuiteFailed, TimeoutError) as error:
        console.fail(str(error) or type(error).__name__)
    # A file or a pipe has no width of its own.
    tell(console.out if console.out.is_terminal else Console(width=LINE_WIDTH, emoji=False), outcome)
    if reading.faults or outcome.sent.rejected or not outcome.report.content:
        raise typer.Exit(console.FAILED)


@contextmanager
def _bars(example: Example, reached: list[Progress]) -> Iterator[Callable[[Progress], None]]:
    """How far the story has come: a bar where somebody watches, a line for each month and phase where nobody does."""
    start = example.story.start
    total = (end_of(example.story) - start).total_seconds()
    columns = (SpinnerColumn(), TextColumn("{task.description:48}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console.problems, transient=True) as bars:
        task = bars.add_task("", total=total or 1.0)
        said = ""

        def on_progress(progress: Progress) -> None:
            nonlocal said
            reached[-1] = progress
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
