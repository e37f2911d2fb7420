"""Knows streams that nobody else has, and how tests fill and empty them."""

from __future__ import annotations

import asyncio
import os

import nats

from common.bus import (
    Bus,
    Delivery,
    JetStreamBus,
    Message,
    StreamSpec,
    Subscription,
)
from libs.common.tests.conftest import STREAM_BYTES_MAX

ENOUGH_SECONDS = 20.0


def jetstream_bus(
    url: str, *, atomic: bool = True, timeout_seconds: float = 5.0, ack_wait_seconds: float = 30.0
) -> JetStreamBus:
    return JetStreamBus(
        url,
        atomic=atomic,
        timeout_seconds=timeout_seconds,
        ack_wait_seconds=ack_wait_seconds,
        stream_bytes_max=STREAM_BYTES_MAX,
    )


def subject(spec: StreamSpec, name: str) -> str:
    return spec.subjects[0].replace(">", name)


def another(spec: StreamSpec, number: int, name: str = "Happened") -> Message:
    return Message(
        id=f"evt_{number}",
        subject=subject(spec, name),
        headers={"ce-type": name, "ce-time": "2026-01-31T00:00:00Z"},
        data=f"{number}".encode(),
    )


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


async def everything(bus: Bus, spec: StreamSpec, *, durable: str = "reader") -> Subscription:
    return await bus.subscribe(spec.name, durable=durable, subjects=spec.subjects)


async def fetch_all(reader: Subscription, count: int, *, ack: bool = True) -> list[Delivery]:
    deliveries: list[Delivery] = []
    async with asyncio.timeout(ENOUGH_SECONDS):
        while len(deliveries) < count:
            deliveries += await reader.fetch(count - len(deliveries), ENOUGH_SECONDS)
    if ack:
        for delivery in deliveries:
            await delivery.ack()
    return deliveries


async def backlog_becomes(reader: Subscription, count: int) -> None:
    """Acknowledgements are on their way for a moment."""
    async with asyncio.timeout(ENOUGH_SECONDS):
        while await reader.backlog() != count:  # noqa: ASYNC110 - the server does not tell when
            await asyncio.sleep(0.02)


async def delete_stream(spec: StreamSpec) -> None:
    client = await nats.connect(os.environ["SALDO_NATS_URL"])
    await client.jsm().delete_stream(spec.name)
    await client.close()
