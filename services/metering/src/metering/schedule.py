"""What metering does when the time has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.jobs import Batch, Job, Scheduled
from metering import store, usecases

ANNOUNCED_TOGETHER: Final = 100

JOBS: Final[Sequence[Scheduled]] = [
    Job(name="look for late usage", due=store.LOOKS_DUE, run=usecases.look_for_late_usage),
    Batch(
        name="announce late usage",
        due=store.LATE_USAGES_DUE,
        run=usecases.announce_late_usages,
        size=ANNOUNCED_TOGETHER,
    ),
]
