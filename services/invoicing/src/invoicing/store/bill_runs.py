"""Knows the bill runs that somebody asked for, what became of their customers, and who cannot be billed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Exists,
    Row,
    Select,
    Text,
    and_,
    any_,
    case,
    column,
    exists,
    func,
    literal,
    or_,
    select,
    table,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common import failures
from common.db import Tx
from common.money import Money
from common.telemetry import traceparent
from invoicing.domain.bill_run import (
    CUSTOMERS_MAX,
    UNFORESEEN,
    BillingState,
    BillRun,
    BillRunId,
    Looked,
    Outcome,
    Parked,
    Result,
    Scope,
    Total,
)
from invoicing.domain.errors import BillRunNotFound
from invoicing.store.bill_run_tables import bill_run_customers, bill_runs
from invoicing.store.tables import billing, invoices

BILL_CUSTOMERS: Final = "bill customers"
"""The job that looks at whoever is due; those that it gave up are dead letters."""

CUSTOMERS_PARKED: Final = select(func.count()).select_from(billing).where(billing.c.park_time.is_not(None))
"""How many customers there are, of all sellers, that cannot be billed as things stand."""

_failures: Final = table("job_failures", column("job"), column("id"), column("dead"))


async def add_bill_run(tx: Tx, run_id: BillRunId, scope: Scope, *, customer_ids: Collection[str]) -> int:
    """With all customers that are in its scope now, who are due from now on: how many."""
    await tx.execute(
        insert(bill_runs).values(
            seller_id=tx.seller_id, id=run_id, scope=scope.name, customer_count=0, create_time=tx.now
        )
    )
    count = await _mark(tx, run_id, _in_scope(tx, scope, customer_ids))
    await tx.execute(
        update(bill_runs)
        .where(bill_runs.c.seller_id == tx.seller_id, bill_runs.c.id == run_id)
        .values(customer_count=count)
    )
    return count


async def add_customers(tx: Tx, customer_ids: Collection[str]) -> bool:
    """Those that were never to be billed yet, due now; whether there are any."""
    if not customer_ids:
        return False
    rows = [
        {"seller_id": tx.seller_id, "customer_id": each, "due_time": tx.now, "revision": 1, "traceparent": ""}
        for each in sorted(customer_ids)
    ]
    added = await tx.execute(insert(billing).values(rows).on_conflict_do_nothing().returning(billing.c.customer_id))
    return added.first() is not None


async def retry_parked(tx: Tx, run_id: BillRunId) -> None:
    """Those of a bill run, which wait again."""
    mine = bill_run_customers
    unforeseen = and_(mine.c.outcome == Outcome.WAITING.name, _given_up(mine.c.customer_id))
    parked = select(mine.c.customer_id).where(
        mine.c.seller_id == tx.seller_id,
        mine.c.bill_run_id == run_id,
        or_(mine.c.outcome == Outcome.PARKED.name, unforeseen),
    )
    await _mark(tx, run_id, billing.c.customer_id.in_(parked))


async def cancel_bill_run(tx: Tx, run_id: BillRunId) -> None:
    """Who waits is due when it was before, unless something else has made it due since."""
    mine, known = bill_run_customers, billing
    waiting = and_(
        mine.c.seller_id == tx.seller_id, mine.c.bill_run_id == run_id, mine.c.outcome == Outcome.WAITING.name
    )
    # A bill run holds customers before it says what became of them.
    found = await tx.execute(
        select(known.c.customer_id)
        .join(mine, and_(mine.c.seller_id == known.c.seller_id, mine.c.customer_id == known.c.customer_id))
        .where(waiting)
        .order_by(known.c.customer_id)
        .with_for_update(of=known)
    )
    held = list(found.scalars())
    cancelled = await tx.execute(
        update(mine)
        .where(waiting, mine.c.customer_id == any_(literal(held, ARRAY(Text))))
        .values(outcome=Outcome.CANCELLED.name, end_time=tx.now)
        .returning(mine.c.customer_id, mine.c.due_time_before, mine.c.marked_revision)
    )
    rows = cancelled.all()
    await tx.driver.execute(
        _DUE_AS_BEFORE,
        tx.seller_id,
        [row.customer_id for row in rows],
        [row.due_time_before for row in rows],
        [row.marked_revision for row in rows],
    )
    await tx.execute(
        update(bill_runs)
        .where(bill_runs.c.seller_id == tx.seller_id, bill_runs.c.id == run_id)
        .values(cancel_time=tx.now)
    )


async def tell_bill_runs(tx: Tx, looked: Sequence[Looked]) -> None:
    """What was found of customers whom bill runs wait for, and hold."""
    if looked:
        await tx.driver.execute(
            _TELL,
            tx.seller_id,
            [each.customer_id for each in looked],
            # Arrays of arrays would have to be of one length.
            [" ".join(each.invoice_ids) for each in looked],
            [each.is_end for each in looked],
            tx.now,
        )


async def park_customer(tx: Tx, found: Parked, *, revision: int) -> bool:
    """Unless something has made it due meanwhile, which may have put it right."""
    known, mine = billing, bill_run_customers
    parked = await tx.execute(
        update(known)
        .where(
            known.c.seller_id == tx.seller_id, known.c.customer_id == found.customer_id, known.c.revision == revision
        )
        .values(
            due_time=None,
            in_bill_run=False,
            park_time=found.park_time,
            park_reason=found.reason,
            park_message=found.message,
        )
        .returning(known.c.customer_id)
    )
    if parked.first() is None:
        return False
    await tx.execute(
        update(mine)
        .where(
            mine.c.seller_id == tx.seller_id,
            mine.c.customer_id == found.customer_id,
            mine.c.outcome == Outcome.WAITING.name,
        )
        .values(outcome=Outcome.PARKED.name, reason=found.reason, message=found.message, end_time=tx.now)
    )
    return True


async def bill_run(tx: Tx, run_id: BillRunId, *, lock: bool = False) -> BillRun:
    """How far it has come and what it came to; or BILL_RUN_NOT_FOUND."""
    query = _bill_runs(tx).where(bill_runs.c.id == run_id)
    row = (await tx.execute(query.with_for_update(of=bill_runs) if lock else query)).one_or_none()
    if row is None:
        raise _not_found(run_id)
    mine = bill_run_customers
    outcome = _outcome()
    counts = await tx.execute(
        select(outcome.label("outcome"), func.count().label("customers"))
        .where(mine.c.seller_id == tx.seller_id, mine.c.bill_run_id == run_id)
        .group_by(outcome)
    )
    of_run = (
        select(func.unnest(mine.c.invoice_ids)).where(mine.c.seller_id == tx.seller_id, mine.c.bill_run_id == run_id)
    ).distinct()
    totals = await tx.execute(
        select(
            invoices.c.currency,
            func.count().label("invoice_count"),
            func.sum(invoices.c.line_count).label("line_count"),
            func.sum(invoices.c.total_minor).label("total_minor"),
        )
        .where(invoices.c.seller_id == tx.seller_id, invoices.c.id.in_(of_run))
        .group_by(invoices.c.currency)
        .order_by(invoices.c.currency)
    )
    return _bill_run_of(
        row,
        counts={Outcome[each.outcome]: each.customers for each in counts},
        totals=tuple(
            Total(
                invoice_count=each.invoice_count,
                line_count=int(each.line_count),
                total=Money(int(each.total_minor), each.currency),
            )
            for each in totals
        ),
    )


async def check_bill_run(tx: Tx, run_id: BillRunId) -> None:
    """Or BILL_RUN_NOT_FOUND."""
    query = select(bill_runs.c.id).where(bill_runs.c.seller_id == tx.seller_id, bill_runs.c.id == run_id)
    if (await tx.execute(query)).first() is None:
        raise _not_found(run_id)


async def list_bill_runs(tx: Tx, *, before: str, limit: int) -> list[BillRun]:
    """Newest first, without what they came to."""
    query = _bill_runs(tx)
    if before:
        query = query.where(bill_runs.c.id < before)
    return [_bill_run_of(row) for row in await tx.execute(query.order_by(bill_runs.c.id.desc()).limit(limit))]


async def list_results(tx: Tx, run_id: BillRunId, *, outcome: Outcome | None, after: str, limit: int) -> list[Result]:
    mine = bill_run_customers
    query = select(mine, _outcome().label("told")).where(
        mine.c.seller_id == tx.seller_id, mine.c.bill_run_id == run_id, mine.c.customer_id > after
    )
    if outcome is not None:
        query = query.where(_outcome() == outcome.name)
    return [
        Result(
            customer_id=row.customer_id,
            outcome=Outcome[row.told],
            invoice_ids=tuple(row.invoice_ids),
            reason=UNFORESEEN if row.told != row.outcome else row.reason,
            message=row.message,
            end_time=row.end_time,
        )
        for row in await tx.execute(query.order_by(mine.c.customer_id).limit(limit))
    ]


async def list_parked(tx: Tx, *, after: str, limit: int) -> list[Parked]:
    query = (
        select(billing.c.customer_id, billing.c.park_reason, billing.c.park_message, billing.c.park_time)
        .where(billing.c.seller_id == tx.seller_id, billing.c.customer_id > after, _is_parked(tx))
        .order_by(billing.c.customer_id)
        .limit(limit)
    )
    return [
        Parked(
            customer_id=row.customer_id,
            reason=row.park_reason or UNFORESEEN,
            message=row.park_message,
            park_time=row.park_time,
        )
        for row in await tx.execute(query)
    ]


async def billing_state(tx: Tx) -> BillingState:
    """Counted when it is asked for: nothing is kept of it."""
    known = billing
    due = await tx.execute(
        select(func.count().label("customers"), func.min(known.c.due_time).label("oldest")).where(
            known.c.seller_id == tx.seller_id, known.c.due_time <= tx.now, ~_given_up(known.c.customer_id)
        )
    )
    now = due.one()
    following = select(func.min(known.c.due_time)).where(known.c.seller_id == tx.seller_id, known.c.due_time > tx.now)
    reason = func.coalesce(func.nullif(known.c.park_reason, ""), UNFORESEEN)
    parked = await tx.execute(
        select(reason.label("reason"), func.count().label("customers"))
        .where(known.c.seller_id == tx.seller_id, _is_parked(tx))
        .group_by(reason)
    )
    drafts = (
        await tx.execute(
            select(
                func.count().filter(invoices.c.hold_reason == "").label("waiting"),
                func.count().filter(invoices.c.hold_reason != "").label("held"),
            ).where(invoices.c.seller_id == tx.seller_id, invoices.c.state == "DRAFT")
        )
    ).one()
    return BillingState(
        due_count=now.customers,
        oldest_due_time=now.oldest,
        next_due_time=(await tx.execute(following)).scalar_one(),
        parked_counts={each.reason: each.customers for each in parked},
        draft_count=drafts.waiting,
        held_draft_count=drafts.held,
    )


def _not_found(run_id: BillRunId) -> BillRunNotFound:
    return BillRunNotFound(f"there is no bill run {run_id}", bill_run=run_id)


def _in_scope(tx: Tx, scope: Scope, customer_ids: Collection[str]) -> ColumnElement[bool]:
    match scope:
        case Scope.CUSTOMERS:
            return billing.c.customer_id == any_(literal(sorted(customer_ids), ARRAY(Text)))
        case Scope.DUE:
            return and_(billing.c.due_time <= tx.now, ~_given_up(billing.c.customer_id))
        case Scope.PARKED:
            return _is_parked(tx)
        case Scope.ALL:
            return true()


async def _mark(tx: Tx, run_id: BillRunId, chosen: ColumnElement[bool]) -> int:
    """Make them due now for a bill run, given up ones too, and remember them; at most one more than it may have."""
    known, mine = billing, bill_run_customers
    held = (
        select(known.c.customer_id, known.c.due_time)
        .where(known.c.seller_id == tx.seller_id, chosen)
        .order_by(known.c.customer_id)
        .limit(CUSTOMERS_MAX + 1)
        .with_for_update()
        .cte("held")
    )
    marked = (
        update(known)
        .where(known.c.seller_id == tx.seller_id, known.c.customer_id == held.c.customer_id)
        .values(
            due_time=func.least(known.c.due_time, tx.now),
            revision=known.c.revision + 1,
            traceparent=traceparent(),
            in_bill_run=True,
        )
        .returning(known.c.customer_id, known.c.revision, held.c.due_time.label("due_time_before"))
        .cte("marked")
    )
    remembered = insert(mine).from_select(
        [
            *("seller_id", "bill_run_id", "customer_id", "outcome", "invoice_ids", "reason", "message"),
            *("due_time_before", "marked_revision"),
        ],
        select(
            literal(tx.seller_id),
            literal(run_id),
            marked.c.customer_id,
            literal(Outcome.WAITING.name),
            literal([], ARRAY(Text)),
            literal(""),
            literal(""),
            marked.c.due_time_before,
            marked.c.revision,
        ),
    )
    again = remembered.on_conflict_do_update(
        index_elements=["seller_id", "bill_run_id", "customer_id"],
        set_={
            "outcome": Outcome.WAITING.name,
            "reason": "",
            "message": "",
            "end_time": None,
            "due_time_before": remembered.excluded.due_time_before,
            "marked_revision": remembered.excluded.marked_revision,
        },
    ).returning(mine.c.customer_id)
    customer_ids = list((await tx.execute(again)).scalars())
    await failures.try_again(tx.driver, BILL_CUSTOMERS, customer_ids)
    return len(customer_ids)


def _given_up(customer_id: ColumnElement[str]) -> Exists:
    """Whether it failed in a way that nobody foresaw, as often as is tried."""
    return exists().where(_failures.c.job == BILL_CUSTOMERS, _failures.c.id == customer_id, _failures.c.dead)


def _is_parked(tx: Tx) -> ColumnElement[bool]:
    """Neither billed nor due any more, whether it was foreseen or not."""
    given_up = select(_failures.c.id).where(_failures.c.job == BILL_CUSTOMERS, _failures.c.dead)
    return or_(
        and_(billing.c.park_time.is_not(None), or_(billing.c.due_time.is_(None), billing.c.due_time > tx.now)),
        billing.c.customer_id.in_(given_up),
    )


def _outcome() -> ColumnElement[str]:
    """As it is told: whoever was given up waits for nothing but a decision."""
    mine = bill_run_customers
    waits = and_(mine.c.outcome == Outcome.WAITING.name, _given_up(mine.c.customer_id))
    return case((waits, Outcome.PARKED.name), else_=mine.c.outcome)


def _bill_runs(tx: Tx) -> Select[Any]:  # Any: columns by name
    mine = bill_run_customers
    of_run = and_(mine.c.seller_id == bill_runs.c.seller_id, mine.c.bill_run_id == bill_runs.c.id)
    waits = exists().where(of_run, mine.c.outcome == Outcome.WAITING.name, ~_given_up(mine.c.customer_id))
    end_time = select(func.max(mine.c.end_time)).where(of_run).scalar_subquery()
    return select(bill_runs, waits.label("is_waiting"), end_time.label("end_time")).where(
        bill_runs.c.seller_id == tx.seller_id
    )


def _bill_run_of(
    row: Row[Any],  # Any: as above
    *,
    counts: dict[Outcome, int] | None = None,
    totals: tuple[Total, ...] = (),
) -> BillRun:
    end_time: datetime | None = row.cancel_time or (None if row.is_waiting else row.end_time or row.create_time)
    return BillRun(
        id=BillRunId(row.id),
        scope=Scope[row.scope],
        customer_count=row.customer_count,
        create_time=row.create_time,
        cancel_time=row.cancel_time,
        end_time=end_time,
        is_waiting=row.is_waiting,
        counts=defaultdict(int, counts or {}),
        totals=totals,
    )


_TELL: Final = """
UPDATE bill_run_customers c
SET invoice_ids = ARRAY(
        SELECT DISTINCT id FROM unnest(c.invoice_ids || string_to_array(new.invoice_ids, ' ')) AS found (id) ORDER BY id
    ),
    outcome = CASE WHEN NOT new.is_end THEN 'WAITING'
                   WHEN c.invoice_ids = '{}' AND new.invoice_ids = '' THEN 'NOTHING_OWED'
                   ELSE 'BILLED' END,
    end_time = CASE WHEN new.is_end THEN $5::timestamptz END
FROM unnest($2::text[], $3::text[], $4::boolean[]) AS new (customer_id, invoice_ids, is_end)
WHERE c.seller_id = $1 AND c.customer_id = new.customer_id AND c.outcome = 'WAITING'
"""

_DUE_AS_BEFORE: Final = """
UPDATE billing b SET due_time = was.due_time
FROM unnest($2::text[], $3::timestamptz[], $4::bigint[]) AS was (customer_id, due_time, revision)
WHERE b.seller_id = $1 AND b.customer_id = was.customer_id AND b.revision = was.revision
"""
