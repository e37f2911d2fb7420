"""Knows what every service must be told from outside: where its servers are, and who it is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Read once, in `main.py`, from the environment (`SALDO_…`) and from files of mounted secrets."""

    model_config = SettingsConfigDict(
        env_prefix="SALDO_", secrets_dir=None, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr = Field(description="postgresql+asyncpg://… of the service's own database")
    nats_url: str = Field(default="nats://127.0.0.1:4222", description="the NATS server, with JetStream")
    listen: str = Field(default="0.0.0.0:50051", description="where to serve gRPC; port 0 takes a free one")
    auth_jwks: Path = Field(description="JSON Web Key Set with the public keys of everyone whose tokens are accepted")
    auth_key: Path = Field(description="PEM of the service's own Ed25519 key, with which it signs calls to others")
    otlp_endpoint: str = Field(default="", description="host:port of an OTLP/gRPC collector; empty exports nothing")
    ready_file: Path | None = Field(default=None, description="written with the address once the service listens")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    database_pool_size: int = Field(default=8, ge=2, le=100)
    jobs_poll_seconds: float = Field(default=1.0, gt=0, le=60, description="how long a due job may go unnoticed")
    jobs_concurrency: int = Field(default=4, ge=1, le=64)
    relay_poll_seconds: float = Field(default=0.2, gt=0, le=60, description="how long an event of a replica may wait")
    ack_wait_seconds: float = Field(
        default=30, ge=0.5, le=600, description="after how long a message that a consumer died with goes to another"
    )
    stream_bytes_max: int = Field(default=1 << 30, ge=1 << 20, description="size limit of the service's stream")
    drain_seconds: float = Field(
        default=10, ge=0, le=120, description="how long a stopping service finishes what it has begun"
    )
