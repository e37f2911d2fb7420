"""Usage events are voided and amended: what was accepted stays, and the log says from where on it no longer counts."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_script(
        """
        ALTER TABLE usage_log ADD COLUMN corrects bigint, ADD COLUMN version integer;
        COMMENT ON COLUMN usage_log.corrects IS
            'the position of the event that this row takes away; then it is no event itself';
        COMMENT ON COLUMN usage_log.version IS
            'how often the event had been amended, with this; NULL as it was ingested';

        CREATE OR REPLACE VIEW usage_events WITH (security_invoker = true) AS
            SELECT e.seller_id, e.position, s.source, e.event_id, n.customer, n.meter, e.time, e.value, e.dimensions,
                   e.leaf, e.corrects, e.version
            FROM usage_log e
            JOIN usage_streams n ON n.stream = e.stream
            JOIN usage_sources s ON s.number = e.source;

        CREATE TABLE usage_corrections (
            seller_id text NOT NULL,
            corrects bigint NOT NULL,
            position bigint NOT NULL CHECK (position > corrects),
            amended_position bigint CHECK (amended_position > position),
            source text COLLATE "C" NOT NULL,
            event_id text COLLATE "C" NOT NULL,
            number integer NOT NULL,
            stream bigint NOT NULL,
            day date NOT NULL,
            reason text NOT NULL,
            actor text NOT NULL,
            request_id text NOT NULL,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, corrects),
            CONSTRAINT usage_corrections_position UNIQUE (seller_id, position),
            CONSTRAINT usage_corrections_number UNIQUE (seller_id, source, event_id, number)
        );
        COMMENT ON TABLE usage_corrections IS 'who voided or amended which usage event, and why';
        COMMENT ON COLUMN usage_corrections.position IS 'of the row that takes it away: from here on it does not count';
        COMMENT ON COLUMN usage_corrections.amended_position IS 'of the event as it was amended; NULL if it was voided';
        COMMENT ON COLUMN usage_corrections.day IS
            'of UTC, of what was taken away: its sum counts for nothing any more';
        CREATE INDEX usage_corrections_stream ON usage_corrections (stream, day);

        ALTER TABLE late_usages ADD COLUMN announced_corrected_count bigint NOT NULL DEFAULT 0;
        """
    )
    protect("usage_corrections")
