"""A seller stays in its shard, and only that one's owner writes: two would not know of each other's usage events."""

from __future__ import annotations

from common.migrate import run_script

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # A replica of the release before writes to shard 0 and says nothing; as long as all sellers are there nothing is
    # asked of anybody.
    run_script(
        """
        CREATE FUNCTION refuse_other_shard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.shard <> NEW.shard OR current_setting('saldo.shard', true) IS DISTINCT FROM OLD.shard::text THEN
                RAISE EXCEPTION '% is in another shard', OLD.seller_id;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER positions_shard BEFORE UPDATE ON positions
            FOR EACH ROW WHEN (OLD.shard <> 0 OR NEW.shard <> 0) EXECUTE FUNCTION refuse_other_shard();
        """
    )
