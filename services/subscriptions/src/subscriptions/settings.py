"""Knows what subscriptions must be told from outside."""

from __future__ import annotations

from pydantic import Field

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    catalog_address: str = Field(default="catalog:50051", description="host:port of the catalog, which knows the plans")
