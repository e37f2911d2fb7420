"""Knows what the metering service must be told from outside."""

from __future__ import annotations

from pydantic import Field

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    event_ahead_hours_max: int = Field(
        default=24,
        ge=0,
        le=8_760,
        description="how far ahead of the seller's time a usage event may lie: senders' clocks differ",
    )
    leaf_rows: int = Field(
        default=1_000_000,
        ge=1,
        le=10_000_000,
        description="how many usage events a part of the log has before the next one is begun and it gets its indexes",
    )
    archive_days_min: int = Field(
        default=430,
        ge=0,
        le=36_500,
        description="how many days back usage must lie to be archived: a year that is billed, and still corrected",
    )
    advertised_address: str = Field(
        default="",
        description="host:port at which other replicas reach this one; the address listened on, unless told",
    )
