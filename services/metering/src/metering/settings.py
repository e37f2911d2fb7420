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
