"""Whatever is killed in the middle of a story, it ends with the same figures."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.sandbox import Sandbox
from tests.support.story import EXPECTED, tell
from tools.stack import NAMES, SERVICES, Name
from tools.suite import Suite

pytestmark = pytest.mark.fault


@pytest.mark.parametrize(
    "services",
    [
        pytest.param(SERVICES, id="all"),
        *(
            pytest.param(pair, id=" and ".join(pair), marks=pytest.mark.thorough)
            for pair in (SERVICES[:2], SERVICES[2:4], SERVICES[4:])
        ),
    ],
)
async def test_a_service_is_killed_at_work(processes: Suite, sandbox: Sandbox, services: tuple[str, ...]) -> None:
    """Not at a point of our choosing: while everything is in motion, several times, and some of them by turns."""
    story = asyncio.create_task(tell(sandbox))
    for service in services * 3:
        await asyncio.sleep(0.2)
        processes.kill(service)
    assert await story == EXPECTED


@pytest.mark.parametrize("server", NAMES)
async def test_a_server_is_killed_at_work(processes: Suite, sandbox: Sandbox, server: Name) -> None:
    """Everything stands on these two: all six services wait, and go on where they were."""

    async def kill() -> None:
        await asyncio.to_thread(processes.kill_server, server)

    story = asyncio.create_task(tell(sandbox, meanwhile=kill))
    await asyncio.sleep(0.5)
    await kill()
    assert await story == EXPECTED


async def test_everything_is_killed_at_once(processes: Suite, sandbox: Sandbox) -> None:
    """As when the machine loses its power, but for what the disk had not written."""

    async def kill() -> None:
        for service in SERVICES:
            processes.kill(service)
        for server in NAMES:
            await asyncio.to_thread(processes.kill_server, server)

    assert await tell(sandbox, meanwhile=kill) == EXPECTED
