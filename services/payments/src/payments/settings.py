"""Knows what payments must be told from outside."""

from __future__ import annotations

from pydantic import Field, SecretStr

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    invoicing_address: str = Field(default="invoicing:50051", description="where invoicing answers")
    gateway_timeout_seconds: float = Field(
        default=10, gt=0, le=60, description="how long to wait for a gateway's answer before it counts as lost"
    )
    simulated_gateway_url: SecretStr = Field(
        default=SecretStr(""),
        description="its own postgresql://… database; empty: no such gateway",
    )
    stripe_api_key: SecretStr = Field(default=SecretStr(""), description="Stripe's secret key; empty: no Stripe")
    ask_gateway_first: bool = Field(
        default=False, description="ask the gateway about an attempt before it is made: after a backup was restored"
    )
    stripe_api_base: str = Field(default="", description="where Stripe's API is; empty: at Stripe")
