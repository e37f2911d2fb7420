"""What credit moves between accounts: as much as it moved, on the right side, and nothing that others post."""

from __future__ import annotations

import pytest

from invoicing.domain.credit import GrantId, GrantKind, Movement, MovementKind, Source
from invoicing.domain.credit_entries import entries_of_movements
from invoicing.domain.ledger import LedgerAccount

from .test_credit import NOW, eur, grant

PAID, PROMOTIONAL = GrantKind.PAID, GrantKind.PROMOTIONAL
KIND = MovementKind


@pytest.mark.parametrize(
    ("kind", "whose", "source", "other", "credit"),
    [
        (KIND.GRANTED, PAID, Source.MANUAL, "CASH", -5),
        (KIND.GRANTED, PAID, Source.OVERPAYMENT, "CASH", -5),
        (KIND.GRANTED, PAID, Source.TOP_UP, "DEFERRED_REVENUE", -5),
        (KIND.GRANTED, PROMOTIONAL, Source.MANUAL, "PROMOTIONAL_CREDIT", -5),
        (KIND.COMMITTED, PAID, Source.MANUAL, "REVENUE", 5),
        (KIND.COMMITTED, PROMOTIONAL, Source.MANUAL, "REVENUE", 5),
        (KIND.EXPIRED, PAID, Source.TOP_UP, "REVENUE", 5),
        (KIND.EXPIRED, PROMOTIONAL, Source.MANUAL, "PROMOTIONAL_CREDIT", 5),
        (KIND.REVOKED, PAID, Source.MANUAL, "CASH", 5),
        (KIND.REVOKED, PAID, Source.OVERPAYMENT, "REFUNDS_PAYABLE", 5),
        (KIND.REVOKED, PROMOTIONAL, Source.MANUAL, "PROMOTIONAL_CREDIT", 5),
        (KIND.REVOKED, PAID, Source.MERGE, "REFUNDS_PAYABLE", 5),
        (KIND.MOVED, PAID, Source.TOP_UP, "CREDIT_TRANSFERS", 5),
        (KIND.MOVED, PROMOTIONAL, Source.MANUAL, "CREDIT_TRANSFERS", 5),
        (KIND.GRANTED, PAID, Source.MERGE, "CREDIT_TRANSFERS", -5),
        (KIND.GRANTED, PROMOTIONAL, Source.MERGE, "CREDIT_TRANSFERS", -5),
    ],
)
def test_what_moves_is_posted(kind: MovementKind, whose: GrantKind, source: Source, other: str, credit: int) -> None:
    """What a customer has is owed to it: a grant is a credit, its end a debit."""
    moved = Movement(
        grant=grant("g", 5, kind=whose, source=source, revision=3), kind=kind, amount=eur(5), document_id=""
    )
    [entry] = entries_of_movements([moved], at=NOW)
    assert dict(entry.postings) == {LedgerAccount.CUSTOMER_CREDIT: credit, LedgerAccount[other]: -credit}
    assert (entry.document_id, entry.ordinal, entry.effective_date) == (GrantId("g"), 3, NOW.date())


@pytest.mark.parametrize("kind", [KIND.APPLIED, KIND.RETURNED, KIND.RESERVED, KIND.RELEASED])
def test_what_others_post_is_not_posted_twice(kind: MovementKind) -> None:
    """Invoices and credit notes post for themselves; what is only set aside is where it was."""
    moved = Movement(grant=grant("g", 5), kind=kind, amount=eur(5), document_id="inv_1")
    assert entries_of_movements([moved], at=NOW) == []


def test_what_a_credit_note_leaves_it_posts_itself() -> None:
    """The grant is only how it is kept."""
    left = grant("g", 5, source=Source.CREDIT_NOTE, document_id="cnote_1")
    moved = Movement(grant=left, kind=KIND.GRANTED, amount=eur(5), document_id="cnote_1")
    assert entries_of_movements([moved], at=NOW) == []
