"""The tables of both services."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from common.db import Tx

metadata = MetaData()

notes = Table(
    "notes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("remind_time", TIMESTAMP(timezone=True)),
    Column("reminder_count", Integer, nullable=False),
    Column("traceparent", Text, nullable=False),
)
Index("notes_remind_time", notes.c.remind_time, postgresql_where=notes.c.remind_time.is_not(None))

archived = Table(
    "archived",
    metadata,
    Column("seller_id", Text, nullable=False),
    Column("note_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("handled", Integer, nullable=False),
    Column("archive_time", TIMESTAMP(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("seller_id", "note_id", name="archived_note"),
)

REMINDERS_DUE = select(notes.c.seller_id, notes.c.id, notes.c.remind_time.label("due_time"), notes.c.traceparent).where(
    notes.c.remind_time.is_not(None)
)


async def add_note(tx: Tx, *, text: str, remind_time: datetime | None = None, traceparent: str = "") -> str:
    note_id = tx.new_id("note")
    await tx.execute(
        insert(notes),
        {
            "seller_id": tx.seller_id,
            "id": note_id,
            "text": text,
            "remind_time": remind_time,
            "reminder_count": 0,
            "traceparent": traceparent,
        },
    )
    return note_id


async def note_by_id(tx: Tx, note_id: str, *, lock: bool = False) -> Row[tuple[object, ...]] | None:
    wanted = select(notes).where(notes.c.seller_id == tx.seller_id, notes.c.id == note_id)
    return (await tx.execute(wanted.with_for_update() if lock else wanted)).one_or_none()


async def remind(tx: Tx, note_id: str, *, again: datetime | None = None) -> None:
    await tx.execute(
        update(notes)
        .where(notes.c.seller_id == tx.seller_id, notes.c.id == note_id)
        .values(remind_time=again, reminder_count=notes.c.reminder_count + 1)
    )


async def note_count(tx: Tx) -> int:
    count: int = (await tx.execute(select(func.count()).select_from(notes))).scalar_one()
    return count


async def archive(tx: Tx, *, note_id: str, text: str) -> None:
    """Without protection against doing it twice: the inbox has to see to that, and the unique constraint tells."""
    await tx.execute(insert(archived), {"seller_id": tx.seller_id, "note_id": note_id, "text": text, "handled": 1})


async def archived_count(tx: Tx) -> int:
    count: int = (await tx.execute(select(func.count()).select_from(archived))).scalar_one()
    return count
