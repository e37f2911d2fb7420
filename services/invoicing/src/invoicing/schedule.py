"""What the invoicing service does when the time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from common.jobs import BatchErrand, Errand, Job, Scheduled
from invoicing import store
from invoicing.usecases import bill_run, drafts, ledger, overdue, sweep
from invoicing.usecases.taxing import TaxProvider


def jobs(*, grace: timedelta, taxes: TaxProvider) -> Sequence[Scheduled]:
    return [
        BatchErrand(
            name="bill customers",
            due=store.CUSTOMERS_DUE,
            run=partial(bill_run.bill_customers, grace=grace, taxes=taxes),
        ),
        BatchErrand(
            name="finalize drafts whose grace is over",
            due=store.DRAFTS_DUE,
            run=partial(drafts.finalize_due_drafts, taxes=taxes),
        ),
        Job(name="mark overdue invoices", due=store.OVERDUE_DUE, run=overdue.mark_overdue),
        Errand(name="look for customers that were missed", due=store.SWEEPS_DUE, run=sweep.sweep),
        Errand(
            name="post what the release before issued",
            due=store.BACKFILLS_DUE,
            run=ledger.post_what_was_issued_before,
        ),
    ]
