"""Invariants of payers: what is known of who pays for whom is said by the logs, and can be billed."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally


def customers_follow_their_log(records: Records, tally: Tally) -> None:
    """A customer's payer is the last that was said; of one that was merged nothing is said but what is left to bill."""
    logs = records.by("subscriptions", "customer_payers", "customer_id")
    for row in records.rows("subscriptions", "customers"):
        log = [each for each in logs.get(row["id"], ()) if each["seller_id"] == row["seller_id"]]
        said = max(log, key=_since)["payer_id"] if log else None
        if row["state"] == "ACTIVE":
            tally.check(said == row["payer_id"], f"{row['id']} is paid for by {row['payer_id']}, last said is {said}")
        tally.check(said != row["id"], f"{row['id']} is said to pay for itself")


def subscriptions_follow_their_log(records: Records, tally: Tally) -> None:
    """Whom a subscription names at any moment is whom its log says, at every moment at which that could change."""
    stored = records.by("subscriptions", "subscription_payers", "subscription_id")
    changes = records.by("subscriptions", "subscription_changes", "subscription_id")
    for row in records.rows("subscriptions", "subscriptions"):
        said = _said(row, changes.get(row["id"], ()))
        rows = stored.get(row["id"], ())
        moments = {time for time, _ in said} | {each["start_time"] for each in rows}
        for moment in sorted(moments):
            lasting = [
                each
                for each in rows
                if each["start_time"] <= moment and (each["end_time"] is None or moment < each["end_time"])
            ]
            tally.check(len(lasting) <= 1, f"{row['id']} names {len(lasting)} payers at {moment}")
            found = lasting[0]["payer_id"] if lasting else None
            due = _at(said, moment)
            tally.check(found == due, f"{row['id']} names {found} at {moment}, not {due}")


def payers_can_be_billed(records: Records, tally: Tally) -> None:
    """Whoever pays now for a subscription that has not ended is a customer of its own, and has a name."""
    customers = {(row["seller_id"], row["id"]): row for row in records.rows("subscriptions", "customers")}
    changes = records.by("subscriptions", "subscription_changes", "subscription_id")
    for row in records.rows("subscriptions", "subscriptions"):
        if row["state"] == "CANCELLED":
            continue
        seller_id = row["seller_id"]
        now = records.now("subscriptions", seller_id)
        named = _at(_said(row, changes.get(row["id"], ())), now)
        payer_id = named or customers[seller_id, row["customer_id"]]["payer_id"] or row["customer_id"]
        payer = customers.get((seller_id, payer_id))
        can_pay = payer is not None and payer["state"] == "ACTIVE" and payer["erase_time"] is None
        tally.check(can_pay, f"{row['id']} is to be paid by {payer_id}, who was merged or erased")


def used_by(line: Row, invoice: Row) -> str:
    """Whose use a line is about."""
    # Databases that are older than lines of others have no such column.
    customer_id: str = line.get("customer_id") or invoice["customer_id"]
    return customer_id


class Payers:
    """Who gets the invoice for what falls due at a moment, as it was said by then."""

    def __init__(self, records: Records) -> None:
        self._logs = records.by("subscriptions", "customer_payers", "customer_id")
        self._changes = records.by("subscriptions", "subscription_changes", "subscription_id")
        self._subscriptions = {row["id"]: row for row in records.rows("subscriptions", "subscriptions")}

    def at(self, subscription_id: str, customer_id: str, moment: datetime) -> str:
        """Whom the subscription names, else who pays for the customer, else the customer itself."""
        return self._told(subscription_id, customer_id, moment, by=operator.le)

    def around(self, subscription_id: str, customer_id: str, moment: datetime) -> Collection[str]:
        """Who it may have been for whoever asked at that very moment: what is said then was not yet, or was already."""
        return {self._told(subscription_id, customer_id, moment, by=by) for by in (operator.lt, operator.le)}

    def _told(self, subscription_id: str, customer_id: str, moment: datetime, by: By) -> str:
        known = [each for each in self._changes.get(subscription_id, ()) if by(each["recorded_time"], moment)]
        named = _at(_said(self._subscriptions[subscription_id], known), moment)
        log = [each for each in self._logs.get(customer_id, ()) if by(each["since_time"], moment)]
        return named or (max(log, key=_since)["payer_id"] if log else None) or customer_id


By = Callable[[datetime, datetime], bool]
"""Whether the first time, at which something was said, is early enough for the second."""

Said = Sequence[tuple[datetime, str | None]]
"""Whom a subscription names from when on; of what is said for one moment the last counts."""


def _said(row: Row, changes: Sequence[Row]) -> Said:
    opening = json.loads(row["opening"])
    first = min(datetime.fromisoformat(opening[name]) for name in ("start_time", "recorded_time"))
    found: list[tuple[datetime, str | None]] = [(first, opening["payer_id"])]
    standing = [each for each in changes if each["revoked_time"] is None]
    for change in sorted(standing, key=_order):
        for action in json.loads(change["actions"]):
            if action["action"] == "SET_PAYER":
                found.append((change["effective_time"], action["payer_id"]))
    return found


def _at(said: Said, moment: datetime) -> str | None:
    payer_id = None
    for time, each in said:
        if time <= moment:
            payer_id = each
    return payer_id


def _since(row: Row) -> datetime:
    since: datetime = row["since_time"]
    return since


def _order(row: Row) -> tuple[datetime, int]:
    return row["effective_time"], row["position"]


INVARIANTS: Final = (
    Invariant(
        name="the payer of every customer is the last that was said",
        needs=("subscriptions",),
        verify=customers_follow_their_log,
    ),
    Invariant(
        name="whom every subscription names follows from the log",
        needs=("subscriptions",),
        verify=subscriptions_follow_their_log,
    ),
    Invariant(
        name="whoever pays for a living subscription can be billed",
        needs=("subscriptions",),
        verify=payers_can_be_billed,
    ),
)
