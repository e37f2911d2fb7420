"""The six processes, and a seller for every story."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from common.caller import Role
from common.ids import SellerId
from tests.support.sandbox import Sandbox
from tools.suite import Suite, running_suite


@pytest.fixture(scope="package")
def processes() -> Iterator[Suite]:
    with running_suite() as suite:
        yield suite


@pytest_asyncio.fixture
async def sandbox(processes: Suite, tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A seller of its own, in January 2026. However its story goes, its books are right at the end."""

    def token(role: Role, seller_id: SellerId | None) -> str:
        return processes.keys.token(role=role, seller_id=seller_id)

    async with await Sandbox.open(processes.addresses(), token, journals=tmp_path) as opened:
        yield opened
        await opened.verify(processes.database_urls())
