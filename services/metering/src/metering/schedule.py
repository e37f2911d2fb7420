"""What metering does when the time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from common.jobs import Batch, Errand, Job, Scheduled
from metering import store, usecases_freezes, usecases_quotas, usecases_thresholds, usecases_unmatched
from metering.backfills import Backfills
from metering.committing import Committing

ANNOUNCED_TOGETHER: Final = 100
SETTLED_TOGETHER: Final = 1_000


def jobs(
    committing: Committing, backfills: Backfills, *, ahead: timedelta, counting: store.UsageStore
) -> Sequence[Scheduled]:
    """`ahead` is how far ahead of the seller's time a usage event may lie. Whoever finishes a commit of quota stores a
    usage event, and has to know the log.
    """
    return [
        Job(name="look for late usage", due=store.LATE_LOOKS.due, run=usecases_freezes.look_for_late_usage),
        Batch(
            name="announce late usage",
            due=store.LATE_USAGES_DUE,
            run=partial(usecases_freezes.announce_late_usages, counting=counting),
            size=ANNOUNCED_TOGETHER,
        ),
        Job(name="look for unmatched usage", due=store.UNMATCHED_LOOKS_DUE, run=usecases_unmatched.look_for_unmatched),
        Job(
            name="look for usage that grew",
            due=store.THRESHOLD_LOOKS.due,
            run=partial(usecases_thresholds.look_for_growth, ahead=ahead),
        ),
        Job(name="sweep usage thresholds", due=store.SWEEPS_DUE, run=partial(usecases_thresholds.sweep, ahead=ahead)),
        Batch(
            name="settle usage alerts",
            due=store.ALERTS_DUE,
            run=usecases_thresholds.settle_alerts,
            size=SETTLED_TOGETHER,
        ),
        Batch(name="end expired reservations", due=store.EXPIRING, run=usecases_quotas.end_expired_reservations),
        Batch(name="forget settled reservations", due=store.FORGOTTEN, run=store.forget_reservations),
        Errand(name="finish commits of quota", due=store.BROKEN_OFF, run=committing.finish_broken_off),
        Errand(name="revert expired backfills", due=store.BACKFILLS_EXPIRING, run=backfills.revert_expired),
    ]
