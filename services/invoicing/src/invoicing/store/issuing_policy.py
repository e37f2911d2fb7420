"""Knows how it is kept how a seller wants invoices to be issued."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from common.db import Tx
from invoicing.domain.issuing_policy import IssuingPolicy, ZeroInvoices
from invoicing.domain.late_usage import LateUsage
from invoicing.store.tables import issuing_policies


async def issuing_policy(tx: Tx) -> IssuingPolicy:
    """The default one of a seller who has declared none."""
    query = select(issuing_policies).where(issuing_policies.c.seller_id == tx.seller_id)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return IssuingPolicy()
    return IssuingPolicy(
        grace=None if row.grace_seconds is None else timedelta(seconds=row.grace_seconds),
        meter_graces={meter: timedelta(seconds=told) for meter, told in row.meter_grace_seconds.items()},
        requires_approval=row.requires_approval,
        late_usage=None if row.late_usage is None else LateUsage[row.late_usage],
        meter_late_usage={meter: LateUsage[told] for meter, told in row.meter_late_usage.items()},
        zero_invoices=None if row.zero_invoices is None else ZeroInvoices[row.zero_invoices],
        revision=row.revision,
        update_time=row.update_time,
    )


async def save_issuing_policy(tx: Tx, policy: IssuingPolicy) -> IssuingPolicy:
    """In the place of the one before; as it is then."""
    declared = {
        "grace_seconds": None if policy.grace is None else policy.grace // timedelta(seconds=1),
        "meter_grace_seconds": {meter: told // timedelta(seconds=1) for meter, told in policy.meter_graces.items()},
        "requires_approval": policy.requires_approval,
        "late_usage": None if policy.late_usage is None else policy.late_usage.name,
        "meter_late_usage": {meter: told.name for meter, told in policy.meter_late_usage.items()},
        "zero_invoices": None if policy.zero_invoices is None else policy.zero_invoices.name,
        "update_time": tx.now,
    }
    new = insert(issuing_policies).values(seller_id=tx.seller_id, revision=1, **declared)
    await tx.execute(
        new.on_conflict_do_update(
            index_elements=["seller_id"], set_={**declared, "revision": issuing_policies.c.revision + 1}
        )
    )
    return await issuing_policy(tx)
