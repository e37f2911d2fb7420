"""The notebook's RPCs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy import text

from common import errors, telemetry, wire
from common.auth import EVERYONE
from common.db import Database, Tx
from common.rpc import Desk, open_to, transactional
from libs.common.tests.notebook import store
from libs.common.tests.notebook.contracts import archive_grpc, archive_pb2, events_pb2, note_pb2, notebook_grpc
from libs.common.tests.notebook.contracts import notebook_pb2 as pb


class NoteNotFound(errors.NotFound):
    """There is no such note."""


class NotebookFull(errors.ResourceExhausted):
    """No page is left."""


class NoteGone(errors.FailedPrecondition):
    """The page was torn out."""


class NotebookAway(errors.Unavailable):
    """Somebody else has the notebook."""


class NotebookApi(notebook_grpc.NotebookServiceServicer):  # type: ignore[misc] # compiled when the tests run
    instances: ClassVar[list[NotebookApi]] = []
    """For tests that have to reach behind the RPCs."""

    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        NotebookApi.instances.append(self)
        self.database = database
        self._desk = desk
        self.entered = asyncio.Event()
        self.proceed = asyncio.Event()

    async def EchoNote(self, request: Any, context: object) -> Any:  # Any here and below: messages compiled late
        return note_pb2.Note(text=request.text)

    @transactional
    async def JotNote(self, request: Any, tx: Tx) -> Any:
        return note_pb2.Note(id=await store.add_note(tx, text=request.text), text=request.text)

    @transactional
    async def WriteNote(self, request: Any, tx: Tx) -> note_pb2.Note:
        said = wire.text(request.text, field="text", max_length=1_000)
        when = None
        if request.HasField("remind_time"):
            when = wire.parse_timestamp(request.remind_time, field="remind_time")
        note_id = await store.add_note(tx, text=said, remind_time=when, traceparent=telemetry.traceparent())
        note = note_pb2.Note(id=note_id, text=said)
        if when is not None:
            note.remind_time.CopyFrom(wire.timestamp(when))
        await tx.emit(events_pb2.NoteWritten(note=note))
        return note

    @transactional
    async def GetNote(self, request: Any, tx: Tx) -> Any:
        row = await store.note_by_id(tx, request.id)
        if row is None:
            raise NoteNotFound(f"there is no note {request.id}", id=request.id)
        return note_pb2.Note(id=row.id, text=row.text, reminder_count=row.reminder_count)

    @open_to(EVERYONE)
    @transactional
    async def SpoilNote(self, request: Any, tx: Tx) -> note_pb2.Note:
        """Write something, then fail: nothing may be left of it."""
        note_id = await store.add_note(tx, text="spoilt")
        await tx.emit(events_pb2.NoteWritten(note=note_pb2.Note(id=note_id, text="spoilt")))
        match request.how:
            case "not found":
                raise NoteNotFound("there is no such note", id="note_1")
            case "several fields":
                raise errors.InvalidArgument.of(
                    [
                        errors.Violation("text", "must not be empty"),
                        errors.Violation("items[1].count", "must be positive"),
                    ]
                )
            case "full":
                raise NotebookFull("no page is left", retry_seconds=7)
            case "full for ever":
                raise NotebookFull("no page is left", retry_seconds=None)
            case "gone":
                raise NoteGone("the page was torn out", page=12)
            case "away":
                raise NotebookAway("somebody has it", retry_seconds=3)
            case "denied":
                raise errors.PermissionDenied("not yours")
            case "exists":
                raise errors.AlreadyExists("there is one")
            case "aborted":
                raise errors.Aborted("somebody was faster")
            case "bug":
                raise RuntimeError("password=hunter2")
            case "bad sql":
                await tx.execute(text("SELECT * FROM nowhere"))
            case "swallowed":
                # A handler that hides an error of the database from the door.
                with contextlib.suppress(Exception):
                    await tx.execute(text("SELECT 1/0"))
                tx._emitted.clear()
            case "lock":
                await tx.execute(text("SET LOCAL lock_timeout = '50ms'"))
                await tx.execute(text("SELECT pg_advisory_xact_lock(1)"))
            case "slow":
                await tx.execute(text("SET LOCAL statement_timeout = '50ms'"))
                await tx.execute(text("SELECT pg_sleep(5)"))
            case "file":
                raise FileNotFoundError("/etc/secret")
            case "wait":
                self.entered.set()
                await asyncio.wait_for(self.proceed.wait(), 20)
            case "doze":
                await tx.execute(text("SELECT pg_sleep(1)"))
            case "two at once":
                await asyncio.gather(tx.driver.execute("SELECT pg_sleep(0.1)"), tx.driver.execute("SELECT 2"))
        return note_pb2.Note(id=note_id, text="not spoilt")

    async def ForwardNote(self, request: Any, context: object) -> Any:
        return (
            await self._desk().ask(notebook_grpc.NotebookServiceStub).WriteNote(pb.WriteNoteRequest(text=request.text))
        )


class ArchiveApi(archive_grpc.ArchiveServiceServicer):  # type: ignore[misc] # compiled when the tests run
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def GetArchive(self, request: Any, tx: Tx) -> Any:
        return archive_pb2.Archive(note_count=await store.archived_count(tx))
