"""Knows what the catalog must be told from outside."""

from __future__ import annotations

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    """Nothing beyond what every service is told."""
