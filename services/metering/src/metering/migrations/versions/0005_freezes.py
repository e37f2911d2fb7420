"""Usages are frozen, and what comes too late for them is found."""

from __future__ import annotations

from common.migrate import protect, run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(
        """
        CREATE TABLE usage_freezes (
            seller_id text NOT NULL,
            id text NOT NULL,
            customer_id text NOT NULL,
            external_id text NOT NULL,
            names text[] NOT NULL,
            meter text NOT NULL,
            start_time timestamptz NOT NULL,
            end_time timestamptz NOT NULL CHECK (end_time > start_time),
            counted_from timestamptz NOT NULL CHECK (counted_from <= start_time),
            quantity numeric NOT NULL,
            event_count bigint NOT NULL,
            digest text NOT NULL,
            through_position bigint NOT NULL,
            replaces text,
            create_time timestamptz NOT NULL,
            PRIMARY KEY (seller_id, id),
            CONSTRAINT usage_freezes_replaces UNIQUE (seller_id, replaces)
        );
        COMMENT ON TABLE usage_freezes IS 'usages as they were counted once, for ever';
        COMMENT ON COLUMN usage_freezes.counted_from IS 'before start_time if the meter looks further back';
        COMMENT ON COLUMN usage_freezes.replaces IS 'the frozen usage that this one takes the place of';
        CREATE INDEX usage_freezes_customer ON usage_freezes (seller_id, customer_id, id);
        CREATE INDEX usage_freezes_end ON usage_freezes (seller_id, end_time);

        CREATE FUNCTION refuse_change_of_frozen_usage() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a frozen usage never changes';
        END $$;
        CREATE TRIGGER usage_freezes_change BEFORE UPDATE OR DELETE ON usage_freezes
            FOR EACH ROW EXECUTE FUNCTION refuse_change_of_frozen_usage();

        CREATE TABLE usage_freeze_names (
            seller_id text NOT NULL,
            meter text NOT NULL,
            customer text NOT NULL,
            freeze_id text NOT NULL,
            PRIMARY KEY (seller_id, meter, customer, freeze_id)
        );
        COMMENT ON TABLE usage_freeze_names IS
            'by what usage events name them, the frozen usages that they may be late for';

        CREATE TABLE late_looks (
            seller_id text PRIMARY KEY,
            leaf integer NOT NULL,
            position bigint NOT NULL,
            next_time timestamptz
        );
        COMMENT ON TABLE late_looks IS
            'how far each seller''s log is looked through for late usage: before the leaf, and to the position';

        CREATE TABLE late_usages (
            seller_id text NOT NULL,
            freeze_id text NOT NULL,
            position bigint NOT NULL,
            announced_position bigint NOT NULL DEFAULT 0,
            announced_count bigint NOT NULL DEFAULT 0,
            PRIMARY KEY (seller_id, freeze_id)
        );
        COMMENT ON TABLE late_usages IS 'the frozen usages, not replaced, for which something came too late';
        COMMENT ON COLUMN late_usages.position IS 'of the last usage event that was found to be late';
        CREATE INDEX late_usages_due ON late_usages (position) WHERE position > announced_position;

        -- Leaves are nobody's. Which there are tells nothing of anybody, and says where to look for what is new.
        CREATE POLICY readable ON usage_leaves FOR SELECT USING (true);
        """
    )
    protect("usage_freezes", "usage_freeze_names", "late_looks", "late_usages")
