"""What the invoicing service does when the time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from common.jobs import Errand, Job
from common.rpc import Desk
from invoicing import store
from invoicing.usecases import bill_run, drafts, overdue, sweep


def jobs(*, grace: timedelta) -> Sequence[Job | Errand]:
    async def bill(desk: Desk, customer_id: str) -> None:
        await bill_run.bill_customer(desk, customer_id, grace=grace)

    return [
        Errand(name="bill customers", due=store.CUSTOMERS_DUE, run=bill),
        Errand(name="finalize drafts whose grace is over", due=store.DRAFTS_DUE, run=drafts.finalize_due_draft),
        Job(name="mark overdue invoices", due=store.OVERDUE_DUE, run=overdue.mark_overdue),
        Errand(name="look for customers that were missed", due=store.SWEEPS_DUE, run=sweep.sweep),
    ]
