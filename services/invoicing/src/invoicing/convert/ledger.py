"""Knows how the books look on the wire, and what may be asked of them."""

from __future__ import annotations

from datetime import date

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money
from invoicing.domain.ledger import Balance, Entry, Movement, Recorded, Statement
from invoicing.store.ledger import After, Wanted
from saldo.invoicing.v1 import ledger_pb2 as pb
from saldo.invoicing.v1 import ledger_service_pb2 as service

DOCUMENT_ID_LENGTH_MAX = 100
KEYS = 2
"""Of a page: the date and the id of the last entry of the one before."""


def wanted_of(request: service.ListLedgerEntriesRequest) -> Wanted:
    start = wire.parse_date(request.start_date, field="start_date") if request.HasField("start_date") else None
    end = wire.parse_date(request.end_date, field="end_date") if request.HasField("end_date") else None
    if start and end:
        check_days(start, end)
    return Wanted(
        customer_id=ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else "",
        document_id=wire.text(
            request.document_id, field="document_id", max_length=DOCUMENT_ID_LENGTH_MAX, required=False
        ),
        invoice_id=ids.check(request.invoice_id, "inv", field="invoice_id") if request.invoice_id else "",
        start_date=start,
        end_date=end,
    )


def check_days(start: date, end: date) -> None:
    if end < start:
        raise InvalidArgument("must not be before start_date", field="end_date")


def place_after(page: wire.Page) -> After | None:
    """Which entry a page comes after."""
    if not page.after:
        return None
    day, entry_id = page.after
    try:
        return After(date.fromisoformat(day), entry_id)
    except ValueError:
        raise InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token") from None


def token_of(last: Recorded) -> str:
    return wire.encode_page_token(last.entry.effective_date.isoformat(), last.id)


def recorded_to_proto(recorded: Recorded) -> pb.LedgerEntry:
    entry = recorded.entry
    return pb.LedgerEntry(
        id=recorded.id,
        customer_id=entry.customer_id,
        document_kind=_kind(entry),
        document_id=entry.document_id,
        event=_event(entry),
        ordinal=entry.ordinal,
        invoice_id=entry.invoice_id,
        invoice_number=recorded.number,
        effective_date=wire.date(entry.effective_date),
        postings=[
            pb.LedgerPosting(
                account=pb.LedgerAccount.Value(posting.account.name),
                amount=wire.money(Money(posting.minor, entry.currency)),
            )
            for posting in entry.postings
        ],
        create_time=wire.timestamp(recorded.create_time),
    )


def balance_to_proto(balance: Balance) -> pb.LedgerBalance:
    return pb.LedgerBalance(
        account=pb.LedgerAccount.Value(balance.account.name),
        debits=wire.money(balance.debits),
        credits=wire.money(balance.credits),
        balance=wire.money(balance.balance),
    )


def statement_to_proto(statement: Statement) -> service.CustomerStatement:
    return service.CustomerStatement(
        opening_balance=wire.money(statement.opening.receivable),
        opening_credit_balance=wire.money(statement.opening.credit),
        movements=[_movement_to_proto(each) for each in statement.movements],
        closing_balance=wire.money(statement.closing.receivable),
        closing_credit_balance=wire.money(statement.closing.credit),
        next_page_token="" if statement.is_end else token_of(statement.movements[-1].recorded),
    )


def _movement_to_proto(movement: Movement) -> pb.StatementMovement:
    recorded, owed = movement
    entry = recorded.entry
    moved = entry.moved
    return pb.StatementMovement(
        entry_id=recorded.id,
        date=wire.date(entry.effective_date),
        document_kind=_kind(entry),
        document_id=entry.document_id,
        event=_event(entry),
        invoice_id=entry.invoice_id,
        invoice_number=recorded.number,
        amount=wire.money(moved.receivable),
        credit_amount=wire.money(moved.credit),
        balance=wire.money(owed.receivable),
        credit_balance=wire.money(owed.credit),
    )


def _kind(entry: Entry) -> pb.LedgerEntry.DocumentKind.ValueType:
    return pb.LedgerEntry.DocumentKind.Value(entry.document_kind.name)


def _event(entry: Entry) -> pb.LedgerEntry.Event.ValueType:
    return pb.LedgerEntry.Event.Value(entry.event.name)
