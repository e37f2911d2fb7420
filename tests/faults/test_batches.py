"""What comes due for many at once is told of each of them once, wherever the process dies in the middle of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import pytest

from saldo.catalog.v1.plan_pb2 import Plan
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import Subscription, SubscriptionChange
from tests.support.changes import Billed, all_billed, change, set_quantity
from tests.support.sandbox import Sandbox, per_unit
from tools.check.records import Sources, read_records
from tools.suite import Suite

pytestmark = pytest.mark.fault

KILLED: Final = 137
OF_EACH_KIND: Final = 12
"""Together six for every lane: what dies is a batch, and not a single row."""
JANUARY_31: Final = datetime(2026, 1, 31, tzinfo=UTC)
FEBRUARY_2: Final = datetime(2026, 2, 2, tzinfo=UTC)
TOLD: Final = {
    "goes on": {"BillingPeriodEnded": 1},
    "grows": {"BillingPeriodEnded": 1, "SubscriptionChanged": 1},
    "ends": {"BillingPeriodEnded": 1, "SubscriptionCancelled": 1},
    "was tried out": {"SubscriptionActivated": 1},
}
"""What happens to the four kinds of subscriptions in one moment, at the beginning of February."""


@pytest.mark.parametrize(
    "point",
    [
        # the first batch is lost with its announcements
        pytest.param("subscriptions.advanced", marks=pytest.mark.thorough),
        "subscriptions.advanced:4",  # others are committed, and are not done again
        pytest.param("job.committed", marks=pytest.mark.thorough),  # the first batch is committed, and nobody knows
        "relay.published",  # it is on the bus, and is published again
    ],
)
async def test_a_batch_is_told_once(processes: Suite, sandbox: Sandbox, point: str) -> None:
    """Half a hundred are due at once: one transaction has many of them, and dies with or without its commit."""
    plan = await sandbox.plan("seats", per_unit("seat", "10"))
    ada = await sandbox.customer("ada", token="sim:ok")
    kinds = await _agree(sandbox, ada, plan)
    await sandbox.travel(JANUARY_31)
    before = await _told(processes, sandbox)
    entry = processes.roster.services["subscriptions"]
    deaths = entry.deaths
    processes.restart("subscriptions", {"SALDO_CRASHPOINT": point})
    await sandbox.travel(FEBRUARY_2)

    entry = processes.roster.services["subscriptions"]
    assert (entry.deaths - deaths, entry.last_exit) == (1, KILLED), "it did not die there"
    told = await _told(processes, sandbox) - before
    assert told == Counter(
        {(each, event): times for each, kind in kinds.items() for event, times in TOLD[kind].items()}
    )
    lines = Counter(all_billed(await sandbox.invoices(ada)))
    assert lines == {
        Billed("2026-01-01", "2026-02-01", "1", "1/1", "10.00 EUR"): 3 * OF_EACH_KIND,
        Billed("2026-02-01", "2026-03-01", "1", "1/1", "10.00 EUR"): 2 * OF_EACH_KIND,
        Billed("2026-02-01", "2026-03-01", "3", "1/1", "30.00 EUR"): OF_EACH_KIND,
    }


async def _agree(sandbox: Sandbox, customer: Customer, plan: Plan) -> dict[str, str]:
    """Half a hundred subscriptions by id, of four kinds."""

    async def agree(kind: str) -> Subscription:
        trial_days = 31 if kind == "was tried out" else None
        agreed = await sandbox.subscribe(customer, plan, trial_days=trial_days)
        if kind == "grows":
            await change(sandbox, agreed, set_quantity(agreed, "3"), timing=SubscriptionChange.PERIOD_END)
        if kind == "ends":
            await sandbox.cancel(agreed, at_period_end=True)
        return agreed

    kinds: dict[str, str] = {}
    for _ in range(OF_EACH_KIND):
        for kind, agreed in zip(TOLD, await asyncio.gather(*map(agree, TOLD)), strict=True):
            kinds[agreed.id] = kind
    return kinds


async def _told(processes: Suite, sandbox: Sandbox) -> Counter[tuple[str, str]]:
    """How often each event was announced of each subscription."""
    url = processes.database_urls()["subscriptions"]
    records = await read_records(Sources(databases={"subscriptions": url}, journals=[], seller_id=sandbox.seller_id))
    return Counter(
        (row["aggregate_id"], row["subject"].rpartition(".")[2])
        for row in records.rows("subscriptions", "outbox")
        if row["aggregate_id"].startswith("sub_")
    )
