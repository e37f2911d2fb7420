"""What would be wrong with what was taken back, and what must be named because of it."""

from __future__ import annotations

from tests.check.corruptions import (
    ANNOUNCED,
    EARNED,
    FEE_NOT_TWICE,
    GAPLESS,
    ISSUED,
    NOT_TWICE,
    NOTE_AGREES,
    NOTE_MOST,
    NOTE_SUMS,
    NOTE_TOLD,
    NUMBERS,
    OWED,
    PERIODS,
    POSTED,
    RECORD,
    TOTALS,
    VOIDED,
    Corruption,
    one,
)

VOID_FOR_NOW = (
    "(SELECT id FROM invoices i WHERE state = 'VOID'"
    " AND NOT EXISTS (SELECT FROM invoices o WHERE o.customer_id = i.customer_id AND o.state <> 'VOID'))"
)
"""The one that nothing stands for yet."""

CREDIT_NOTE_CORRUPTIONS = {
    "a credit note is of another total": Corruption(
        "invoicing", (one("credit_notes", "rounding_minor = rounding_minor + 1"),), (ISSUED, OWED, NOTE_SUMS)
    ),
    "more is taken back of a line than was billed": Corruption(
        "invoicing",
        ("UPDATE credit_note_lines SET amount_minor = amount_minor + 100000",),
        (ISSUED, NOTE_SUMS, NOTE_MOST, NOT_TWICE, FEE_NOT_TWICE),
    ),
    "a credit note takes back what another invoice billed": Corruption(
        "invoicing",
        (
            one(
                "credit_note_lines",
                "line_id = (SELECT id FROM invoice_lines WHERE kind = 'OWED' AND NOT voided"
                " AND id NOT IN (SELECT line_id FROM credit_note_lines) LIMIT 1)",
                "amount_minor = 1000 AND credit_note_id > (SELECT min(id) FROM credit_notes)",
            ),
        ),
        (ISSUED, NOTE_MOST),
    ),
    "a credit takes off what a credit note gave back": Corruption(
        "invoicing",
        (
            "UPDATE invoice_lines SET amount_minor = amount_minor - 100 * back, exact_amount = exact_amount - back,"
            " rating_steps = (SELECT jsonb_agg(s ORDER BY n) FROM jsonb_array_elements(rating_steps)"
            " WITH ORDINALITY t (s, n) WHERE s->>'kind' <> 'CREDITED_BEFORE')"
            " FROM (SELECT id, (s->>'amount')::numeric AS back FROM invoice_lines, jsonb_array_elements(rating_steps) s"
            " WHERE kind = 'CREDIT' AND s->>'kind' = 'CREDITED_BEFORE') i WHERE i.id = invoice_lines.id",
        ),
        (TOTALS, ISSUED, EARNED, FEE_NOT_TWICE),
    ),
    "a credit note was forgotten by its invoice": Corruption(
        "invoicing",
        (
            one(
                "invoices",
                "amount_credited_minor = amount_credited_minor - 1",
                "amount_credited_minor > 0 AND state = 'OPEN' AND collection_method = 'SEND_INVOICE'",
            ),
        ),
        (OWED, NOTE_AGREES),
    ),
    "a refund was forgotten": Corruption(
        "invoicing", ("DELETE FROM credit_note_refunds",), (POSTED, NOTE_AGREES, NOTE_TOLD)
    ),
    "the number of a credit note was lost": Corruption(
        "invoicing",
        (one("credit_notes", "number = 'CHK-CN-000099'", "number = 'CHK-CN-000001'"),),
        (NUMBERS, ISSUED),
    ),
    "a void invoice was not taken back": Corruption(
        "invoicing", (one("credit_notes", "kind = 'CREDIT'", "kind = 'VOID'"),), (ISSUED, VOIDED, NOTE_TOLD)
    ),
    "the lines of a void invoice count": Corruption(
        "invoicing", (f"UPDATE invoice_lines SET voided = false WHERE invoice_id = {VOID_FOR_NOW}",), (VOIDED,)
    ),
    "nobody bills anew what a void invoice billed": Corruption(
        "invoicing",
        (
            "UPDATE billing SET billed_through_time = due_time"
            f" WHERE customer_id = (SELECT customer_id FROM invoices WHERE id = {VOID_FOR_NOW})",
        ),
        (PERIODS,),
    ),
    "a refund is not in the books": Corruption(
        "invoicing", ("DELETE FROM ledger_entries WHERE event = 'REFUNDED'",), (POSTED, OWED)
    ),
    "what was given up is not in the books": Corruption(
        "invoicing", ("DELETE FROM ledger_entries WHERE event = 'WRITTEN_OFF'",), (POSTED, OWED)
    ),
    "a credit note is not in the books": Corruption(
        "invoicing",
        (
            "DELETE FROM ledger_entries WHERE document_kind = 'CREDIT_NOTE' AND event = 'CREDITED'"
            " AND invoice_id = (SELECT min(invoice_id) FROM credit_notes WHERE debt_minor > 0)",
        ),
        (POSTED, OWED),
    ),
    "a credit note was not announced": Corruption(
        "invoicing",
        (
            "DELETE FROM outbox WHERE position = (SELECT max(position) FROM outbox"
            " WHERE subject LIKE '%.CreditNoteIssued')",
        ),
        (NOTE_TOLD, GAPLESS),
    ),
    "what was given up says it was not": Corruption(
        "invoicing",
        (one("invoices", "uncollectible_time = NULL", "state = 'UNCOLLECTIBLE'"),),
        (POSTED, ANNOUNCED),
    ),
    "an attempt is of another amount": Corruption(
        "payments", (one("payment_attempts", "amount_minor = amount_minor + 1"),), (RECORD,)
    ),
}
