"""Knows what credit moves between accounts, as far as no invoice and no credit note posts it.

    granted     PAID  CASH, or DEFERRED_REVENUE of a top-up   -> CUSTOMER_CREDIT      PROMOTIONAL  PROMOTIONAL_CREDIT
    committed   CUSTOMER_CREDIT -> REVENUE
    expired     PAID  CUSTOMER_CREDIT -> REVENUE                                      PROMOTIONAL  back
    revoked     PAID  CUSTOMER_CREDIT -> CASH, or REFUNDS_PAYABLE of what was paid    PROMOTIONAL  back
    moved       CUSTOMER_CREDIT -> CREDIT_TRANSFERS, and granted to the other customer from there

What an invoice applies it posts itself; what is left by a credit note, or comes back with one, the credit note.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from common.period import civil_date
from invoicing.domain.credit import Grant, GrantKind, Movement, MovementKind, Source
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.ledger import DocumentKind, Entry, Event, LedgerAccount, Posting

ZONE: Final = "UTC"
"""Whose days count: a customer has credit in no zone of its own."""

_EVENTS: Final = {
    MovementKind.GRANTED: Event.CREDIT_GRANTED,
    MovementKind.COMMITTED: Event.CREDIT_COMMITTED,
    MovementKind.EXPIRED: Event.CREDIT_EXPIRED,
    MovementKind.REVOKED: Event.CREDIT_REVOKED,
    MovementKind.MOVED: Event.CREDIT_MOVED,
}


def entries_of_movements(movements: Iterable[Movement], *, at: datetime) -> list[Entry]:
    """One for each movement that is posted, numbered as the movement is."""
    return [entry for movement in movements if (entry := _entry(movement, at=at)) is not None]


def _entry(movement: Movement, *, at: datetime) -> Entry | None:
    other = _other(movement)
    if other is None:
        return None
    # What a grant has more of is a credit; what it has less of a debit.
    minor = -movement.amount.minor if movement.kind is MovementKind.GRANTED else movement.amount.minor
    return Entry(
        customer_id=movement.grant.customer_id,
        document_kind=DocumentKind.CREDIT_GRANT,
        document_id=movement.grant.id,
        event=_EVENTS[movement.kind],
        ordinal=movement.ordinal,
        invoice_id=InvoiceId(""),
        currency=movement.amount.currency,
        effective_date=civil_date(at, ZONE),
        postings=(Posting(LedgerAccount.CUSTOMER_CREDIT, minor), Posting(other, -minor)),
    )


def _other(movement: Movement) -> LedgerAccount | None:
    """The account beside CUSTOMER_CREDIT; None for what others post, or what moves nothing."""
    grant = movement.grant
    is_present = grant.kind is GrantKind.PROMOTIONAL
    match movement.kind:
        case MovementKind.MOVED:
            return LedgerAccount.CREDIT_TRANSFERS
        case MovementKind.GRANTED if grant.source is Source.MERGE:
            return LedgerAccount.CREDIT_TRANSFERS
        case MovementKind.GRANTED:
            return LedgerAccount.PROMOTIONAL_CREDIT if is_present else _paid_from(grant)
        case MovementKind.COMMITTED:
            return LedgerAccount.REVENUE
        case MovementKind.EXPIRED:
            return LedgerAccount.PROMOTIONAL_CREDIT if is_present else LedgerAccount.REVENUE
        case MovementKind.REVOKED:
            if is_present:
                return LedgerAccount.PROMOTIONAL_CREDIT
            return LedgerAccount.CASH if grant.source is Source.MANUAL else LedgerAccount.REFUNDS_PAYABLE
        case _:
            return None


def _paid_from(grant: Grant) -> LedgerAccount | None:
    match grant.source:
        case Source.TOP_UP:
            return LedgerAccount.DEFERRED_REVENUE
        case Source.CREDIT_NOTE:
            return None
        case _:
            return LedgerAccount.CASH
