"""Notes, and the archive of notes."""

from __future__ import annotations

from common.migrate import create_chassis, protect, run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_chassis()
    run_script(
        """
        CREATE TABLE notes (
            seller_id text NOT NULL,
            id text NOT NULL,
            text text NOT NULL,
            remind_time timestamptz,
            reminder_count integer NOT NULL,
            traceparent text NOT NULL,
            PRIMARY KEY (seller_id, id)
        );
        CREATE INDEX notes_remind_time ON notes (remind_time) WHERE remind_time IS NOT NULL;
        CREATE TABLE archived (
            seller_id text NOT NULL,
            note_id text NOT NULL,
            text text NOT NULL,
            handled integer NOT NULL,
            archive_time timestamptz NOT NULL DEFAULT clock_timestamp(),
            CONSTRAINT archived_note UNIQUE (seller_id, note_id)
        );
        """
    )
    protect("notes", "archived")
