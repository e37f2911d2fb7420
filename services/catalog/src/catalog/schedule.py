"""What the catalog does when the time has come."""

from __future__ import annotations

from typing import Final

from catalog import store
from catalog.usecases import plans
from common.jobs import Job

JOBS: Final = [
    Job(name="archive plans whose next version takes effect", due=store.SUPERSEDED_DUE, run=plans.archive_superseded)
]
