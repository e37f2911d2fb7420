"""A year of contracts in which anything may be decided at any time, lived twice: one schedule, and right books, which
beancount finds right as well.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from common.caller import Role
from common.ids import SellerId
from tests.simulation.year import DAYS, START, Year
from tests.support.books import complaints, exported
from tests.support.sandbox import Sandbox
from tools.suite import Suite, running_suite

pytestmark = pytest.mark.simulation

SEED: Final = 2026


async def test_a_year_is_the_same_whenever_it_is_lived(customers: int, tmp_path: Path) -> None:
    """Nothing depends on anything but what was decided when: neither on ids, nor on when a job came by."""
    with running_suite() as suite:
        first = await _lived(suite, customers, tmp_path)
        second = await _lived(suite, customers, tmp_path)
    assert first.done == second.done
    assert first.refused == second.refused
    # Of few customers' subscriptions much has ended or is not there when something is to be decided about it.
    assert 2 * sum(first.done.values()) > sum(first.refused.values()), (first.done, first.refused)
    assert len(first.found) == len(second.found) > 0
    assert first.found == second.found


class _Lived:
    def __init__(self, year: Year, found: list[list[tuple[object, ...]]]) -> None:
        self.done, self.refused, self.found = year.done, year.refused, found


async def _lived(suite: Suite, customers: int, journals: Path) -> _Lived:
    def token(role: Role, seller_id: SellerId | None) -> str:
        return suite.keys.token(role=role, seller_id=seller_id)

    async with await Sandbox.open(suite.addresses(), token, journals=journals, start=START) as sandbox:
        year = Year(SEED, sandbox, customers)
        await year.live()
        await sandbox.verify(suite.database_urls())
        books = journals / f"{sandbox.seller_id}.beancount"
        text = await exported(sandbox.client, books, end=(START + timedelta(days=DAYS)).date())
        assert text.count("INVOICE RECOGNIZED") > customers
        assert await complaints(books) == ""
        return _Lived(year, await year.schedules())
