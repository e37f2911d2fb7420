"""Knows what dunning must be told from outside."""

from __future__ import annotations

from pydantic import Field

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    payments_address: str = Field(default="payments:50051", description="where payments answers")
    subscriptions_address: str = Field(default="subscriptions:50051", description="where subscriptions answers")
