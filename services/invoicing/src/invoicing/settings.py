"""Knows what the invoicing service must be told from outside."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    catalog_address: str = Field(default="catalog:50051", description="host:port of the catalog")
    subscriptions_address: str = Field(default="subscriptions:50051", description="host:port of subscriptions")
    metering_address: str = Field(default="metering:50051", description="host:port of metering")
    grace_seconds: int = Field(
        default=3_600, ge=0, le=30 * 86_400, description="how long a draft with metered lines waits for late usage"
    )
    spend_look_seconds: int = Field(
        default=3_600,
        ge=60,
        le=86_400,
        description="how often usage is looked at that has a spend threshold",
    )
    sandbox_spend_look_seconds: int = Field(
        default=86_400,
        ge=60,
        le=86_400,
        description="the same of sandboxes, whose time stops at every look while it is travelled",
    )
    font_folder: Path | None = Field(
        default=None, description="more fonts for documents, for scripts such as Chinese, Japanese, Korean or Thai"
    )
