"""Invariants of consolidation: every line is on an invoice of whoever pays for it, beside none that may not be."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from tools.check.billing import expected, key_of
from tools.check.early import Early
from tools.check.payers import Payers, used_by
from tools.check.records import Records
from tools.check.report import Invariant, Tally

ALWAYS: Final = ("payer", "currency", "collection_method", "net_terms")
"""What is a key of every line, whatever is declared."""


def lines_go_to_whoever_pays(records: Records, tally: Tally) -> None:
    """A line is on an invoice of whoever paid for it when it was due, and says who used it if that is another."""
    due = {billable.key: billable for billable in expected(records)}
    payers, early = Payers(records), Early(records).ids
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for line in records.rows("invoicing", "invoice_lines"):
        billable = due.get(key_of(line))
        if billable is None:
            continue  # by hand, or for no reason, which another invariant says
        invoice = invoices[line["invoice_id"]]
        payer_id = invoice["customer_id"]
        customer_id = billable.terms.customer_id
        # What was billed early was addressed to whoever paid by then.
        bill_time = invoice["bill_time"] if line["id"] in early else billable.bill_time
        pays = payers.around(billable.subscription_id, customer_id, bill_time)
        tally.check(payer_id in pays, f"{line['id']} is to be paid by {payer_id}, not by {sorted(pays)}")
        told = used_by(line, invoices[line["invoice_id"]])
        tally.check(told == customer_id, f"{line['id']} was used by {customer_id}, not by {told}")


def lines_have_the_keys_of_their_invoice(records: Records, tally: Tally) -> None:
    """What is told of why lines are together is so of each of them, and was declared."""
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        if invoice["consolidation"] is None:
            continue  # of before it was kept
        told = json.loads(invoice["consolidation"])
        keys = dict(told["keys"])
        declared = {key: value for key, value in keys.items() if key not in ALWAYS}
        own = lines.get(invoice["id"], ())
        holds = keys.get("payer", invoice["customer_id"]) == invoice["customer_id"]
        holds &= keys.get("currency", invoice["currency"]) == invoice["currency"]
        holds &= all(line["currency"] == invoice["currency"] for line in own)
        if "subscription" in keys:
            holds &= {line["subscription_id"] for line in own} <= {keys["subscription"]}
        if "customer" in keys:
            holds &= {used_by(line, invoice) for line in own} <= {keys["customer"]}
        tally.check(holds, f"{invoice['id']} has lines that are not {keys}")
        said = all(set(source["keys"]) - set(ALWAYS) == declared.keys() for source in told["sources"])
        tally.check(said and bool(told["sources"]) >= bool(declared), f"{invoice['id']}: nobody declared {declared}")
        text = json.dumps([[key, value] for key, value in told["keys"] if key in declared])
        key = hashlib.sha256(text.encode()).hexdigest() if declared else ""
        tally.check(invoice["consolidation_key"] == key, f"{invoice['id']} is not told apart by {declared}")


INVARIANTS: Final = (
    Invariant(
        name="every line is on an invoice of whoever pays for it",
        needs=("subscriptions", "invoicing"),
        verify=lines_go_to_whoever_pays,
    ),
    Invariant(
        name="lines that are together have the keys of their invoice",
        needs=("invoicing",),
        verify=lines_have_the_keys_of_their_invoice,
    ),
)
