"""Invariants of usage that changed after it was billed: what is said to have become of it is what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final

from tools.check import rater
from tools.check.billing import key_of, lines_by_key, span_of, standing_lines
from tools.check.counting import counting_of, proof
from tools.check.early import Early
from tools.check.records import Records, Row
from tools.check.refusals import Refusals
from tools.check.refusals import key_of as key_of_record
from tools.check.report import Invariant, Tally
from tools.check.tariff import tariffs


def refused_once(records: Records, tally: Tally) -> None:
    """What was refused is what the usage of that moment comes to beyond what was billed and refused by then: more than
    nothing, once.
    """
    counting, prices = counting_of(records), tariffs(records)
    notes = records.by("invoicing", "credit_notes", "invoice_id")

    def stood(line: Row, refusal: Row) -> bool:
        invoice_id = line["invoice_id"]
        return _stood(line, invoices[invoice_id], notes.get(invoice_id, ()), refusal)

    lines = records.by("invoicing", "invoice_lines", "item_id")
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for key, rows in Refusals(records).by_key.items():
        refused = 0
        own = [line for line in lines.get(key.item_id, ()) if key_of(line) == key]
        counted = {_counted(line) for line in own}
        for number, row in enumerate(rows, start=1):
            with tally.checking(row["id"]):
                tally.check(row["number"] == number, f"{row['id']} is refusal {row['number']}, not {number}")
                billed = sum(line["amount_minor"] for line in own if stood(line, row))
                tally.check(row["billed_minor"] == billed, f"{row['id']}: {row['billed_minor']} billed, not {billed}")
                since = (row["before_quantity"], row["before_event_count"], row["before_through_position"])
                tally.check(since in counted, f"{row['id']} is the difference to what nobody counted")
                counted.add(_counted(row))
                _, tariff = prices[row["price_id"]]
                currency = row["currency"]
                tally.check({line["currency"] for line in own} <= {currency}, f"{row['id']} is in {currency}")
                if not counting.is_archived(row, span_of(row), tariff.model):
                    found = counting.considered(row, span_of(row), tariff.model)
                    told = (Fraction(row["usage_quantity"]), row["usage_event_count"], row["usage_digest"])
                    anew = (counting.quantity(row, found), len(found), proof(row, found, tariff.model))
                    tally.check(told == anew, f"{row['id']}: {told[0]} of {told[1]} events; counted anew {anew[0]}")
                    whole = rater.due(tariff, counting.used(row, found, tariff.model), currency)
                    due = whole - billed - refused
                    refuses = row["amount_minor"]
                    tally.check(refuses == due > 0, f"{row['id']} refuses {refuses}, rated anew {due} {currency}")
            refused += row["amount_minor"]


def became_what_is_said(records: Records, tally: Tally) -> None:
    """What was billed of late usage is on the line that is named, what was made anew was annulled because of it; and of
    every correction it is said, from the first record of the seller on.
    """
    lines = {line["id"]: line for line in records.rows("invoicing", "invoice_lines")}
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    notes = records.by("invoicing", "credit_notes", "invoice_id")
    of_invoice = records.by("invoicing", "invoice_lines", "invoice_id")
    first: dict[str, datetime] = {}
    named: Counter[str] = Counter()
    for row in records.rows("invoicing", "late_usages"):
        seller_id = row["seller_id"]
        first[seller_id] = min(first.get(seller_id, row["create_time"]), row["create_time"])
        if row["outcome"] == "REISSUED":
            because = any(note["reason"] == "LATE_USAGE" for note in notes.get(row["invoice_id"], ()))
            because = because or invoices[row["invoice_id"]]["number"] is None
            gone = because and all(line["voided"] for line in of_invoice.get(row["invoice_id"], ()))
            tally.check(gone, f"{row['invoice_id']} was not taken back for {row['id']}")
        # What a draft has dropped since waits, and has a record of its own when it is billed.
        elif row["outcome"] == "BILLED" and row["line_id"] in lines:
            line = lines[row["line_id"]]
            named[line["id"]] += 1
            is_it = key_of(line) == key_of_record(row) and line["correction"] > 0
            same = is_it and line["invoice_id"] == row["invoice_id"] and line["meter"] == row["meter"]
            tally.check(same, f"{line['id']} does not bill {row['id']}")
    early = Early(records)
    not_late = {line_id for own in lines_by_key(records).values() for line_id in early.not_late(own)}
    for line in standing_lines(records):
        since = first.get(line["seller_id"])
        invoice = invoices[line["invoice_id"]]
        is_late = line["meter"] and line["correction"] and line["id"] not in not_late
        if is_late and since is not None and invoice["create_time"] >= since:
            times = named[line["id"]]
            tally.check(times == 1, f"{times} records say that {line['id']} is for late usage")


def _stood(line: Row, invoice: Row, notes: Sequence[Row], refusal: Row) -> bool:
    """Whether a line was final, and counted, when something was refused."""
    at = refusal["create_time"]
    if invoice["state"] == "DRAFT" or invoice["finalize_time"] > at:
        return False
    # What is void was so from the last of its credit notes on.
    if invoice["number"] is None and line["voided"]:
        return bool(invoice["void_time"] > at)
    return not line["voided"] or any(note["issue_time"] > at for note in notes)


def _counted(row: Row) -> tuple[object, ...]:
    return row["usage_quantity"], row["usage_event_count"], row["usage_through_position"]


INVARIANTS: Final = (
    Invariant(
        name="what was refused of late usage is what it comes to",
        needs=("catalog", "subscriptions", "metering", "invoicing"),
        verify=refused_once,
    ),
    Invariant(name="late usage became what is said of it", needs=("invoicing",), verify=became_what_is_said),
)
