"""Invariants of bill runs that somebody asked for: what they tell of each customer is so."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from tools.check.payers import used_by
from tools.check.records import Records
from tools.check.report import Invariant, Tally


def results_are_so(records: Records, tally: Tally) -> None:
    """A customer who was billed is on the invoices that are named, one who waits is due, and none is left out."""
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    users: dict[str, set[str]] = defaultdict(set)
    for line in records.rows("invoicing", "invoice_lines"):
        users[line["invoice_id"]].add(used_by(line, invoices[line["invoice_id"]]))
    billing = {(row["seller_id"], row["customer_id"]): row for row in records.rows("invoicing", "billing")}
    results = records.by("invoicing", "bill_run_customers", "bill_run_id")
    for run in records.rows("invoicing", "bill_runs"):
        found = len(results.get(run["id"], ()))
        tally.check(found == run["customer_count"], f"{run['id']} has {found} customers of {run['customer_count']}")
    for result in records.rows("invoicing", "bill_run_customers"):
        name = f"{result['customer_id']} in {result['bill_run_id']}"
        known = billing.get((result["seller_id"], result["customer_id"]))
        if known is None:
            tally.check(False, f"{name} was never to be billed")
        elif result["outcome"] == "WAITING":
            tally.check(known["in_bill_run"] and known["due_time"] is not None, f"{name} waits for nothing")
        # A correction that fitted a draft when it was billed may have left it since.
        absent = [each for each in result["invoice_ids"] if result["customer_id"] not in users[each]]
        final = [each for each in absent if each not in invoices or invoices[each]["state"] != "DRAFT"]
        tally.check(not final, f"{name} is not on {', '.join(final)}")


INVARIANTS: Final = (
    Invariant(name="bill runs tell what became of their customers", needs=("invoicing",), verify=results_are_so),
)
