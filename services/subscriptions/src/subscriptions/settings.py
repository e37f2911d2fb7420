"""Knows what subscriptions must be told from outside."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    master_keys: Path = Field(
        description="file of master keys, under which those of personal data are kept: lines of id:base64, newest first"
    )
    vies_address: str = Field(
        default="", description="where VIES, which verifies VAT numbers, begins; empty: not asked"
    )
    tax_authority_timeout_seconds: float = Field(
        default=10, gt=0, le=60, description="how long to wait for a tax authority's answer before there is none"
    )
    catalog_address: str = Field(default="catalog:50051", description="host:port of the catalog, which knows the plans")
