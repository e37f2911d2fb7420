"""Knows what the metering service must be told from outside."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, SecretStr, model_validator

from common.settings import ServiceSettings
from metering.log.sharing import SHARDS_MAX


class UsageStoreName(StrEnum):
    POSTGRESQL = "postgresql"
    CLICKHOUSE = "clickhouse"


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
    shards: int = Field(
        default=1,
        ge=1,
        le=SHARDS_MAX,
        description="among how many parts of the log, each with an owner, sellers are divided who are new",
    )
    archive_days_min: int = Field(
        default=430,
        ge=0,
        le=36_500,
        description="how many days back usage must lie to be archived: a year that is billed, and still corrected",
    )
    usage_store: UsageStoreName = Field(
        default=UsageStoreName.POSTGRESQL,
        description="which store counts usage that is queried, listed and frozen: the log, or its copy in ClickHouse",
    )
    clickhouse_url: SecretStr = Field(
        default=SecretStr(""),
        description="http(s)://user:password@host:port/database: where the log is copied to; empty copies nothing",
    )
    clickhouse_pause_seconds: float = Field(
        default=0.2,
        ge=0.01,
        le=60,
        description="how long copying rests when all is copied: how late usage is seen, and how many inserts there are",
    )
    clickhouse_wait_seconds: float = Field(
        default=0.5,
        ge=0,
        le=20,
        description="how long a question waits until what was stored before it is copied",
    )
    advertised_address: str = Field(
        default="",
        description="host:port at which other replicas reach this one; the address listened on, unless told",
    )

    @model_validator(mode="after")
    def _copied_where_it_counts(self) -> Self:
        if self.usage_store is UsageStoreName.CLICKHOUSE and not self.clickhouse_url.get_secret_value():
            raise ValueError("usage_store clickhouse needs clickhouse_url")
        return self
