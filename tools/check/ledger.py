"""Invariants of the books: every entry balances, every document is in them once, deferred revenue is earned by days.

Sellers whose documents of a release before are still being posted are looked at when that is done.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

ACCOUNTS: Final = frozenset(
    (
        *("RECEIVABLE", "CASH", "REVENUE", "DEFERRED_REVENUE", "DISCOUNTS", "TAX_PAYABLE", "CUSTOMER_CREDIT"),
        *("REFUNDS_PAYABLE", "PROMOTIONAL_CREDIT", "WRITE_OFFS", "ROUNDING", "CREDIT_TRANSFERS"),
    )
)
MONTHS_MAX: Final = 1_200
"""What is billed for longer is earned with the last of them."""
DAY: Final = timedelta(days=1)


def entries_balance(records: Records, tally: Tally) -> None:
    """In one currency, between at least two accounts of the chart, each once."""
    for entry in records.rows("invoicing", "ledger_entries"):
        accounts, amounts = entry["accounts"], entry["amounts"]
        holds = (
            len(accounts) == len(amounts) == len(set(accounts)) >= 2
            and sum(amounts) == 0
            and 0 not in amounts
            and set(accounts) <= ACCOUNTS
        )
        tally.check(holds, f"{entry['id']} moves {amounts} in {accounts}")


def documents_posted_once(records: Records, tally: Tally) -> None:
    """Every invoice that was issued and comes to something, every payment, every credit note and what was paid back for
    it, and all that was given up; and nothing that does not exist.
    """
    posted: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for entry in _entries(records):
        posted[entry["document_kind"], entry["document_id"], entry["event"]].append(entry)
    excused = _excused(records)
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for invoice in invoices.values():
        if invoice["seller_id"] in excused:
            continue
        own = posted.pop(("INVOICE", invoice["id"], "ISSUED"), [])
        is_final = invoice["state"] != "DRAFT"
        due = (1,) if is_final and invoice["total_minor"] else (0, 1) if is_final else (0,)
        tally.check(len(own) in due, f"{invoice['id']} is {invoice['state']} and posted {len(own)} times")
        given_up = len(posted.pop(("INVOICE", invoice["id"], "WRITTEN_OFF"), []))
        told = f"{invoice['id']} is given up {given_up} times"
        tally.check(given_up == int(invoice["uncollectible_time"] is not None), told)
    for payment in records.rows("invoicing", "invoice_payments"):
        if payment["seller_id"] in excused:
            continue
        own = posted.pop(("PAYMENT", payment["payment_id"], "PAID"), [])
        # What came when nothing was owed any more is all credit.
        times = int(payment["amount_minor"] > 0)
        tally.check(len(own) == times, f"{payment['payment_id']} is posted {len(own)} times")
        for entry in own:
            tally.check(entry["invoice_id"] == payment["invoice_id"], f"{entry['id']} is of another invoice")
    payments = {row["payment_id"] for row in records.rows("invoicing", "invoice_payments")}
    refunds = records.by("invoicing", "credit_note_refunds", "credit_note_id")
    notes = {row["id"]: row for row in records.rows("invoicing", "credit_notes")}
    for note in notes.values():
        own = posted.pop(("CREDIT_NOTE", note["id"], "CREDITED"), [])
        back = posted.pop(("CREDIT_NOTE", note["id"], "REFUNDED"), [])
        moves = bool(note["total_minor"]) or bool(own)
        holds = len(own) == int(moves) and len(back) == len(refunds.get(note["id"], ()))
        tally.check(holds, f"{note['id']} is posted {len(own)} times, {len(back)} of its refunds")
    for (kind, document_id, event), entries in posted.items():
        known = (
            kind not in ("INVOICE", "PAYMENT", "CREDIT_NOTE")
            or (kind == "INVOICE" and event != "ISSUED" and document_id in invoices)
            or (kind == "PAYMENT" and event == "RECOVERED" and document_id in payments)
            or (kind == "CREDIT_NOTE" and event == "RECOGNIZED" and document_id in notes)
        )
        tally.check(known, f"{entries[0]['id']} is of {document_id}, which is not there")


def receivables_agree_with_invoices(records: Records, tally: Tally) -> None:
    """What is owed for an invoice by the books is what remains to be paid of it; each part is where it belongs."""
    by_invoice = _by_invoice(records)
    excused = _excused(records)
    payments = {row["payment_id"]: row for row in records.rows("invoicing", "invoice_payments")}
    notes = records.by("invoicing", "credit_notes", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        if invoice["state"] == "DRAFT" or invoice["seller_id"] in excused:
            continue
        own = by_invoice.get(invoice["id"], [])
        settled = ("credit_applied", "amount_paid", "amount_credited", "amount_written_off")
        remaining = invoice["total_minor"] - sum(invoice[f"{part}_minor"] for part in settled)
        owed = _moved(own, "RECEIVABLE")
        tally.check(owed == remaining, f"{invoice['id']} has {remaining} to be paid, the books {owed}")
        lost = _moved(own, "WRITE_OFFS")
        told_lost = f"{invoice['id']}: {invoice['amount_written_off_minor']} given up, {lost} by the books"
        tally.check(lost == invoice["amount_written_off_minor"], told_lost)
        back = [note for note in notes.get(invoice["id"], ()) if note["seller_id"] == invoice["seller_id"]]
        for note in back:
            _check_note(note, [entry for entry in own if entry["document_id"] == note["id"]], tally)
        issued = [entry for entry in own if entry["event"] == "ISSUED"]
        if issued:
            told = [_moved(issued, account) for account in ("RECEIVABLE", "TAX_PAYABLE", "ROUNDING")]
            due = [invoice["total_minor"], -invoice["tax_minor"], -invoice["rounding_minor"]]
            tally.check(told == due, f"{invoice['id']} came to {due}, the books say {told}")
        for entry in own:
            same = (entry["seller_id"], entry["customer_id"], entry["currency"])
            of_invoice = (invoice["seller_id"], invoice["customer_id"], invoice["currency"])
            tally.check(same == of_invoice, f"{entry['id']} is of {same}, {invoice['id']} of {of_invoice}")
            if entry["document_kind"] == "INVOICE" and entry["event"] not in ("RECOGNIZED", "WRITTEN_OFF"):
                billed = _day(invoice["bill_time"], invoice["time_zone"])
                tally.check(entry["effective_date"] == billed, f"{entry['id']} is not of the day of {invoice['id']}")
            if entry["document_kind"] == "PAYMENT" and entry["event"] == "PAID" and entry["document_id"] in payments:
                payment = payments[entry["document_id"]]
                paid = _moved([entry], "CASH") == payment["amount_minor"] == -_moved([entry], "RECEIVABLE")
                on_day = entry["effective_date"] == _day(payment["create_time"], invoice["time_zone"])
                tally.check(paid and on_day, f"{entry['id']} is not what {payment['payment_id']} brought in")


def _check_note(note: Row, entries: Sequence[Row], tally: Tally) -> None:
    """Each part of a credit note is where it belongs; in the end nothing of it is deferred."""
    net = note["total_minor"] - note["rounding_minor"] - note["tax_minor"]
    accounts = ("REVENUE", "DEFERRED_REVENUE", "TAX_PAYABLE", "ROUNDING", "CUSTOMER_CREDIT", "REFUNDS_PAYABLE", "CASH")
    told = [_moved(entries, account) for account in accounts]
    refunded = note["refunded_minor"]
    due = [net, 0, note["tax_minor"], note["rounding_minor"], -note["customer_credit_minor"]]
    due += [refunded - note["refund_minor"], -refunded]
    tally.check(told == due, f"{note['id']} came to {due}, the books say {told}")


def revenue_earned_by_days(records: Records, tally: Tally) -> None:
    """All of it in the end, and in each month as much as its days are of the period, to a minor unit for each line."""
    by_invoice = _by_invoice(records)
    excused = _excused(records)
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        if invoice["state"] == "DRAFT" or invoice["seller_id"] in excused:
            continue
        own = [entry for entry in by_invoice.get(invoice["id"], []) if entry["document_kind"] == "INVOICE"]
        net = invoice["total_minor"] - invoice["rounding_minor"] - invoice["tax_minor"]
        earned, deferred = -_moved(own, "REVENUE"), -_moved(own, "DEFERRED_REVENUE")
        # What buys credit earns nothing: when it is paid, what it keeps becomes credit.
        expected = (0, net) if invoice["top_up_rule_id"] else (net, 0)
        tally.check((earned, deferred) == expected, f"{invoice['id']} of {net} earns {earned} and keeps {deferred}")
        if invoice["top_up_rule_id"]:
            continue
        due, count = _due(invoice, lines.get(invoice["id"], ()))
        if len(due) > MONTHS_MAX:
            continue
        for entry in own:
            if entry["event"] == "RECOGNIZED":
                exact = due.pop(entry["effective_date"], None)
                found = -_moved([entry], "REVENUE")
                holds = exact is not None and abs(found - exact) <= count + 1
                tally.check(holds, f"{entry['id']} earns {found} of {invoice['id']}, by days {exact}")
        for month_end, exact in due.items():
            tally.check(abs(exact) <= count + 1, f"{invoice['id']} earns nothing of {exact} by {month_end}")


def _due(invoice: Row, lines: Sequence[Row]) -> tuple[dict[date, Fraction], int]:
    """By the last days of months: what is earned by then and was not with the invoice; and of how many lines."""
    zone = invoice["time_zone"]
    after = _day(invoice["bill_time"], zone) + DAY
    included = sum(tax["amount_minor"] for tax in json.loads(invoice["taxes"]) if tax["is_included"])
    nets = sum(line["amount_minor"] - line["discount_minor"] for line in lines)
    kept = 1 - Fraction(included, nets) if nets else Fraction(1)
    due: dict[date, Fraction] = defaultdict(Fraction)
    count = 0
    for line in lines:
        if line["meter"]:
            continue
        start = _day(line["period_start"], zone)
        end = max(_day(line["period_end"], zone), start + DAY)
        daily = kept * Fraction(line["amount_minor"] - line["discount_minor"], (end - start).days)
        if after >= end:
            continue
        count += 1
        for first, next_first in _months(max(start, after), end):
            due[next_first - DAY] += daily * (min(next_first, end) - max(first, start, after)).days
    return due, count


def _months(start: date, end: date) -> Iterator[tuple[date, date]]:
    """The first days of every month that has a day in common with the time, and of the one after it."""
    first = start.replace(day=1)
    while first < end:
        following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
        yield first, following
        first = following


def _entries(records: Records) -> list[Row]:
    excused = _excused(records)
    return [row for row in records.rows("invoicing", "ledger_entries") if row["seller_id"] not in excused]


def _by_invoice(records: Records) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for entry in _entries(records):
        found[entry["invoice_id"]].append(entry)
    return found


def _excused(records: Records) -> set[str]:
    return {row["seller_id"] for row in records.rows("invoicing", "ledger_backfills")}


def _moved(entries: Sequence[Row], account: str) -> int:
    return sum(
        amount
        for entry in entries
        for each, amount in zip(entry["accounts"], entry["amounts"], strict=False)
        if each == account
    )


def _day(moment: datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date()


INVARIANTS: Final = (
    Invariant(name="every entry of the books balances", needs=("invoicing",), verify=entries_balance),
    Invariant(name="every document is in the books once", needs=("invoicing",), verify=documents_posted_once),
    Invariant(
        name="the books agree with what is owed for every invoice",
        needs=("invoicing",),
        verify=receivables_agree_with_invoices,
    ),
    Invariant(name="what was billed in advance is earned by days", needs=("invoicing",), verify=revenue_earned_by_days),
)
