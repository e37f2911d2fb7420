"""Composes the two services; `python -m libs.common.tests.notebook.main notebook|archive` runs one."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from common.bus import Bus
from common.consumer import Handlers, batched
from common.db import Tx
from common.jobs import Job
from common.service import Service
from common.service import main as run
from libs.common.tests.notebook import store
from libs.common.tests.notebook.api import ArchiveApi, NotebookApi
from libs.common.tests.notebook.contracts import (
    archive_events_pb2,
    archive_pb2,
    events_pb2,
    note_pb2,
    notebook_grpc,
    notebook_pb2,
)
from libs.common.tests.notebook.settings import Settings

PACKAGE = "libs.common.tests.notebook"


def build_notebook(settings: Settings, *, bus: Bus | None = None) -> Service:
    neighbours = {notebook_grpc.NotebookServiceStub: settings.notebook_address}
    service = Service("notebook", settings, callers=("notebook",), neighbours=neighbours, bus=bus)
    service.publish(events_pb2)
    service.serve(
        notebook_pb2.DESCRIPTOR.services_by_name["NotebookService"], NotebookApi(service.database, service.desk)
    )
    service.schedule(JOBS)
    return service


def build_archive(settings: Settings, *, bus: Bus | None = None) -> Service:
    service = Service("archive", settings, bus=bus)
    service.publish(archive_events_pb2)
    service.serve(archive_pb2.DESCRIPTOR.services_by_name["ArchiveService"], ArchiveApi(service.database))
    service.consume(HANDLERS)
    return service


async def remind_of_note(tx: Tx, note_id: str) -> None:
    row = await store.note_by_id(tx, note_id, lock=True)
    if row is None or row.remind_time is None or row.remind_time > tx.now:
        return
    await store.remind(tx, note_id)
    note = note_pb2.Note(id=note_id, text=str(row.text), reminder_count=row.reminder_count + 1)
    await tx.emit(events_pb2.NoteReminded(note=note))


async def on_note_written(tx: Tx, event: Any) -> None:  # Any: compiled when the tests run
    await store.archive(tx, note_id=event.note.id, text=event.note.text)
    entry = archive_events_pb2.Entry(id=event.note.id)
    await tx.emit(archive_events_pb2.NoteArchived(entry=entry))


@batched
async def on_notes_reminded(tx: Tx, events: list[Any]) -> None:  # Any: as above
    """Counts how often each note was reminded of, in one statement."""
    await tx.driver.execute(
        "UPDATE archived a SET handled = a.handled + n.times FROM ("
        " SELECT id, count(*) AS times FROM unnest($1::text[]) AS t (id) GROUP BY id"
        ") n WHERE a.note_id = n.id",
        [event.note.id for event in events],
    )


HANDLERS: Handlers = {events_pb2.NoteWritten: on_note_written, events_pb2.NoteReminded: on_notes_reminded}


def reminder(run: Callable[[Tx, str], Awaitable[None]]) -> Job:
    return Job(name="remind of notes", due=store.REMINDERS_DUE, run=run)


JOBS: Sequence[Job] = [reminder(remind_of_note)]

BUILDERS = {"notebook": build_notebook, "archive": build_archive}

if __name__ == "__main__":
    run(BUILDERS[sys.argv.pop(1)], Settings, package=PACKAGE)
