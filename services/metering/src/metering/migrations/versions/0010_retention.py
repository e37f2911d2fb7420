"""Meters say how old usage may be when it comes, and leaves of the log may be archived."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE meters
            ADD COLUMN accepts_days integer NOT NULL DEFAULT 0,
            ADD CONSTRAINT meters_accepts_days CHECK (accepts_days >= 0);

        ALTER TABLE usage_leaves
            ADD COLUMN archive_digest text,
            DROP CONSTRAINT usage_leaves_state_check,
            ADD CONSTRAINT usage_leaves_state_check
                CHECK (state IN ('READY', 'OPEN', 'FULL', 'SEALED', 'ARCHIVED')),
            ADD CONSTRAINT usage_leaves_archived CHECK ((state = 'ARCHIVED') = (archive_digest IS NOT NULL)),
            ADD CONSTRAINT usage_leaves_archived_summed CHECK (state <> 'ARCHIVED' OR is_summed);
        COMMENT ON COLUMN usage_leaves.archive_digest IS 'of all that was in it when it was archived';

        CREATE TABLE usage_archives (
            seller_id text NOT NULL,
            leaf integer NOT NULL,
            stream bigint NOT NULL,
            event_count bigint NOT NULL,
            first_position bigint NOT NULL,
            last_position bigint NOT NULL,
            start_time timestamptz NOT NULL,
            end_time timestamptz NOT NULL,
            PRIMARY KEY (leaf, stream)
        );
        COMMENT ON TABLE usage_archives IS 'the usage events that are in files and no longer in the log';
        COMMENT ON COLUMN usage_archives.end_time IS 'of the latest event';
        CREATE INDEX usage_archives_stream ON usage_archives (stream, start_time);

        -- A row for every key would take four times as much.
        CREATE TABLE usage_keys (
            seller_id text NOT NULL DEFAULT '*',
            leaf integer NOT NULL,
            first_key uuid NOT NULL,
            keys uuid[] NOT NULL,
            PRIMARY KEY (leaf, first_key)
        );
        ALTER TABLE usage_keys ALTER COLUMN keys SET STORAGE PLAIN;
        COMMENT ON TABLE usage_keys IS 'the keys of the leaves that are archived, in order, some in a row';
        """
    )
    protect("usage_archives", "usage_keys")
