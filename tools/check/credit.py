"""Invariants of what customers have to their credit: every movement adds up, nobody used what was not there, or not for
what it was given.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, combinations
from typing import Any, Final

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

EFFECTS: Final[Mapping[str, tuple[int, int]]] = {
    "GRANTED": (1, 0),
    "APPLIED": (-1, 0),
    "RETURNED": (1, 0),
    "RESERVED": (0, 1),
    "RELEASED": (0, -1),
    "COMMITTED": (-1, -1),
    "EXPIRED": (-1, 0),
    "REVOKED": (-1, 0),
    "MOVED": (-1, 0),
}
"""What each kind of movement does with what is left of a grant, and with how much of that is reserved."""

SCOPED_MAX: Final = 12
"""So many grants of one invoice every way of sharing its lines is looked at for."""


def movements_add_up(records: Records, tally: Tally) -> None:
    """What is left of a grant is what its movements come to, and at no time was it less than nothing."""
    movements = records.by("invoicing", "credit_movements", "grant_id")
    grants = {row["id"]: row for row in records.rows("invoicing", "credit_grants")}
    for grant_id in movements.keys() - grants.keys():
        tally.check(False, f"{grant_id} has movements and does not exist")
    for grant_id, grant in grants.items():
        remaining = reserved = 0
        own = _in_order(movements.get(grant_id, ()))
        for number, row in enumerate(own, start=1):
            left, aside = EFFECTS[row["kind"]]
            remaining += left * row["amount_minor"]
            reserved += aside * row["amount_minor"]
            told = (row["remaining_minor"], row["reserved_minor"], row["ordinal"], row["customer_id"], row["currency"])
            due = (remaining, reserved, number, grant["customer_id"], grant["currency"])
            sound = 0 <= reserved <= remaining <= grant["amount_minor"] and row["amount_minor"] > 0
            begins = (number == 1) == (row["kind"] == "GRANTED")
            tally.check(told == due and sound and begins, f"{grant_id}: after movement {number} {remaining} were left")
        says = (grant["remaining_minor"], grant["reserved_minor"], grant["revision"])
        granted = bool(own) and own[0]["amount_minor"] == grant["amount_minor"]
        holds = granted and says == (remaining, reserved, len(own))
        tally.check(holds, f"{grant_id} says {says[0]} are left, {len(own)} movements say {remaining}")


def applied_is_moved(records: Records, tally: Tally) -> None:
    """What an invoice says it took up is what its movements say; of one that is void all came back, once."""
    taken: dict[str, int] = defaultdict(int)
    returned: dict[str, int] = defaultdict(int)
    whose: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in records.rows("invoicing", "credit_movements"):
        if row["kind"] in ("APPLIED", "RETURNED"):
            (taken if row["kind"] == "APPLIED" else returned)[row["document_id"]] += row["amount_minor"]
            whose[row["document_id"]].add((row["customer_id"], row["currency"]))
    for invoice in records.rows("invoicing", "invoices"):
        applied, back = taken.pop(invoice["id"], 0), returned.pop(invoice["id"], 0)
        due = applied if invoice["state"] == "VOID" else 0
        own = whose.get(invoice["id"], set()) <= {(invoice["customer_id"], invoice["currency"])}
        holds = applied == invoice["credit_applied_minor"] and back == due and own
        bought = not (invoice["top_up_rule_id"] and applied)
        tally.check(
            holds and bought, f"{invoice['id']} took up {invoice['credit_applied_minor']}, moved {applied} - {back}"
        )
    for document_id in chain(taken, returned):
        tally.check(False, f"{document_id} took up credit and does not exist")


def used_in_time_and_scope(records: Records, tally: Tally) -> None:
    """Credit is used from its effective time on, before it expires, and for no more than what its scope is worth."""
    grants = {row["id"]: row for row in records.rows("invoicing", "credit_grants")}
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    applied: dict[str, list[Row]] = defaultdict(list)
    for row in records.rows("invoicing", "credit_movements"):
        grant = grants.get(row["grant_id"])
        if grant is None or row["kind"] not in ("APPLIED", "RESERVED"):
            continue
        end: datetime | None = grant["expire_time"]
        in_time = grant["effective_time"] <= row["create_time"] and (end is None or row["create_time"] < end)
        tally.check(in_time, f"{row['id']} used {grant['id']} at {row['create_time'].isoformat()}")
        if row["kind"] == "APPLIED":
            applied[row["document_id"]].append(row)
    for invoice_id, moves in applied.items():
        invoice = invoices.get(invoice_id)
        if invoice is None:
            continue
        scoped = [(json.loads(grants[row["grant_id"]]["scope"]), row["amount_minor"]) for row in moves]
        for some in _some(scoped):
            most = _worth(invoice, lines.get(invoice_id, ()), [scope for scope, _ in some])
            used = sum(minor for _, minor in some)
            tally.check(used <= most, f"{invoice_id} took {used} of grants that cover {most} of it")


def reservations_agree(records: Records, tally: Tally) -> None:
    """What a reservation says is what its movements say: while it is open all of it is reserved, and then nothing."""
    moved: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in records.rows("invoicing", "credit_movements"):
        if row["kind"] in ("RESERVED", "RELEASED", "COMMITTED"):
            moved[row["document_id"]][row["kind"]] += row["amount_minor"]
    for reservation in records.rows("invoicing", "credit_reservations"):
        own = moved.pop(reservation["id"], {})
        amount, committed = reservation["amount_minor"], reservation["committed_minor"]
        settled = 0 if reservation["state"] == "OPEN" else amount
        told = (own.get("RESERVED", 0), own.get("COMMITTED", 0), own.get("COMMITTED", 0) + own.get("RELEASED", 0))
        used = (reservation["state"] == "COMMITTED") == (committed > 0)
        tally.check(
            told == (amount, committed, settled) and used,
            f"{reservation['id']} is {reservation['state']} with {committed} of {amount}, moved {told}",
        )
    for document_id in moved:
        tally.check(False, f"{document_id} reserved credit and does not exist")


def paid_for(records: Records, tally: Tally) -> None:
    """What a payment brought beyond what was owed is credit, and so is what was paid of a top-up: once, to the cent."""
    due: dict[tuple[str, str], tuple[str, str, int]] = {}
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for payment in records.rows("invoicing", "invoice_payments"):
        invoice = invoices.get(payment["invoice_id"])
        if payment["overpaid_minor"] and invoice is not None:
            whose = (invoice["customer_id"], invoice["currency"])
            due["OVERPAYMENT", payment["payment_id"]] = (*whose, payment["overpaid_minor"])
    for invoice in invoices.values():
        if invoice["top_up_rule_id"] and invoice["state"] == "PAID" and invoice["amount_paid_minor"]:
            whose = (invoice["customer_id"], invoice["currency"])
            due["TOP_UP", invoice["id"]] = (*whose, invoice["amount_paid_minor"])
    for grant in records.rows("invoicing", "credit_grants"):
        if grant["source"] in ("OVERPAYMENT", "TOP_UP"):
            expected = due.pop((grant["source"], grant["document_id"]), None)
            found = (grant["customer_id"], grant["currency"], grant["amount_minor"])
            tally.check(found == expected, f"{grant['id']} gives {found[2]} for {grant['document_id']}, not {expected}")
    for (source, document_id), (_, currency, minor) in due.items():
        tally.check(False, f"{minor} {currency} of {source} {document_id} were never granted")


def posted(records: Records, tally: Tally) -> None:
    """Whatever no invoice and no credit note posts is in the books once: as much, in the accounts where it belongs."""
    grants = {row["id"]: row for row in records.rows("invoicing", "credit_grants")}
    found: dict[tuple[str, int], Row] = {}
    for entry in records.rows("invoicing", "ledger_entries"):
        if entry["document_kind"] == "CREDIT_GRANT":
            found[entry["document_id"], entry["ordinal"]] = entry
    for move in records.rows("invoicing", "credit_movements"):
        grant = grants.get(move["grant_id"])
        if grant is None:
            continue
        other = _account_of(move["kind"], grant)
        own = found.pop((grant["id"], move["ordinal"]), None)
        told = None if own is None else dict(zip(own["accounts"], own["amounts"], strict=False))
        credit = -move["amount_minor"] if move["kind"] == "GRANTED" else move["amount_minor"]
        due = None if other is None else {"CUSTOMER_CREDIT": credit, other: -credit}
        tally.check(told == due, f"{move['id']} {move['kind']} of {move['amount_minor']} is posted as {told}")
    for (grant_id, ordinal), entry in found.items():
        tally.check(False, f"{entry['id']} is of movement {ordinal} of {grant_id}, which is not there")


def moved_to_who_it_is_part_of(records: Records, tally: Tally) -> None:
    """What leaves a customer that was merged is a grant of the other one, of as much and to be used alike, once; and at
    rest nothing is left that could be used.
    """
    into = {
        row["id"]: row["merged_into_id"] for row in records.rows("subscriptions", "customers") if row["merged_into_id"]
    }
    grants = {row["id"]: row for row in records.rows("invoicing", "credit_grants")}
    known = {row["customer_id"]: row["into_id"] for row in records.rows("invoicing", "merged_customers")}
    for customer_id, target in known.items():
        tally.check(into.get(customer_id) == target, f"{customer_id} is not part of {target}")
    granted = {row["id"]: row for row in grants.values() if row["source"] == "MERGE"}
    for move in records.rows("invoicing", "credit_movements"):
        if move["kind"] != "MOVED":
            continue
        new, old = granted.pop(move["document_id"], None), grants.get(move["grant_id"])
        if old is None:
            continue  # which another invariant says
        alike = new is not None and all(new[name] == old[name] for name in _AS_BEFORE)
        same = new is not None and (new["amount_minor"], new["document_id"]) == (move["amount_minor"], old["id"])
        whose = new is not None and known.get(old["customer_id"]) == new["customer_id"]
        tally.check(alike and same and whose, f"{move['id']} of {old['id']} went to {move['document_id']}")
    for grant_id in granted:
        tally.check(False, f"{grant_id} came of a merge, and from nobody")
    waiting = {(row["customer_id"], row["currency"]) for row in records.rows("invoicing", "credit_moves")}
    for grant in grants.values():
        free = grant["remaining_minor"] - grant["reserved_minor"]
        moves = grant["expire_time"] is not None or (grant["customer_id"], grant["currency"]) in waiting
        is_left = grant["customer_id"] in known and free > 0 and not moves
        tally.check(not is_left, f"{free} of {grant['id']} are left of a customer that was merged")


_AS_BEFORE: Final = ("currency", "kind", "priority", "effective_time", "expire_time", "scope")


def _account_of(kind: str, grant: Row) -> str | None:
    """Beside CUSTOMER_CREDIT; None for what moves nothing, or others post."""
    if kind == "COMMITTED":
        return "REVENUE"
    if kind == "MOVED" or (kind == "GRANTED" and grant["source"] == "MERGE"):
        return "CREDIT_TRANSFERS"
    if kind not in ("GRANTED", "EXPIRED", "REVOKED"):
        return None
    if grant["kind"] == "PROMOTIONAL":
        return "PROMOTIONAL_CREDIT"
    if kind == "EXPIRED":
        return "REVENUE"
    of_source: dict[str, dict[str, str | None]] = {
        "GRANTED": {"TOP_UP": "DEFERRED_REVENUE", "CREDIT_NOTE": None},
        "REVOKED": {
            "TOP_UP": "REFUNDS_PAYABLE",
            "CREDIT_NOTE": "REFUNDS_PAYABLE",
            "OVERPAYMENT": "REFUNDS_PAYABLE",
            "MERGE": "REFUNDS_PAYABLE",
        },
    }
    return of_source[kind].get(grant["source"], "CASH")


def _in_order(movements: Sequence[Row]) -> list[Row]:
    return sorted(movements, key=lambda row: int(row["ordinal"]))


def _some(
    scoped: Sequence[tuple[dict[str, Any], int]],  # Any: JSON as invoicing stores a scope
) -> Iterator[Sequence[tuple[dict[str, Any], int]]]:
    """Every way to take some of them together, or each alone where these are too many."""
    most = len(scoped) if len(scoped) <= SCOPED_MAX else 1
    for size in range(1, most + 1):
        yield from combinations(scoped, size)
    if most < len(scoped):
        yield scoped


def _worth(invoice: Row, lines: Sequence[Row], scopes: Sequence[dict[str, Any]]) -> int:  # Any: as above
    """The share of an invoice's total that some scopes cover together; a cent more a line, for how it was rounded."""
    nets = [max(line["amount_minor"] - line["discount_minor"], 0) for line in lines]
    covered = [any(_covers(scope, line) for scope in scopes) for line in lines]
    if all(covered):
        return int(invoice["total_minor"])
    share = sum(net for net, is_covered in zip(nets, covered, strict=True) if is_covered)
    return -(-invoice["total_minor"] * share // max(sum(nets), 1)) + sum(covered) if share else 0


def _covers(scope: dict[str, Any], line: Row) -> bool:  # Any: as above
    columns = {
        "product_ids": "product_id",
        "price_ids": "price_id",
        "meters": "meter",
        "subscription_ids": "subscription_id",
    }
    return all(line[columns[name]] in named for name, named in scope.items() if named)


INVARIANTS: Final = (
    Invariant(name="movements of credit add up, never below nothing", needs=("invoicing",), verify=movements_add_up),
    Invariant(name="invoices took up the credit that was moved", needs=("invoicing",), verify=applied_is_moved),
    Invariant(
        name="credit is used in its time and for what it was given", needs=("invoicing",), verify=used_in_time_and_scope
    ),
    Invariant(name="reservations of credit agree with movements", needs=("invoicing",), verify=reservations_agree),
    Invariant(name="what was paid too much, or for credit, is credit", needs=("invoicing",), verify=paid_for),
    Invariant(
        name="credit of who was merged is the other one's",
        needs=("subscriptions", "invoicing"),
        verify=moved_to_who_it_is_part_of,
    ),
    Invariant(name="credit is in the books as it moved", needs=("invoicing",), verify=posted),
)
