"""What would be wrong with the books, and what must be named because of it."""

from __future__ import annotations

from typing import Final

from tests.check.corruptions import BALANCED, EARNED, OWED, POSTED, Corruption

INVOICE: Final = (
    "document_id = (SELECT min(document_id) FROM ledger_entries"
    " WHERE event = 'RECOGNIZED' AND document_kind = 'INVOICE')"
)
"""Of one invoice that bills something in advance."""
PAYMENT: Final = "document_id = (SELECT min(document_id) FROM ledger_entries WHERE event = 'PAID')"


def again(where: str, change: str) -> tuple[str, ...]:
    """Some entries once more, told apart by what was changed in them."""
    return (
        f"CREATE TEMPORARY TABLE again AS SELECT * FROM ledger_entries WHERE {where}",
        f"UPDATE again SET {change}",
        "INSERT INTO ledger_entries SELECT * FROM again",
    )


def entry(change: str, where: str) -> tuple[str, ...]:
    return (f"UPDATE ledger_entries SET {change} WHERE {where}",)


LEDGER_CORRUPTIONS: Final = {
    "an entry does not balance": Corruption(
        "invoicing", entry("amounts[1] = amounts[1] + 1", PAYMENT), (BALANCED, OWED)
    ),
    "an entry is in an account that there is not": Corruption(
        "invoicing", entry("accounts[1] = 'PETTY_CASH'", PAYMENT), (BALANCED, OWED)
    ),
    "an invoice was not posted": Corruption(
        "invoicing", (f"DELETE FROM ledger_entries WHERE {INVOICE}",), (POSTED, OWED, EARNED)
    ),
    "an invoice was posted twice": Corruption(
        "invoicing", again(f"event = 'ISSUED' AND {INVOICE}", "ordinal = 2"), (POSTED, OWED, EARNED)
    ),
    "a payment was not posted": Corruption(
        "invoicing", (f"DELETE FROM ledger_entries WHERE {PAYMENT}",), (POSTED, OWED)
    ),
    "a payment was posted twice": Corruption("invoicing", again(PAYMENT, "ordinal = 2"), (POSTED, OWED)),
    "a payment was posted that nobody made": Corruption(
        "invoicing", entry("document_id = 'pay_x'", PAYMENT), (POSTED,)
    ),
    "a payment was posted for another invoice": Corruption(
        "invoicing",
        entry(
            "(invoice_id, customer_id) = (SELECT id, customer_id FROM invoices"
            " WHERE state = 'OPEN' AND currency = 'EUR' LIMIT 1)",
            PAYMENT,
        ),
        (POSTED, OWED),
    ),
    "a document was posted that is not there": Corruption(
        "invoicing",
        again(f"event = 'ISSUED' AND {INVOICE}", "document_id = 'inv_x', invoice_id = 'inv_x'"),
        (POSTED,),
    ),
    "an invoice is in the books of another day": Corruption(
        "invoicing", entry("effective_date = effective_date + 1", f"event = 'ISSUED' AND {INVOICE}"), (OWED,)
    ),
    "an invoice is in the books of another customer": Corruption(
        "invoicing", entry("customer_id = 'cus_x'", f"event = 'ISSUED' AND {INVOICE}"), (OWED,)
    ),
    "revenue is told as tax": Corruption(
        "invoicing",
        entry("accounts = array_replace(accounts, 'REVENUE', 'TAX_PAYABLE')", f"event = 'ISSUED' AND {INVOICE}"),
        (OWED, EARNED),
    ),
    "revenue is earned a month early": Corruption(
        "invoicing",
        entry(
            "effective_date = (date_trunc('month', effective_date) - interval '1 day')::date",
            f"event = 'RECOGNIZED' AND {INVOICE}",
        ),
        (EARNED,),
    ),
    "more is earned in a month than by its days": Corruption(
        "invoicing",
        entry(
            "amounts = ARRAY[amounts[1] + 500, amounts[2] - 500]", f"event = 'RECOGNIZED' AND ordinal = 1 AND {INVOICE}"
        ),
        (EARNED,),
    ),
    "what was deferred is never earned": Corruption(
        "invoicing", (f"DELETE FROM ledger_entries WHERE event = 'RECOGNIZED' AND {INVOICE}",), (EARNED,)
    ),
}
