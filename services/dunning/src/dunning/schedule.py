"""What dunning does when the time has come."""

from __future__ import annotations

from typing import Final

from common.jobs import Errand
from dunning import store, usecases

JOBS: Final = [Errand(name="take dunning steps", due=store.STEPS_DUE, run=usecases.take_due_steps)]
