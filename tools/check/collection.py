"""Invariants of what is collected: never more than is owed, each attempt once, as the gateway itself records it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Final

from tools.check.records import GATEWAY, Records, Row
from tools.check.report import Invariant, Tally

LOST: Final = "lost"
"""The failure of an attempt that the gateway has never heard of."""

FINAL: Final = ("OPEN", "PAID", "UNCOLLECTIBLE")
ENDED: Final = ("PAID", "VOID", "UNCOLLECTIBLE")
"""Nothing is collected for it any more, and nobody is followed up."""


def paid_and_remaining(records: Records, tally: Tally) -> None:
    """What was paid is the sum of the payments taken in, never more than was due; PAID means that nothing remains."""
    taken: dict[str, int] = defaultdict(int)
    for row in records.rows("invoicing", "invoice_payments"):
        taken[row["invoice_id"]] += row["amount_minor"]
    for row in records.rows("invoicing", "invoices"):
        paid, due = row["amount_paid_minor"], row["total_minor"] - row["credit_applied_minor"]
        dated = row["paid_time"] is not None
        settled = row["state"] in FINAL and paid + row["amount_credited_minor"] == due
        holds = (
            paid == taken.pop(row["id"], 0)
            and 0 <= paid <= max(due, 0)
            and (row["state"] == "PAID") == settled
            and (dated or row["state"] != "PAID")
            # One that came to nothing, or was credited, was paid before it was annulled.
            and (not dated or row["state"] == "PAID" or (row["state"] == "VOID" and paid == 0))
            and (row["amount_written_off_minor"] == 0 or row["state"] == "UNCOLLECTIBLE")
            and paid + row["amount_credited_minor"] + row["amount_written_off_minor"] <= max(due, 0)
        )
        tally.check(holds, f"{row['id']} is {row['state']} with {paid} of {due}")
    for invoice_id in taken:
        tally.check(False, f"{invoice_id} has payments and does not exist")


def _due(invoice: Row) -> int:
    """What the document asks for."""
    due: int = invoice["total_minor"] - invoice["credit_applied_minor"]
    return due


def _to_collect(invoice: Row) -> int:
    """What is left of it when money comes in."""
    return _due(invoice) - int(invoice["amount_credited_minor"])


def payments_agree_with_invoices(records: Records, tally: Tally) -> None:
    """One payment per invoice that is collected, of what is due and was neither credited nor came in otherwise; the
    money that is in is on the invoice.
    """
    payments = records.by("payments", "payments", "invoice_id")
    outside: dict[str, int] = defaultdict(int)
    for row in records.rows("payments", "recorded_payments"):
        outside[row["invoice_id"]] += row["amount_minor"]
    taken = {row["payment_id"]: row for row in records.rows("invoicing", "invoice_payments")}
    for invoice in records.rows("invoicing", "invoices"):
        own = payments.get(invoice["id"], ())
        collected = (
            invoice["state"] in (*FINAL, "VOID")
            and invoice["collection_method"] == "CHARGE_AUTOMATICALLY"
            and _due(invoice) > 0
        )
        tally.check(len(own) == int(collected), f"{invoice['id']} has {len(own)} payments")
        for payment in own:
            same = (payment["currency"], payment["customer_id"])
            due = (invoice["currency"], invoice["customer_id"])
            amount = payment["amount_minor"]
            left = _to_collect(invoice) - outside[invoice["id"]]
            # Of what was collected before anything came in otherwise, all stays collected.
            is_left = invoice["state"] == "OPEN" and payment["state"] != "SUCCEEDED"
            holds = amount == left if is_left else amount <= _due(invoice)
            told = f"{payment['id']} is of {amount} {same[0]}, {invoice['id']} of {_due(invoice)} {due[0]}"
            tally.check(holds and same == due, told)
            holds = payment["state"] != "CANCELLED" or invoice["state"] in ENDED
            tally.check(holds, f"{payment['id']} is CANCELLED, {invoice['id']} is {invoice['state']}")
    recorded = [{**row, "state": "SUCCEEDED"} for row in records.rows("payments", "recorded_payments")]
    for payment in (*records.rows("payments", "payments"), *recorded):
        settled = taken.pop(payment["id"], None)
        holds = (payment["state"] == "SUCCEEDED") == (settled is not None) and (
            settled is None
            or (settled["amount_minor"] + settled["overpaid_minor"], settled["invoice_id"])
            == (payment["amount_minor"], payment["invoice_id"])
        )
        tally.check(holds, f"{payment['id']} is {payment['state']}, {'not ' if settled is None else ''}on its invoice")
    for payment_id in taken:
        tally.check(False, f"{payment_id} is on an invoice and does not exist")


def invoices_known_to_others(records: Records, tally: Tally) -> None:
    """An invoice that is collected or followed up is there, under the number and for the customer that were announced.

    A backup that was restored may have forgotten it, and have given its number to another.
    """
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for service, table in (("payments", "payments"), ("dunning", "campaigns")):
        for known in records.rows(service, table):
            invoice = invoices.get(known["invoice_id"])
            if invoice is None:
                tally.check(False, f"{known['id']} is about {known['invoice_id']}, which is not there")
                continue
            told = (known["customer_id"], known.get("invoice_number") or invoice["number"])
            tally.check(
                told == (invoice["customer_id"], invoice["number"]),
                f"{known['id']} is about {known['invoice_id']} of {' '.join(map(str, told))},"
                f" which is {invoice['number']} of {invoice['customer_id']}",
            )


def attempts_agree_with_payments(records: Records, tally: Tally) -> None:
    """A payment that succeeded has exactly one attempt that did, its last; no other has any."""
    attempts = records.by("payments", "payment_attempts", "payment_id")
    for payment in records.rows("payments", "payments"):
        own = sorted(attempts.get(payment["id"], ()), key=lambda row: row["number"])
        states = [row["state"] for row in own]
        due = ["SUCCEEDED"] if payment["state"] == "SUCCEEDED" else []
        holds = [state for state in states if state == "SUCCEEDED"] == due and "SUCCEEDED" not in states[:-1]
        numbered = [row["number"] for row in own] == list(range(1, len(own) + 1))
        tally.check(holds and numbered, f"{payment['id']} is {payment['state']} with attempts {', '.join(states)}")


def captures_agree_with_attempts(records: Records, tally: Tally) -> None:
    """The gateway's own record and ours are one to one, amounts included; an attempt is captured at most once."""
    captures = {row["attempt_id"]: row for row in records.rows(GATEWAY, "captures")}
    payments = {row["id"]: row for row in records.rows("payments", "payments")}
    for attempt in records.rows("payments", "payment_attempts"):
        if attempt["gateway"] != "simulated":
            continue
        capture = captures.pop(attempt["id"], None)
        payment = payments[attempt["payment_id"]]
        if capture is None:
            never_came = attempt["state"] == "FAILED" and attempt["failure_code"] == LOST
            tally.check(never_came, f"{attempt['id']} is {attempt['state']} and the gateway has no record of it")
            continue
        same = (capture["seller_id"], capture["invoice_id"], capture["amount_minor"], capture["currency"])
        # An attempt of the release before has no amount of its own.
        amount = attempt["amount_minor"] or payment["amount_minor"]
        due = (attempt["seller_id"], payment["invoice_id"], amount, payment["currency"])
        if capture["outcome"] == "CAPTURED":
            reference = f"sim_{capture['capture_number']:06}"
            holds = attempt["state"] == "SUCCEEDED" and attempt["gateway_reference"] == reference
        else:
            holds = attempt["state"] == "FAILED" and attempt["failure_code"] == capture["code"]
        tally.check(
            holds and same == due,
            f"{attempt['id']} is {attempt['state']} of {due[2]}, the gateway has {capture['outcome']} {same[2]}",
        )
    for attempt_id, capture in captures.items():
        tally.check(False, f"{attempt_id} is {capture['outcome']} at the gateway and unknown here")


def captures_within_due(records: Records, tally: Tally) -> None:
    """What the gateway captured for an invoice is never more than was due."""
    captured: dict[str, int] = defaultdict(int)
    for row in records.rows(GATEWAY, "captures"):
        if row["outcome"] == "CAPTURED":
            captured[row["invoice_id"]] += row["amount_minor"]
    for invoice in records.rows("invoicing", "invoices"):
        amount = captured.pop(invoice["id"], 0)
        tally.check(amount <= max(_due(invoice), 0), f"{invoice['id']}: {amount} of {_due(invoice)}")
    for invoice_id, amount in captured.items():
        tally.check(False, f"{invoice_id}: {amount} were captured and there is no such invoice")


def campaigns_agree_with_invoices(records: Records, tally: Tally) -> None:
    """An overdue invoice is followed up, once, until it ends; a campaign has recovered only what was paid.

    One that ended at the moment it became overdue may need no campaign.
    """
    campaigns = records.by("dunning", "campaigns", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        own = campaigns.get(invoice["id"], ())
        paid, ended = invoice["paid_time"] is not None, invoice["state"] in ENDED
        overdue = invoice["overdue_time"] is not None
        holds = len(own) <= 1 if overdue and ended else len(own) == int(overdue)
        tally.check(holds, f"{invoice['id']} has {len(own)} campaigns")
        for campaign in own:
            holds = (not ended or campaign["state"] != "ACTIVE") and (paid or campaign["state"] != "RECOVERED")
            tally.check(holds, f"{campaign['id']} is {campaign['state']}, its invoice {invoice['state']}")


def exhausted_campaigns_acted(records: Records, tally: Tally) -> None:
    """A campaign that was exhausted did to the subscriptions what its policy says."""
    subscriptions = {row["id"]: row for row in records.rows("subscriptions", "subscriptions")}
    for campaign in records.rows("dunning", "campaigns"):
        if campaign["state"] != "EXHAUSTED" or json.loads(campaign["policy"])["final_action"] != "CANCEL_SUBSCRIPTION":
            continue
        for subscription_id in campaign["subscription_ids"]:
            row = subscriptions.get(subscription_id)
            holds = row is not None and row["state"] == "CANCELLED"
            tally.check(holds, f"{subscription_id} goes on after {campaign['id']}")


INVARIANTS: Final = (
    Invariant(name="paid and remaining make the total", needs=("invoicing",), verify=paid_and_remaining),
    Invariant(
        name="payments agree with invoices", needs=("invoicing", "payments"), verify=payments_agree_with_invoices
    ),
    Invariant(
        name="invoices are what was announced of them",
        needs=("invoicing", "payments", "dunning"),
        verify=invoices_known_to_others,
    ),
    Invariant(name="attempts agree with payments", needs=("payments",), verify=attempts_agree_with_payments),
    Invariant(
        name="the gateway's record agrees one to one", needs=("payments", GATEWAY), verify=captures_agree_with_attempts
    ),
    Invariant(name="captures never exceed what is due", needs=("invoicing", GATEWAY), verify=captures_within_due),
    Invariant(
        name="every overdue invoice is followed up",
        needs=("invoicing", "dunning"),
        verify=campaigns_agree_with_invoices,
    ),
    Invariant(
        name="what dunning gave up on was cancelled",
        needs=("subscriptions", "dunning"),
        verify=exhausted_campaigns_acted,
    ),
)
