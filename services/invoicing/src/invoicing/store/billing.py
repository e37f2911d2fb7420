"""Knows which customers are due to be billed, and which sellers are due to be looked over."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Text, any_, case, exists, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from common.telemetry import traceparent
from invoicing.domain.bill_run import Parked
from invoicing.domain.invoice import InvoiceId
from invoicing.store.many import update_rows
from invoicing.store.spend_tables import early_lines, spend_thresholds
from invoicing.store.tables import billing, invoices, sweeps

CUSTOMERS_DUE: Final = select(
    billing.c.seller_id, billing.c.customer_id.label("id"), billing.c.due_time, billing.c.traceparent
).where(billing.c.due_time.is_not(None))

SWEEPS_DUE: Final = select(sweeps.c.seller_id, sweeps.c.seller_id.label("id"), sweeps.c.next_time.label("due_time"))

PAYER_LANES: Final = 64
"""How many locks there are for all payers of a seller; a transaction may hold all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """How far a customer is billed, and when it is next to be."""

    customer_id: str
    due_time: datetime | None
    billed_through_time: datetime | None
    """Everything with a bill time up to then has been looked at; None if nothing ever was."""
    credit_since: datetime | None
    """The bill time of the oldest credit that no invoice had room for."""
    revision: int
    """Counts how often the customer was marked: whether that happened while it was being billed."""
    traceparent: str
    """Of what made it due; empty when its time has come."""
    in_bill_run: bool = False
    """Whether somebody waits to hear what becomes of it."""
    was_parked: bool = False
    """Whether it could not be billed the last time."""
    may_be_early: bool = False
    """Whether the seller has anything billed before its period ends, or had."""

    def is_due(self, at: datetime) -> bool:
        return self.due_time is not None and self.due_time <= at


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How far a customer is billed now, and when to come again."""

    customer_id: str
    next_time: datetime | None
    through_time: datetime
    credit_since: datetime | None
    is_news: bool = False
    """Whether it was parked, or a bill run waits for it: neither is so any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How far a seller has been looked over."""

    next_time: datetime
    swept_through_time: datetime
    page_token: str
    """Where to go on, when the last run did not reach the end."""


async def mark_due(
    tx: Tx, customer_id: str, *, look_back_to: datetime | None = None, at: datetime | None = None
) -> bool:
    """Have a customer billed now, or at that time; whether it is new here. `look_back_to` has what was missed before
    billed again.
    """
    new = insert(billing).values(
        seller_id=tx.seller_id,
        customer_id=customer_id,
        due_time=at or tx.now,
        billed_through_time=None,
        revision=1,
        traceparent=traceparent(),
    )
    changes = {
        "due_time": func.least(billing.c.due_time, new.excluded.due_time),
        "revision": billing.c.revision + 1,
        "traceparent": new.excluded.traceparent,
    }
    if look_back_to is not None:
        # LEAST passes over NULL, which here is earlier than anything.
        through = billing.c.billed_through_time
        changes["billed_through_time"] = case((through.is_(None), null()), else_=func.least(through, look_back_to))
    marked = await tx.execute(
        new.on_conflict_do_update(index_elements=["seller_id", "customer_id"], set_=changes).returning(
            billing.c.revision
        )
    )
    return bool(marked.scalar_one() == 1)


async def look_back(tx: Tx, customer_id: str, *, to: datetime) -> None:
    """Have the next bill run look back as far, whenever that is; now, if none is to come."""
    through = billing.c.billed_through_time
    await tx.execute(
        update(billing)
        .where(billing.c.seller_id == tx.seller_id, billing.c.customer_id == customer_id)
        .values(
            due_time=func.coalesce(billing.c.due_time, tx.now),
            # LEAST passes over NULL, which here is earlier than anything.
            billed_through_time=case((through.is_(None), null()), else_=func.least(through, to)),
            revision=billing.c.revision + 1,
        )
    )


async def find_billing(tx: Tx, customer_id: str) -> Billing | None:
    return (await find_billings(tx, [customer_id])).get(customer_id)


async def find_billings(tx: Tx, customer_ids: Collection[str], *, lock: bool = False) -> dict[str, Billing]:
    """Of those that are known here. Of several, locked are only those that nobody else holds: facts that come in hold
    all customers they came for, in whatever order they came, and nobody may wait for another in a circle.
    """
    wanted = any_(literal(sorted(customer_ids), ARRAY(Text)))
    # Asked once for all of them, of tables that are empty at most sellers.
    declared = exists().where(spend_thresholds.c.seller_id == tx.seller_id)
    billed_early = exists().where(early_lines.c.seller_id == tx.seller_id)
    query = (
        select(billing, (declared | billed_early).label("may_be_early"))
        .where(billing.c.seller_id == tx.seller_id, billing.c.customer_id == wanted)
        .order_by(billing.c.customer_id)
    )
    if lock:
        query = query.with_for_update(of=billing, skip_locked=len(customer_ids) > 1)
    return {
        row.customer_id: Billing(
            customer_id=row.customer_id,
            due_time=row.due_time,
            billed_through_time=row.billed_through_time,
            credit_since=row.credit_since,
            revision=row.revision,
            traceparent=row.traceparent,
            in_bill_run=row.in_bill_run,
            was_parked=row.park_time is not None,
            may_be_early=row.may_be_early,
        )
        for row in await tx.execute(query)
    }


async def lock_payers(tx: Tx, payer_ids: Collection[str]) -> None:
    """Until the commit nobody else bills those they pay for: they are to come onto one invoice. Who waits here holds
    nothing that another could wait for.
    """
    lanes = sorted({zlib.crc32(payer_id.encode()) % PAYER_LANES for payer_id in payer_ids})
    keys = [f"payers {tx.seller_id} {lane}" for lane in lanes]
    asked = func.unnest(literal(keys, ARRAY(Text))).table_valued("key").render_derived(name="asked")
    if keys:
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(asked.c.key, 0))))


async def save_billings(tx: Tx, looked: Sequence[Looked]) -> None:
    """When to come again. That begins a trace of its own: a subscription is not one story that never ends."""
    nothing = {"in_bill_run": False, "park_time": None, "park_reason": "", "park_message": ""}
    news = nothing if any(each.is_news for each in looked) else {}
    rows = [
        {
            "seller_id": tx.seller_id,
            "customer_id": each.customer_id,
            "due_time": each.next_time,
            "billed_through_time": each.through_time,
            "credit_since": each.credit_since,
            "traceparent": "",
            **news,
        }
        for each in looked
    ]
    await update_rows(tx, billing, rows, key="customer_id")


async def park_draft(tx: Tx, invoice_id: InvoiceId, found: Parked) -> None:
    """With its customer, who stays as due as it was. What is due again later for the same moment has another trace."""
    parked = {"park_time": found.park_time, "park_reason": found.reason, "park_message": found.message}
    new = insert(billing).values(
        seller_id=tx.seller_id, customer_id=found.customer_id, revision=1, traceparent="", **parked
    )
    await tx.execute(new.on_conflict_do_update(index_elements=["seller_id", "customer_id"], set_=parked))
    await tx.execute(
        update(invoices)
        .where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice_id)
        .values(is_parked=True, traceparent=traceparent() or invoices.c.traceparent)
    )


async def known_customers(tx: Tx, customer_ids: Collection[str]) -> set[str]:
    """Those of them that have been marked here before."""
    wanted = any_(literal(sorted(customer_ids), ARRAY(Text)))
    query = select(billing.c.customer_id).where(billing.c.seller_id == tx.seller_id, billing.c.customer_id == wanted)
    return set((await tx.execute(query)).scalars())


async def plan_sweep(tx: Tx, *, first_after: timedelta) -> None:
    """Look the seller over from time to time, from its first customer on."""
    await tx.execute(
        insert(sweeps)
        .values(seller_id=tx.seller_id, next_time=tx.now + first_after, swept_through_time=tx.now, page_token="")
        .on_conflict_do_nothing()
    )


async def find_sweep(tx: Tx, *, lock: bool = False) -> Sweep | None:
    query = select(sweeps).where(sweeps.c.seller_id == tx.seller_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        return None
    return Sweep(next_time=row.next_time, swept_through_time=row.swept_through_time, page_token=row.page_token)


async def save_sweep(tx: Tx, sweep: Sweep) -> None:
    await tx.execute(
        update(sweeps)
        .where(sweeps.c.seller_id == tx.seller_id)
        .values(next_time=sweep.next_time, swept_through_time=sweep.swept_through_time, page_token=sweep.page_token)
    )
