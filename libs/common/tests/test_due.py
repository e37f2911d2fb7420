"""The question what is due is asked after every commit: it has to be a cheap one."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import false

from common.clock import wall
from common.db import Database
from common.due import Batch, Job, due_rows
from common.ids import SellerId
from libs.common.tests.conftest import eventually
from libs.common.tests.notebook import store
from libs.common.tests.test_batches import remind_all
from libs.common.tests.test_jobs import EVERYBODY, PAST, add, all_reminded, make_jobs, reminder, running


async def test_the_question_what_is_due_can_use_an_index(database: Database, seller: SellerId) -> None:
    """It is asked after every commit."""
    await add(database, seller, wall() + timedelta(days=1), count=50)
    async with database.transaction(EVERYBODY) as tx:
        await tx.driver.execute("SET LOCAL enable_seqscan = off")
        query = due_rows([reminder()], limit=200).replace("$1", "now()")
        plan = "\n".join(row[0] for row in await tx.driver.fetch(f"EXPLAIN {query}"))
    assert "notes_remind_time" in plan


async def test_however_long_it_is_it_is_planned_once(database: Database, seller: SellerId) -> None:
    """A service with many jobs asks more than the driver keeps the plan of, unless told; and PostgreSQL would plan the
    first five times anew, which costs more than all the answers."""
    never = store.REMINDERS_DUE.where(false())
    others = [Job(name=f"never {number}", due=never, run=store.remind) for number in range(20)]
    jobs = make_jobs(database, reminder(), *others, Batch(name="in batches", due=never, run=remind_all))
    async with running(jobs):
        for _ in range(3):
            await add(database, seller, PAST)
            await eventually(lambda: all_reminded(database))
            await jobs.due_count()
        asked = await jobs._ask(
            "SELECT length(statement) AS length, generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%job_failures.attempts%' AND length(statement) > 1000"
        )
    assert len(asked) == 2, "for all that is due, and how many there are"
    assert max(each["length"] for each in asked) > 15 * 1_024, "the driver's own limit"
    assert all(each["custom_plans"] == 0 and each["generic_plans"] >= 3 for each in asked)
