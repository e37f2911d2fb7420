"""Knows what subscriptions does by itself when the time has come."""

from __future__ import annotations

from common.jobs import Job
from subscriptions import store, usecases

JOBS = [
    Job(name="begin subscriptions", due=store.STARTS_DUE, run=usecases.begin_subscription),
    Job(name="end trials that are over", due=store.TRIAL_ENDS_DUE, run=usecases.end_trial),
    Job(name="end billing periods that are over", due=store.PERIOD_ENDS_DUE, run=usecases.end_billing_periods),
    Job(name="cancel subscriptions as decided", due=store.CANCELLATIONS_DUE, run=usecases.carry_out_cancellation),
]
