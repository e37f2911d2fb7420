"""What PostgreSQL's own types are made of is asked once; what others are made of, on every connection."""

from __future__ import annotations

import asyncpg
import pytest

from common import driver
from common.caller import EVERY_SELLER, service_caller
from common.db import Database
from common.driver import Connection

QUESTION = "typeinfo_tree"
EVERYBODY = service_caller("notebook", EVERY_SELLER)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_answers", {})


async def asked(url: str, query: str, *arguments: object) -> tuple[object, int]:
    """What a query gives on a connection of its own, and how often the driver had to ask about types."""
    connection: asyncpg.Connection = await asyncpg.connect(url.replace("+asyncpg", ""), connection_class=Connection)
    seen: list[str] = []
    try:
        with connection.query_logger(lambda record: seen.append(record.query)):
            found = await connection.fetchval(query, *arguments)
    finally:
        await connection.close()
    return found, sum(QUESTION in each for each in seen)


async def test_what_one_connection_has_learned_all_of_them_know(url: str) -> None:
    """The question costs more than most of ours, and a connection may live for a single one."""
    numbers = [1, -(2**63), 2**63 - 1]
    assert await asked(url, "SELECT $1::bigint[]", numbers) == (numbers, 1)
    assert await asked(url, "SELECT $1::bigint[]", numbers) == (numbers, 0)
    assert await asked(url, "SELECT $1::bigint[] || $2::int[]", numbers, [1]) == ([*numbers, 1], 1)


async def test_a_service_connects_in_this_way(database: Database) -> None:
    """For its transactions, and for its loops."""
    async with database.session() as session, database.transaction(EVERYBODY) as tx:
        assert isinstance(session, Connection)
        assert isinstance(tx.driver, Connection)


async def test_what_a_database_has_of_its_own_is_asked_of_it(url: str) -> None:
    """By the same number, another database knows another type; and so does the same one later."""
    for labels in ("'sad', 'glad'", "'glad', 'sad'"):
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute(f"DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ({labels})")
        await connection.close()
        found, count = await asked(url, "SELECT enum_range(null::mood)")
        assert (found, count) == (labels.replace("'", "").split(", "), 1)
    assert driver._answers == {}
