"""Invariants of what is taken back: never more than was billed, line by line, and told the same wherever it is told."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from tools.check.announcements import pruned
from tools.check.billing import left_of_fees, lines_by_key
from tools.check.credited import Credited
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally


def notes_sum_to_totals(records: Records, tally: Tally) -> None:
    """A credit note is the sum of its lines, as an invoice is; and what becomes of it adds up to it."""
    lines = records.by("invoicing", "credit_note_lines", "credit_note_id")
    for note in records.rows("invoicing", "credit_notes"):
        own = lines.get(note["id"], ())
        taxes = json.loads(note["taxes"])
        added = sum(tax["amount_minor"] for tax in taxes if not tax["is_included"])
        discount = sum(line["discount_minor"] for line in own)
        total = sum(line["amount_minor"] for line in own) - discount + added + note["rounding_minor"]
        settled = note["debt_minor"] + note["customer_credit_minor"] + note["refund_minor"]
        parts = (sum(tax["amount_minor"] for tax in taxes), discount, len(own))
        told = (note["tax_minor"], note["discount_minor"], note["line_count"])
        alike = {line["currency"] for line in own} <= {note["currency"]}
        holds = total == settled == note["total_minor"] and parts == told and alike
        tally.check(holds, f"{note['id']}: {note['total_minor']}, its {len(own)} lines {total}, settled {settled}")


def never_more_than_billed(records: Records, tally: Tally) -> None:
    """Of no line, tax or invoice more is taken back than there was; and when all lines are, nothing is left of it."""
    notes = records.by("invoicing", "credit_notes", "invoice_id")
    credited = records.by("invoicing", "credit_note_lines", "line_id")
    noted = {row["id"]: row["invoice_id"] for row in records.rows("invoicing", "credit_notes")}
    billed = records.by("invoicing", "invoice_lines", "invoice_id")
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for invoice_id, own in notes.items():
        invoice = invoices.get(invoice_id)
        if invoice is None or invoice["state"] == "DRAFT":
            tally.check(False, f"{own[0]['id']} is of {invoice_id}, which was not issued")
            continue
        lines = billed.get(invoice_id, ())
        left = 0
        for line in lines:
            own_parts = [
                each for each in credited.get(line["id"], ()) if noted.get(each["credit_note_id"]) == invoice_id
            ]
            left += not _is_all(line, own_parts, tally)
        total = sum(note["total_minor"] for note in own)
        whole = left == 0
        holds = total == invoice["total_minor"] if whole else 0 <= total <= invoice["total_minor"]
        tally.check(holds, f"{invoice_id}: {total} of {invoice['total_minor']} taken back, {left} lines left")
        _check_taxes(invoice, own, tally, whole=whole)
        for note in own:
            same = (note["currency"], note["customer_id"], note["invoice_number"])
            due = (invoice["currency"], invoice["customer_id"], invoice["number"])
            tally.check(same == due, f"{note['id']} says {', '.join(same)}, its invoice {', '.join(due)}")
    for line_id, parts in credited.items():
        owner = {line["invoice_id"] for each in billed.values() for line in each if line["id"] == line_id}
        tally.check(owner == {noted.get(part["credit_note_id"]) for part in parts}, f"{line_id} is of another invoice")


def _is_all(line: Row, parts: Sequence[Row], tally: Tally) -> bool:
    """Whether all of a line was taken back."""
    amount, discount = sum(part["amount_minor"] for part in parts), sum(part["discount_minor"] for part in parts)
    sign = -1 if line["amount_minor"] < 0 else 1
    alike = all(part["amount_minor"] * sign > 0 and part["discount_minor"] >= 0 for part in parts)
    within = 0 <= amount * sign <= line["amount_minor"] * sign and 0 <= discount <= line["discount_minor"]
    done: bool = amount == line["amount_minor"]
    holds = alike and within and (not done or discount == line["discount_minor"])
    tally.check(holds, f"{line['id']}: {amount} of {line['amount_minor']} taken back, {discount} of its discounts")
    return done


def _check_taxes(invoice: Row, notes: Iterable[Row], tally: Tally, *, whole: bool) -> None:
    back: Counter[tuple[str, ...]] = Counter()
    for note in notes:
        for tax in json.loads(note["taxes"]):
            back[_kind(tax)] += tax["amount_minor"]
    for tax in json.loads(invoice["taxes"]):
        amount, billed = back.pop(_kind(tax), 0), tax["amount_minor"]
        holds = amount == billed if whole else min(0, billed) <= amount <= max(0, billed)
        tally.check(holds, f"{invoice['id']}: {amount} of {billed} {tax['name']} taken back")
    for kind in back:
        tally.check(False, f"{invoice['id']}: {kind[0]} was taken back and never billed")


def _kind(tax: Row) -> tuple[str, ...]:
    return tuple(str(tax[name]) for name in ("name", "category", "percent", "is_included", "rate_id"))


def settled_as_noted(records: Records, tally: Tally) -> None:
    """What an invoice was credited is the debt that its notes cancelled; no more is paid back than was paid, and of
    each note as much as was recorded.
    """
    debt: Counter[str] = Counter()
    refunds: Counter[str] = Counter()
    for note in records.rows("invoicing", "credit_notes"):
        debt[note["invoice_id"]] += note["debt_minor"]
        refunds[note["invoice_id"]] += note["refund_minor"]
    for invoice in records.rows("invoicing", "invoices"):
        cancelled, refund = debt[invoice["id"]], refunds[invoice["id"]]
        holds = cancelled == invoice["amount_credited_minor"] and refund <= invoice["amount_paid_minor"]
        told = f"{invoice['amount_credited_minor']} credited, {cancelled} by notes, {refund} refunded"
        tally.check(holds, f"{invoice['id']}: {told}")
    recorded: Counter[str] = Counter()
    for row in records.rows("invoicing", "credit_note_refunds"):
        recorded[row["credit_note_id"]] += row["amount_minor"]
    for note in records.rows("invoicing", "credit_notes"):
        back = recorded.pop(note["id"], 0)
        holds = back == note["refunded_minor"] <= note["refund_minor"]
        tally.check(holds, f"{note['id']}: {note['refunded_minor']} refunded, {back} recorded")
    for note_id in recorded:
        tally.check(False, f"{note_id} has refunds and does not exist")


def void_in_full(records: Records, tally: Tally) -> None:
    """A void invoice has one credit note that says so, and all of it is taken back; its lines count no more. No other
    invoice has such a note, or such lines, but one that was paid, and taken back in full because usage came late; or
    lines that were billed early, each of which was taken back in full. What is no document has no note.
    """
    early = {row["line_id"] for row in records.rows("invoicing", "early_lines")}
    credited: Counter[str] = Counter()
    for row in records.rows("invoicing", "credit_note_lines"):
        credited[row["line_id"]] += row["amount_minor"]
    notes = records.by("invoicing", "credit_notes", "invoice_id")
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        own = notes.get(invoice["id"], ())
        is_void = invoice["state"] == "VOID"
        voiding = sum(note["kind"] == "VOID" for note in own)
        voided = {
            line["voided"]
            for line in lines.get(invoice["id"], ())
            if is_void
            or not (line["voided"] and line["id"] in early)
            or line["amount_minor"] not in (credited[line["id"]], line["discount_minor"])
        }
        in_full = sum(note["total_minor"] for note in own) == invoice["total_minor"]
        is_replaced = voided == {True} and any(note["reason"] == "LATE_USAGE" for note in own) and in_full
        holds = voiding == int(is_void and invoice["number"] is not None) and voided <= {is_void or is_replaced}
        if is_void:
            holds = holds and in_full and invoice["amount_paid_minor"] == 0
        holds = holds and (not own or invoice["number"] is not None)
        tally.check(holds, f"{invoice['id']} is {invoice['state']} with {voiding} notes that void it")


def given_back_once(records: Records, tally: Tally) -> None:
    """Of usage that was billed no more is given back than that, by later invoices and credit notes together."""
    credited = Credited(records)
    for lines in lines_by_key(records).values():
        if lines[0]["meter"]:
            billed, back = sum(line["amount_minor"] for line in lines), credited.all(lines)
            tally.check(back <= billed, f"{lines[0]['id']}: {back} given back of {billed} that were left")


def given_back_once_in_advance(records: Records, tally: Tally) -> None:
    """Of what was billed in advance no more is given back than that, by credits and credit notes together."""
    for key, left in left_of_fees(records).items():
        tally.check(left >= 0, f"{key.item_id} from {key.period_start}: {-left} more given back than was billed")


def every_note_announced(records: Records, tally: Tally) -> None:
    """Each was told of once, each of its refunds too; and of an invoice, how often its debt was made less."""
    told = Counter(
        (row["aggregate_id"], row["subject"].rpartition(".")[2]) for row in records.rows("invoicing", "outbox")
    )
    unknown = pruned(records, "invoicing")
    refunds = Counter(row["credit_note_id"] for row in records.rows("invoicing", "credit_note_refunds"))
    credited: Counter[str] = Counter()
    sellers: dict[str, str] = {}
    due: dict[tuple[str, str], int] = defaultdict(int)
    for note in records.rows("invoicing", "credit_notes"):
        sellers[note["id"]] = sellers[note["invoice_id"]] = note["seller_id"]
        due[note["id"], "CreditNoteIssued"] = 1
        due[note["id"], "CreditNoteRefunded"] = refunds[note["id"]]
        credited[note["invoice_id"]] += note["kind"] == "CREDIT" and note["debt_minor"] > 0
    for invoice_id, times in credited.items():
        due[invoice_id, "InvoiceCredited"] = times
    for (aggregate_id, event), times in due.items():
        if (sellers[aggregate_id], aggregate_id) not in unknown:
            found = told[aggregate_id, event]
            tally.check(found == times, f"{aggregate_id}: {found} of {event}, not {times}")


_INVOICING: Final = ("invoicing",)

INVARIANTS: Final = (
    Invariant(name="credit notes are the sum of their lines", needs=_INVOICING, verify=notes_sum_to_totals),
    Invariant(name="no more is taken back than was billed", needs=_INVOICING, verify=never_more_than_billed),
    Invariant(name="credit notes agree with invoices and refunds", needs=_INVOICING, verify=settled_as_noted),
    Invariant(name="void invoices are taken back in full", needs=_INVOICING, verify=void_in_full),
    Invariant(name="no usage that was billed is given back twice", needs=_INVOICING, verify=given_back_once),
    Invariant(
        name="nothing that was billed in advance is given back twice",
        needs=("subscriptions", "invoicing"),
        verify=given_back_once_in_advance,
    ),
    Invariant(name="every credit note is announced", needs=_INVOICING, verify=every_note_announced),
)
