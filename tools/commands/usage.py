"""Knows `saldo usage`: usage from files, and into files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import Progress as Bar

from common.caller import Role
from saldo.metering.v1 import archive_service_pb2 as pb
from tools.archives import ArchiveBroken, Folder, archive_leaf, restore_leaf
from tools.client import Client, pages
from tools.commands import console
from tools.imports.layout import Layout, Unusable
from tools.imports.progress import Progress, fingerprint
from tools.imports.reading import Place, reader_of
from tools.imports.sending import Rejection, Tally, send

REJECTIONS_SHOWN: Final = 100
NAMES_SHOWN: Final = 20
PATIENCE_SECONDS: Final = 120.0
"""A service that is restarted, or has too much to do, is waited for."""

app = typer.Typer(help="Usage from files, and into files.", no_args_is_help=True)


@app.callback()
def usage() -> None:
    """Usage from files, and into files."""


@app.command(name="import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=".csv (or .tsv), .jsonl (or .ndjson) or .parquet")],
    seller: console.Seller,
    column: Annotated[
        list[str] | None,
        typer.Option(help="NAME=COLUMN: the column of a field or dimension, where it is not called so; repeatable"),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="a column to leave out; repeatable")] = None,
    source: Annotated[str, typer.Option(help="the source of all rows; without a column of sources, `import`")] = "",
    customer: Annotated[str, typer.Option(help="the customer of all rows")] = "",
    meter: Annotated[str, typer.Option(help="the code of the meter of all rows")] = "",
    id_columns: Annotated[
        str, typer.Option(help="without a column of ids, make them of these, as `household,time`")
    ] = "",
    time_zone: Annotated[str, typer.Option(help="of times that do not tell their offset, as Europe/London")] = "",
    state: Annotated[
        Path | None, typer.Option(help="where to keep how far it has got; FILE.import.json if left out")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="from the beginning; what was stored is a duplicate")
    ] = False,
    backfill: Annotated[
        str, typer.Option(help="the id of an open backfill to load it into; it counts when that is closed")
    ] = "",
) -> None:
    """Send a file of usage, each row once however often it is sent. The exit code is 1 if a row was rejected.

    The columns id, source, customer, meter, time and value mean what they do in a usage event; every other one is a
    dimension. Without a column of ids they are made of the name of the file and the number of the row: the same
    rows under another name or in another order would then count again.
    """
    constants = {"source": source, "customer": customer, "meter": meter}
    layout = Layout(
        file_name=file.name.encode(errors="surrogateescape").decode(errors="replace"),
        columns=_columns(column or []),
        constants={name: text for name, text in constants.items() if text},
        without=frozenset(without or ()),
        id_columns=tuple(name.strip() for name in id_columns.split(",") if name.strip()),
        time_zone=_zone(time_zone),
    )
    on_behalf_of = console.seller_id(seller)
    try:
        reader = reader_of(file, layout)
        of = fingerprint(file, seller=on_behalf_of, layout=layout.digest() + backfill)
    except Unusable as error:
        console.fail(f"{file}: {error}", code=console.MISUSED)
    progress = Progress(state or file.with_name(file.name + ".import.json"), of)
    place, tally = (Place(), Tally()) if restart else progress.load()
    if place.offset:
        console.out.print(f"goes on after line {place.line} of {file}", markup=False, highlight=False, soft_wrap=True)
    told = _Telling(file)
    is_kept = True

    with Bar(console=console.problems, transient=True, disable=not console.problems.is_terminal) as bar:
        task = bar.add_task(file.name, total=reader.size, completed=place.offset)

        def done(to: Place) -> None:
            nonlocal is_kept, place
            place = to
            bar.update(task, completed=to.offset)
            if is_kept:
                try:
                    progress.save(to, tally)
                except OSError as error:
                    is_kept = False
                    told.note(
                        f"{progress.path} cannot be written ({error.strerror}): interrupted, it would begin anew,"
                        " and what was stored would be a duplicate. --state says another place"
                    )

        async def work(client: Client) -> None:
            try:
                records = reader.records(place)
                await send(client, records, layout, tally, tell=told.rejection, done=done, backfill_id=backfill)
            except Unusable as error:
                console.fail(f"{file}: {error}; what comes before is sent up to line {place.line}")

        try:
            console.run(
                work, console.suite(context), role=Role.OWNER, seller=on_behalf_of, patience_seconds=PATIENCE_SECONDS
            )
        except (typer.Exit, KeyboardInterrupt):
            told.note(f"stopped after line {place.line}: the same command goes on there")
            raise
    progress.forget()
    _summary(tally, told)
    if tally.rejected:
        raise typer.Exit(console.FAILED)


@app.command()
def archive(
    context: typer.Context,
    before: Annotated[str, typer.Option(help="only what happened before, as 2025-01-01T00:00:00Z", show_default=False)],
    to: Annotated[Path, typer.Option(help="the folder for the files", show_default=False)],
) -> None:
    """Move old usage events out of the log into Parquet, a file and a manifest for each part of the log.

    A part leaves the log when its file has been read back. Interrupted, the same command goes on. Repeats of what is
    archived are recognised for ever; what needs the events themselves is refused until they are restored.
    """
    time = Timestamp()
    time.FromDatetime(console.instant(before, option="--before"))

    async def work(client: Client) -> None:
        folder, count, events = Folder(to), 0, 0
        request = pb.ListArchivableLeavesRequest(before_time=time, page_size=1000)
        answer = pb.ListArchivableLeavesResponse
        async for page in pages(client.archives.ListArchivableLeaves, request, answer):
            for leaf in page.leaves:
                content = await archive_leaf(client, leaf, folder)
                count, events = count + 1, events + content.event_count
                _say(f"{folder.path(leaf.leaf)}: {content.event_count:,} events")
        _say(f"{count} files, {events:,} events")

    _carry_out(context, work)


@app.command()
def restore(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help=".parquet, as archived, each with its .json beside it")],
) -> None:
    """Put archived usage events back into the log: every answer is again what it was before."""

    async def work(client: Client) -> None:
        for file in files:
            content = await restore_leaf(client, file, Folder(file.parent))
            _say(f"{file}: {content.event_count:,} events are back")

    _carry_out(context, work)


def _carry_out(context: typer.Context, work: console.Work) -> None:
    async def whole(client: Client) -> None:
        try:
            await work(client)
        except ArchiveBroken as error:
            console.fail(str(error))

    console.run(whole, console.suite(context), role=Role.PLATFORM, patience_seconds=PATIENCE_SECONDS)


def _say(text: str) -> None:
    console.out.print(text, markup=False, highlight=False, soft_wrap=True)


def _columns(pairs: list[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, column = pair.partition("=")
        if not (name and separator and column):
            console.fail(f"--column must be NAME=COLUMN, not {pair!r}", code=console.MISUSED)
        if name in found or column in found.values():
            console.fail(f"--column {pair}: {name} or {column} is told twice", code=console.MISUSED)
        found[name] = column
    return found


def _zone(name: str) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        console.fail(f"--time-zone: there is no {name!r}: it must be one like Europe/London", code=console.MISUSED)


class _Telling:
    """What is said while it goes on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rejections = 0

    def rejection(self, rejection: Rejection) -> None:
        self.rejections += 1
        if self.rejections <= REJECTIONS_SHOWN:
            column = f"{rejection.column}: " if rejection.column else ""
            self.note(f"{self._file}:{rejection.line}: {column}{rejection.reason}")

    def note(self, text: str) -> None:
        console.problems.print(text, markup=False, highlight=False, soft_wrap=True)


def _summary(tally: Tally, told: _Telling) -> None:
    if told.rejections > REJECTIONS_SHOWN:
        told.note(f"and {told.rejections - REJECTIONS_SHOWN} more")
    for (reason, name), count in tally.names.most_common(NAMES_SHOWN):
        told.note(f"{reason}: {count} events of {name}: they count when it appears")
    if len(tally.names) > NAMES_SHOWN:
        told.note("and of others: metering.ListUnmatchedUsage tells them all")
    console.out.print(
        f"{tally.accepted:,} accepted, {tally.duplicate:,} duplicate, {tally.unmatched:,} unmatched,"
        f" {tally.rejected:,} rejected",
        markup=False,
        highlight=False,
    )
