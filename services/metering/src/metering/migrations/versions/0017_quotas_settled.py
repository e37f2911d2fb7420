"""Settled reservations of quota are forgotten in time, and alerts say by which version of the meter was counted."""

from __future__ import annotations

from common.migrate import run_script

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_script(
        """
        CREATE INDEX quota_reservations_forgotten
            ON quota_reservations (((end_time AT TIME ZONE 'UTC' + interval '35 days') AT TIME ZONE 'UTC'))
            WHERE end_time IS NOT NULL;

        ALTER TABLE usage_alerts ADD COLUMN meter_version integer NOT NULL DEFAULT 0;
        COMMENT ON COLUMN usage_alerts.meter_version IS
            'the version of the meter by which it was counted; 0 if it was before that was noted';
        """
    )
