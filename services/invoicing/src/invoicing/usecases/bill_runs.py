"""Has customers billed at once and keeps what becomes of them; tries those again who could not be billed."""

from __future__ import annotations

from collections.abc import Collection

from common.db import Tx
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.bill_run import BillRun, BillRunId, Scope, State, check_size
from invoicing.domain.errors import BillRunEnded
from invoicing.usecases.sweep import sweep_every


async def check_customers(desk: Desk, customer_ids: Collection[str]) -> None:
    """Fails with CUSTOMER_NOT_FOUND: nobody is parked who does not exist."""
    if customer_ids:
        await clients.customers(desk, customer_ids)


async def create_bill_run(tx: Tx, scope: Scope, customer_ids: Collection[str]) -> BillRun:
    """Fails with BILL_RUN_TOO_LARGE."""
    if await store.add_customers(tx, customer_ids):
        await store.plan_sweep(tx, first_after=sweep_every(tx.seller_id))
    run_id = BillRunId(tx.new_id("brun"))
    check_size(await store.add_bill_run(tx, run_id, scope, customer_ids=customer_ids))
    return await store.bill_run(tx, run_id)


async def retry_bill_run(tx: Tx, run_id: BillRunId) -> BillRun:
    """Fails with BILL_RUN_NOT_FOUND, or BILL_RUN_ENDED when it was cancelled."""
    found = await store.bill_run(tx, run_id, lock=True)
    if found.state is State.CANCELLED:
        raise BillRunEnded(f"bill run {run_id} was cancelled", bill_run=run_id, state=found.state)
    await store.retry_parked(tx, run_id)
    return await store.bill_run(tx, run_id)


async def cancel_bill_run(tx: Tx, run_id: BillRunId) -> BillRun:
    """Fails with BILL_RUN_NOT_FOUND, or BILL_RUN_ENDED."""
    found = await store.bill_run(tx, run_id, lock=True)
    found.check_running()
    await store.cancel_bill_run(tx, run_id)
    return await store.bill_run(tx, run_id)
