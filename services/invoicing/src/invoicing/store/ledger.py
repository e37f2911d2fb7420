"""Knows how the entries of the ledger are kept, and the questions asked of the books."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    any_,
    bindparam,
    column,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from common.db import Tx
from common.money import Money
from invoicing.domain.invoice import InvoiceId, State
from invoicing.domain.ledger import Balance, DocumentKind, Entry, Event, LedgerAccount, Owed, Posting, Recorded
from invoicing.store.tables import invoice_payments, invoices, ledger_backfills, ledger_entries

BACKFILLS_DUE: Final = select(
    ledger_backfills.c.seller_id,
    ledger_backfills.c.seller_id.label("id"),
    ledger_backfills.c.next_time.label("due_time"),
)

STATED: Final = (LedgerAccount.RECEIVABLE, LedgerAccount.CUSTOMER_CREDIT)
"""What a statement tells of."""


class After(NamedTuple):
    """The place of an entry in the order of the books."""

    effective_date: date
    id: str


# All entries of a transaction are one parameter of one statement, however many there are.
_NEW: Final = (
    func.jsonb_to_recordset(bindparam("rows", type_=JSONB))
    .table_valued(*(column(each.name, each.type) for each in ledger_entries.c))
    .render_derived(name="new", with_types=True)
)
_ADD: Final = insert(ledger_entries).from_select(
    [each.name for each in ledger_entries.c], select(*(_NEW.c[each.name] for each in ledger_entries.c))
)


async def add_entries(tx: Tx, entries: Sequence[Entry]) -> None:
    """Post them, of any number of documents. A document that is posted already is refused by the table."""
    rows = [
        {
            "seller_id": tx.seller_id,
            "id": tx.new_id("jen"),
            "customer_id": entry.customer_id,
            "document_kind": entry.document_kind.name,
            "document_id": entry.document_id,
            "event": entry.event.name,
            "ordinal": entry.ordinal,
            "invoice_id": entry.invoice_id,
            "currency": entry.currency,
            "effective_date": entry.effective_date.isoformat(),
            "accounts": [posting.account.name for posting in entry.postings],
            "amounts": [posting.minor for posting in entry.postings],
            "create_time": tx.now.isoformat(),
        }
        for entry in entries
    ]
    if rows:
        await tx.execute(_ADD, {"rows": rows})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries are asked for; what is empty does not matter."""

    customer_id: str = ""
    document_id: str = ""
    invoice_id: str = ""
    start_date: date | None = None
    end_date: date | None = None
    """Included."""


async def list_entries(tx: Tx, wanted: Wanted, *, after: After | None, limit: int) -> list[Recorded]:
    """In the order of the books: by date, and of one date by when they were made."""
    entries = ledger_entries.c
    query = _recorded()
    if wanted.customer_id:
        query = query.where(entries.customer_id == wanted.customer_id)
    if wanted.document_id:
        query = query.where(entries.document_id == wanted.document_id)
    if wanted.invoice_id:
        # In the words of the index: that has only those which other documents posted for the invoice.
        of_others = (entries.invoice_id == wanted.invoice_id) & (entries.invoice_id != entries.document_id)
        query = query.where(or_(entries.document_id == wanted.invoice_id, of_others))
    if wanted.start_date is not None:
        query = query.where(entries.effective_date >= wanted.start_date)
    if wanted.end_date is not None:
        query = query.where(entries.effective_date <= wanted.end_date)
    query = query.where(entries.seller_id == tx.seller_id)
    return [_recorded_of(row) for row in await tx.execute(_page(query, after, limit))]


async def trial_balance(tx: Tx, *, as_of: date, currency: str) -> list[Balance]:
    """Every account and currency in which something moved up to a day, in order of the currencies and of the chart."""
    entries = ledger_entries.c
    # Side by side in the list of columns they stay pairs; joined to their row they take twice as long.
    postings = select(
        entries.currency, func.unnest(entries.accounts).label("account"), func.unnest(entries.amounts).label("amount")
    ).where(entries.seller_id == tx.seller_id, entries.effective_date <= as_of)
    if currency:
        postings = postings.where(entries.currency == currency)
    posting = postings.subquery("posting").c
    query = select(
        posting.account,
        posting.currency,
        func.coalesce(func.sum(posting.amount).filter(posting.amount > 0), 0).label("debits"),
        func.coalesce(func.sum(-posting.amount).filter(posting.amount < 0), 0).label("credits"),
    ).group_by(posting.account, posting.currency)
    order = [account.name for account in LedgerAccount]
    return [
        Balance(
            account=LedgerAccount[row.account],
            debits=Money(int(row.debits), row.currency),
            credits=Money(int(row.credits), row.currency),
        )
        for row in sorted(await tx.execute(query), key=lambda row: (row.currency, order.index(row.account)))
    ]


async def has_entries(tx: Tx, customer_id: str) -> bool:
    query = select(literal(1)).where(
        ledger_entries.c.seller_id == tx.seller_id, ledger_entries.c.customer_id == customer_id
    )
    return (await tx.execute(query.limit(1))).one_or_none() is not None


async def owed_at(
    tx: Tx, *, customer_id: str, currency: str, start: date, end: date, after: After | None
) -> tuple[Owed, Owed, Owed]:
    """How the customer stands when a day begins, when another one ends, and after an entry: the first, without one."""
    day = ledger_entries.c.effective_date
    place = day < start if after is None else not_(_comes_after(after))
    sums: list[ColumnElement[int]] = [
        func.coalesce(func.sum(_moved(account)).filter(until), 0)
        for until in (day < start, day <= end, place)
        for account in STATED
    ]
    query: Select[Any] = select().add_columns(*sums)  # Any: six numbers
    row = (await tx.execute(_of_customer(query, tx, customer_id, currency))).one()
    found = [Money(int(each), currency) for each in row]
    return Owed(found[0], -found[1]), Owed(found[2], -found[3]), Owed(found[4], -found[5])


async def movements(
    tx: Tx, *, customer_id: str, currency: str, start: date, end: date, after: After | None, limit: int
) -> list[Recorded]:
    """What changed what a customer owes or has to its credit, from day to day, both included."""
    query = _of_customer(_recorded(), tx, customer_id, currency).where(
        ledger_entries.c.effective_date.between(start, end)
    )
    return [_recorded_of(row) for row in await tx.execute(_page(query, after, limit))]


async def find_backfill(tx: Tx, *, lock: bool = False) -> str | None:
    """The invoice through which those of the release before are posted; None when there is nothing to do."""
    query = select(ledger_backfills.c.after_id).where(ledger_backfills.c.seller_id == tx.seller_id)
    return (await tx.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def go_on_after(tx: Tx, invoice_id: str) -> None:
    await tx.execute(
        update(ledger_backfills).where(ledger_backfills.c.seller_id == tx.seller_id).values(after_id=invoice_id)
    )


async def end_backfill(tx: Tx) -> None:
    await tx.execute(delete(ledger_backfills).where(ledger_backfills.c.seller_id == tx.seller_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment of an invoice, as it was taken in."""

    id: str
    amount: Money
    create_time: datetime


async def finalized_invoices(tx: Tx, *, after_id: str, limit: int) -> list[str]:
    """In order of their ids."""
    query = (
        select(invoices.c.id)
        .where(invoices.c.seller_id == tx.seller_id, invoices.c.id > after_id, invoices.c.state != State.DRAFT.name)
        .order_by(invoices.c.id)
        .limit(limit)
    )
    return list((await tx.execute(query)).scalars())


async def not_posted(tx: Tx, document_ids: Collection[str]) -> set[str]:
    """Those of the documents that have no entry."""
    wanted = sorted(document_ids)
    query = select(ledger_entries.c.document_id).where(
        ledger_entries.c.seller_id == tx.seller_id, ledger_entries.c.document_id == any_(literal(wanted, ARRAY(Text)))
    )
    return set(wanted) - set((await tx.execute(query)).scalars())


async def payments_of(tx: Tx, invoice_ids: Collection[str]) -> dict[str, list[Payment]]:
    """By invoice."""
    query = (
        select(invoice_payments, invoices.c.currency)
        .join(invoices)
        .where(
            invoice_payments.c.seller_id == tx.seller_id,
            invoice_payments.c.invoice_id == any_(literal(sorted(invoice_ids), ARRAY(Text))),
        )
        .order_by(invoice_payments.c.payment_id)
    )
    found: dict[str, list[Payment]] = defaultdict(list)
    for row in await tx.execute(query):
        amount = Money(row.amount_minor, row.currency)
        found[row.invoice_id].append(Payment(id=row.payment_id, amount=amount, create_time=row.create_time))
    return found


def _recorded() -> Select[Any]:  # Any: rows of `ledger_entries` with a number
    numbered = (invoices.c.seller_id == ledger_entries.c.seller_id) & (invoices.c.id == ledger_entries.c.invoice_id)
    return select(ledger_entries, invoices.c.number).select_from(ledger_entries.outerjoin(invoices, numbered))


def _of_customer(query: Select[Any], tx: Tx, customer_id: str, currency: str) -> Select[Any]:  # Any: as it was asked
    """Only what belongs on a statement."""
    return query.where(
        ledger_entries.c.seller_id == tx.seller_id,
        ledger_entries.c.customer_id == customer_id,
        ledger_entries.c.currency == currency,
        ledger_entries.c.accounts.overlap(literal([each.name for each in STATED], ARRAY(Text))),
    )


def _moved(account: LedgerAccount) -> ColumnElement[int]:
    """What an entry moves in an account: nothing where that is not among its accounts."""
    return ledger_entries.c.amounts[func.array_position(ledger_entries.c.accounts, account.name)]


def _comes_after(after: After) -> ColumnElement[bool]:
    place = tuple_(ledger_entries.c.effective_date, ledger_entries.c.id)
    return place > tuple_(literal(after.effective_date), literal(after.id))


def _page(query: Select[Any], after: After | None, limit: int) -> Select[Any]:  # Any: as it was asked
    if after is not None:
        query = query.where(_comes_after(after))
    return query.order_by(ledger_entries.c.effective_date, ledger_entries.c.id).limit(limit)


def _recorded_of(row: Row[Any]) -> Recorded:  # Any: as `_recorded` asks for them
    return Recorded(
        id=row.id,
        entry=Entry(
            customer_id=row.customer_id,
            document_kind=DocumentKind[row.document_kind],
            document_id=row.document_id,
            event=Event[row.event],
            ordinal=row.ordinal,
            invoice_id=InvoiceId(row.invoice_id),
            currency=row.currency,
            effective_date=row.effective_date,
            postings=tuple(
                Posting(LedgerAccount[each], minor) for each, minor in zip(row.accounts, row.amounts, strict=True)
            ),
        ),
        number=row.number or "",
        create_time=row.create_time,
    )
