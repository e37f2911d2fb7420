"""The bus that carries events between services: its promise, and the two implementations that keep it."""

from __future__ import annotations

from common.bus.jetstream import JetStreamBus
from common.bus.memory import MemoryBus
from common.bus.port import (
    Bus,
    BusUnavailable,
    Delivery,
    Message,
    MessageTooLarge,
    StreamSpec,
    Subscription,
)

__all__ = [
    "Bus",
    "BusUnavailable",
    "Delivery",
    "JetStreamBus",
    "MemoryBus",
    "Message",
    "MessageTooLarge",
    "StreamSpec",
    "Subscription",
]
