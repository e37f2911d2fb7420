"""Invariants of rest: when nothing is under way, nothing is left waiting, half done, given up or overdue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tools.check.records import SERVICES, Records, Row
from tools.check.report import Invariant, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A column that says when something is to be done to a row."""

    service: str
    table: str
    column: str
    name: str = "id"
    applies: Callable[[Row], bool] = lambda _row: True


DUE: Final = (
    Due(
        service="catalog",
        table="plans",
        column="superseded_time",
        applies=lambda row: bool(row["state"] == "ACTIVE"),
    ),
    Due(
        service="subscriptions",
        table="subscriptions",
        column="cancel_time",
        applies=lambda row: bool(row["state"] != "CANCELLED"),
    ),
    Due(service="subscriptions", table="subscriptions", column="next_moment_time"),
    Due(service="metering", table="usage_thresholds", column="sweep_time"),
    Due(service="metering", table="usage_alerts", column="due_time", name="threshold_id"),
    Due(
        service="invoicing",
        table="invoices",
        column="finalize_time",
        applies=lambda row: bool(row["state"] == "DRAFT" and not row["hold_reason"]),
    ),
    Due(service="invoicing", table="invoices", column="overdue_from_time"),
    Due(service="invoicing", table="billing", column="due_time", name="customer_id"),
    Due(service="invoicing", table="sweeps", column="next_time", name="seller_id"),
    Due(
        service="invoicing",
        table="credit_grants",
        column="expire_time",
        applies=lambda row: bool(row["remaining_minor"] > row["reserved_minor"]),
    ),
    Due(
        service="invoicing",
        table="credit_reservations",
        column="expire_time",
        applies=lambda row: bool(row["state"] == "OPEN"),
    ),
    Due(service="invoicing", table="credit_top_up_rules", column="next_time"),
    Due(service="payments", table="payments", column="collect_time"),
    Due(service="payments", table="payment_attempts", column="ask_time"),
    Due(service="dunning", table="campaigns", column="next_step_time"),
)


def outbox_empty(records: Records, tally: Tally) -> None:
    for service in _present(records):
        waiting = {row["position"] for row in records.rows(service, "outbox_waiting")}
        for row in records.rows(service, "outbox"):
            tally.check(row["position"] not in waiting, f"{row['id']} {row['subject']} of {service} waits")


def nothing_given_up(records: Records, tally: Tally) -> None:
    """Neither a dead letter that waits for a decision, nor a job that failed and waits for its next try, nor a customer
    who cannot be billed.
    """
    for service in _present(records):
        tally.checked += 1
        for row in records.rows(service, "dead_letters"):
            tally.check(row["discard_time"] is not None, f"{row['id']} in {service}: {row['error'][:120]}")
        for row in records.rows(service, "job_failures"):
            tally.check(False, f"{row['job']} {row['id']} in {service}: {row['error'][:120]}")
    if records.has("invoicing"):
        for row in records.rows("invoicing", "billing"):
            tally.check(row["park_time"] is None, f"{row['customer_id']} is parked: {row['park_reason']}")


def nothing_unknown(records: Records, tally: Tally) -> None:
    """The outcome of every attempt is known."""
    for row in records.rows("payments", "payment_attempts"):
        tally.check(row["state"] not in ("PENDING", "UNKNOWN"), f"{row['id']} is {row['state']}")
    for row in records.rows("payments", "payments"):
        tally.check(row["state"] != "PROCESSING", f"{row['id']} is PROCESSING")


def nothing_due(records: Records, tally: Tally) -> None:
    """Everything whose time has come has been done."""
    for due in DUE:
        if not records.has(due.service):
            continue
        for row in records.rows(due.service, due.table):
            time = row[due.column]
            if time is not None and due.applies(row):
                now = records.now(due.service, row["seller_id"])
                tally.check(time > now, f"{row[due.name]}: {due.column} {time.isoformat()} is over")


def _present(records: Records) -> list[str]:
    return [service for service in SERVICES if records.has(service)]


INVARIANTS: Final = (
    Invariant(name="no event waits to be published", needs=(), verify=outbox_empty),
    Invariant(name="no dead letter and no failing job", needs=(), verify=nothing_given_up),
    Invariant(name="no payment attempt is left open", needs=("payments",), verify=nothing_unknown),
    Invariant(name="nothing is due in the past", needs=(), verify=nothing_due),
)
