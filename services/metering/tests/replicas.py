"""Knows how another replica of metering is started beside the one of a suite: on its database, with its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from common.testing import Suite
from metering.main import build
from metering.settings import Settings


@asynccontextmanager
async def beside(suite: Suite, **more: Any) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:  # Any: its settings
    """Its address, and a channel to it."""
    settings = Settings(
        database_url=suite.urls["metering"],  # type: ignore[arg-type] # pydantic makes a secret of it
        listen="127.0.0.1:0",
        auth_jwks=suite.keys.jwks,
        auth_key=suite.keys.private("metering"),
        log_level="warning",
        drain_seconds=0.5,
        **more,
    )
    service = build(settings, bus=suite.bus)
    async with service.running() as address, grpc.aio.insecure_channel(address) as channel:
        yield address, channel
        service.stop()
