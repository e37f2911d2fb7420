"""What the invoicing service does when the time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from common.jobs import Batch, BatchErrand, Errand, Job, Scheduled
from invoicing import store
from invoicing.domain.spend_threshold import SpendLooks
from invoicing.usecases import bill_run, credit, drafts, early, ledger, merging, overdue, reservations, sweep, top_ups
from invoicing.usecases.taxing import TaxProvider

EXPIRED_TOGETHER: Final = 200


def jobs(*, grace: timedelta, spend_looks: SpendLooks, taxes: TaxProvider) -> Sequence[Scheduled]:
    return [
        BatchErrand(
            name=store.BILL_CUSTOMERS,
            due=store.CUSTOMERS_DUE,
            run=partial(bill_run.bill_customers, grace=grace, taxes=taxes, spend_looks=spend_looks),
        ),
        BatchErrand(
            name="look whether thresholds are reached",
            due=store.SPEND_LOOKS_DUE,
            run=partial(early.look, looks=spend_looks),
        ),
        BatchErrand(
            name="finalize drafts whose grace is over",
            due=store.DRAFTS_DUE,
            run=partial(drafts.finalize_due_drafts, taxes=taxes),
        ),
        Job(name="mark overdue invoices", due=store.OVERDUE_DUE, run=overdue.mark_overdue),
        Batch(name="expire credit", due=store.GRANTS_EXPIRING, run=credit.expire, size=EXPIRED_TOGETHER),
        Batch(
            name="expire reservations of credit",
            due=store.RESERVATIONS_EXPIRING,
            run=reservations.expire,
            size=EXPIRED_TOGETHER,
        ),
        Job(name="move credit of merged customers", due=store.CREDIT_MOVES_DUE, run=merging.move_credit),
        Errand(name="top up credit", due=store.TOP_UPS_DUE, run=top_ups.top_up),
        Errand(name="look for customers that were missed", due=store.SWEEPS_DUE, run=sweep.sweep),
        Errand(
            name="post what the release before issued",
            due=store.BACKFILLS_DUE,
            run=ledger.post_what_was_issued_before,
        ),
    ]
