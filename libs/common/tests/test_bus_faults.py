"""What only the double of the bus does: misbehave on request."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from common.bus import (
    MemoryBus,
    StreamSpec,
)
from libs.common.tests.streams import (
    ENOUGH_SECONDS,
    another,
    everything,
)


async def test_a_faulty_bus_still_delivers_everything(spec: StreamSpec) -> None:
    """The simulation tests consumers, so each fault has to happen and none may swallow a message."""
    bus = MemoryBus(seed=1, duplicate=0.2, reorder=0.2, lose=0.2, ack_loss=0.2, ack_wait_seconds=0.05)
    arrivals = await through(bus, spec, count=300)
    first = list(dict.fromkeys(message_id for message_id, _ in arrivals))
    assert sorted(first) == sorted(f"evt_{number}" for number in range(300))
    assert first != [f"evt_{number}" for number in range(300)]
    assert max(Counter(message_id for message_id, _ in arrivals).values()) > 1
    assert any(attempt > 1 for _, attempt in arrivals)
    assert len(bus.published(spec.name)) == 300


@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
async def test_a_seed_repeats_itself(spec: StreamSpec, fault: str) -> None:
    """A failed simulation prints its seed, and that has to be enough."""
    same, again, other = [await through(MemoryBus(seed=seed, **{fault: 0.3}), spec, count=100) for seed in (7, 7, 8)]
    assert same == again
    assert same != other


async def test_an_echo_counts_as_backlog(spec: StreamSpec) -> None:
    """Quiet must not be reported while a duplicate is still to come."""
    bus = MemoryBus(seed=1, duplicate=0.99)
    await bus.ensure_stream(spec)
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, 1)])
    (delivery,) = await reader.fetch(10, 1.0)
    await delivery.ack()
    assert await reader.backlog() == 1
    (echo,) = await reader.fetch(10, 1.0)
    assert (echo.id, echo.attempt) == (delivery.id, 2)


async def test_an_id_is_forgotten_after_the_duplicate_window(spec: StreamSpec) -> None:
    """A server does not remember for ever, so consumers must."""
    bus = MemoryBus(duplicate_window_seconds=0.05)
    await bus.ensure_stream(spec)
    await bus.publish(spec.name, [another(spec, 1), another(spec, 1)])
    await asyncio.sleep(0.1)
    await bus.publish(spec.name, [another(spec, 1)])
    assert [message.id for message in bus.published(spec.name)] == ["evt_1", "evt_1"]


async def through(bus: MemoryBus, spec: StreamSpec, *, count: int) -> list[tuple[str, int]]:
    """Publish and handle `count` messages until nothing is left; what arrived, in order of arrival."""
    await bus.ensure_stream(spec)
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, number) for number in range(count)])
    arrivals: list[tuple[str, int]] = []
    async with asyncio.timeout(ENOUGH_SECONDS):
        while await reader.backlog():
            for delivery in await reader.fetch(10, 0.1):
                arrivals.append((delivery.id, delivery.attempt))
                await delivery.ack()
    return arrivals
