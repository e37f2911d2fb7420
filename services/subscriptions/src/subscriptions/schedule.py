"""Knows what subscriptions does by itself when the time has come."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from common.due import Batch
from common.jobs import Errand, Job
from subscriptions import store
from subscriptions.store.entitlements import CUSTOMERS_DUE, PLANS_UNKNOWN
from subscriptions.store.personal_data import CERTIFICATES_UNSEALED, UNSEALED, wrapped_by_others
from subscriptions.store.plan_migrations import PLAN_MIGRATIONS_DUE
from subscriptions.store.seats import SEATS_DUE
from subscriptions.store.tax_ids import TAX_IDS_DUE
from subscriptions.tax_authorities import TaxAuthorities
from subscriptions.usecases import advance, entitlements, personal_data, plan_migrations, seats, tax_ids

JOBS: Sequence[Job | Errand | Batch] = [
    Batch(name="advance subscriptions", due=store.MOMENTS_DUE, run=advance.advance),
    Job(name="seal personal data", due=UNSEALED, run=personal_data.seal_personal_data),
    Job(name="seal tax certificates", due=CERTIFICATES_UNSEALED, run=personal_data.seal_personal_data),
    Job(name="refresh entitlements", due=CUSTOMERS_DUE, run=entitlements.refresh_customer),
    Errand(name="ask what plans entitle to", due=PLANS_UNKNOWN, run=entitlements.learn_plan),
    Job(name="free seats that nobody claimed", due=SEATS_DUE, run=seats.free_expired),
    Errand(name="carry on plan migrations", due=PLAN_MIGRATIONS_DUE, run=plan_migrations.carry_on),
]


def jobs(*, master_key_id: str, authorities: TaxAuthorities) -> Sequence[Job | Errand | Batch]:
    """With those that depend on what subscriptions was told."""
    return [
        *JOBS,
        Job(
            name="wrap data keys by the current master key",
            due=wrapped_by_others(master_key_id),
            run=personal_data.rewrap_data_key,
        ),
        Errand(name="ask tax authorities", due=TAX_IDS_DUE, run=partial(tax_ids.verify_due_tax_id, authorities)),
    ]
