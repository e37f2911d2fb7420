"""Knows the list of everything that must hold, and reads the data of all services to see whether it does."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tools.check import (
    announcements,
    backfills,
    bill_runs,
    billing,
    catalog,
    collection,
    commitments,
    consolidation,
    corrections,
    coupons,
    credit,
    credit_notes,
    decisions,
    discounts,
    documents,
    freezes,
    hygiene,
    late_usage,
    ledger,
    payers,
    quotas,
    rest,
    shards,
    spend_thresholds,
    tax,
    thresholds,
    unmatched,
    usage,
    written,
)
from tools.check.records import Records, Sources, read_records
from tools.check.report import Invariant, Report, examine

INVARIANTS: Final[tuple[Invariant, ...]] = (
    *billing.INVARIANTS,
    *consolidation.INVARIANTS,
    *bill_runs.INVARIANTS,
    *written.INVARIANTS,
    *discounts.INVARIANTS,
    *commitments.INVARIANTS,
    *documents.INVARIANTS,
    *ledger.INVARIANTS,
    *tax.INVARIANTS,
    *credit_notes.INVARIANTS,
    *coupons.INVARIANTS,
    *credit.INVARIANTS,
    *catalog.INVARIANTS,
    *usage.INVARIANTS,
    *late_usage.INVARIANTS,
    *spend_thresholds.INVARIANTS,
    *corrections.INVARIANTS,
    *backfills.INVARIANTS,
    *shards.INVARIANTS,
    *freezes.INVARIANTS,
    *thresholds.INVARIANTS,
    *quotas.INVARIANTS,
    *unmatched.INVARIANTS,
    *collection.INVARIANTS,
    *announcements.INVARIANTS,
    *decisions.INVARIANTS,
    *payers.INVARIANTS,
    *rest.INVARIANTS,
    *hygiene.INVARIANTS,
)
PAUSE_SECONDS: Final = 0.5


async def verify(sources: Sources, *, patience_seconds: float = 0.0) -> Report:
    """The verdict on the data as it is. With patience, data that is still in motion is looked at again for a while."""
    give_up = time.monotonic() + patience_seconds
    while True:
        report = verdict(await read_records(sources))
        if report.content or time.monotonic() >= give_up:
            return report
        await asyncio.sleep(PAUSE_SECONDS)


def verdict(records: Records) -> Report:
    """On what was read."""
    return Report([examine(invariant, records) for invariant in INVARIANTS])
