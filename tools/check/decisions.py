"""Invariants of decisions: what is stored beside the log follows from it, and everything that was decided was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final

from tools.check.agreement import Agreement, Change, agreement_of
from tools.check.announcements import pruned
from tools.check.calendar import Span
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.terms import View

CREATED: Final = "SubscriptionCreated"
CHANGED: Final = "SubscriptionChanged"
DECIDED: Final = {
    "PAUSE": "SubscriptionPaused",
    "RESUME": "SubscriptionResumed",
    "END": "SubscriptionCancelled",
    "REACTIVATE": "SubscriptionReactivated",
    "ACTIVATE": "SubscriptionActivated",
    "BEGIN_BILLING": "SubscriptionActivated",
    "SET_TRIAL_END": "SubscriptionTrialMoved",
    "TRANSFER": "SubscriptionTransferred",
}
"""What tells of a decision to do these; of any other SubscriptionChanged does."""
IN_EFFECT: Final = {
    "PAUSE": "SubscriptionPaused",
    "RESUME": "SubscriptionResumed",
    "END": "SubscriptionCancelled",
    "REACTIVATE": "SubscriptionActivated",
    "ACTIVATE": "SubscriptionActivated",
}
"""What tells that these took effect, if they were decided before."""

Terms = tuple[str, str, Fraction | None]
"""Customer, price and quantity."""
Stretch = tuple[datetime, datetime | None, Terms]


def terms_follow_from_log(records: Records, tally: Tally) -> None:
    """The terms that reads and lists go by are those that the log says, and at no moment are there two of an item."""
    stored = records.by("subscriptions", "subscription_terms", "subscription_id")
    for row, agreement in agreements(records):
        with tally.checking(row["id"]):
            view = View(agreement, agreement.knowledge()[-1].changes)
            own = stored.get(row["id"], ())
            for item_id in {*view.item_ids, *(each["item_id"] for each in own)}:
                rows = sorted((each for each in own if each["item_id"] == item_id), key=_start)
                for before, after in pairwise(rows):
                    holds = before["end_time"] is not None and before["end_time"] <= after["start_time"]
                    tally.check(holds, f"{item_id} has two terms at {after['start_time']}")
                told = _merged([_stretch(each) for each in rows])
                due = _merged(_due(view, item_id)) if item_id in view.item_ids else []
                tally.check(told == due, f"the terms of {item_id} in {row['id']} are not those of the log")


def every_decision_told(records: Records, tally: Tally) -> None:
    """Of each decision an event told, and of each that was taken before its time another one when that had come."""
    told = Counter(
        (row["seller_id"], row["aggregate_id"], row["subject"].rpartition(".")[2])
        for row in records.rows("subscriptions", "outbox")
    )
    unknown = pruned(records, "subscriptions")
    for row, agreement in agreements(records):
        if (row["seller_id"], row["id"]) in unknown:
            continue
        now = records.now("subscriptions", row["seller_id"])
        due = Counter(event for change in agreement.changes for event in _events(change, now))
        for event, times in {**due, CREATED: 1}.items():
            found = told[row["seller_id"], row["id"], event]
            # What is taken back by another decision, and what time does by itself, is told by the same events.
            tally.check(found >= times, f"{row['id']}: {found} of {event}, not {times}")


def every_period_end_told(records: Records, tally: Tally) -> None:
    """Once for each full period, of however many items, that ran out with terms in it before it was settled."""
    told = Counter(
        (row["seller_id"], row["aggregate_id"])
        for row in records.rows("subscriptions", "outbox")
        if row["subject"].endswith(".BillingPeriodEnded")
    )
    unknown = pruned(records, "subscriptions")
    for row, agreement in agreements(records):
        if (row["seller_id"], row["id"]) in unknown:
            continue
        with tally.checking(row["id"]):
            ended = periods_ended(agreement, through=records.now("subscriptions", row["seller_id"]))
            found = told[row["seller_id"], row["id"]]
            tally.check(found == len(ended), f"{row['id']}: {found} of BillingPeriodEnded, not {len(ended)}")


def agreements(records: Records) -> Iterator[tuple[Row, Agreement]]:
    changes = records.by("subscriptions", "subscription_changes", "subscription_id")
    for row in records.rows("subscriptions", "subscriptions"):
        yield row, agreement_of(row, changes.get(row["id"], ()))


def periods_ended(agreement: Agreement, *, through: datetime) -> set[Span]:
    """By what was known when they did."""
    found: set[Span] = set()
    for knowledge in agreement.knowledge():
        until = through if knowledge.until is None else min(through, knowledge.until)
        view = View(agreement, knowledge.changes)
        for item_id in view.item_ids:
            found |= set(_ended(view, item_id, until))
    return found


def _ended(view: View, item_id: str, until: datetime) -> Iterator[Span]:
    settlements = view.settlements(item_id)
    for run in view.runs(item_id):
        if run.terms is None or run.terms.price.is_once:
            continue
        at = run.start
        while at < until and (run.end is None or at < run.end):
            full = view.period(run, at)
            settled = any(run.start < each < full.end and full.start < each for each in settlements)
            if full.end <= until and not settled:
                yield full
            at = full.end


def _events(change: Change, now: datetime) -> Iterator[str]:
    actions = [action["action"] for action in change.actions]
    is_expiry = any(action.get("reason") == "EXPIRED" for action in change.actions)
    # What a term brings with it is not decided by itself, nor is what was agreed or decided with something else.
    if change.decided_with is None and not is_expiry:
        yield next((DECIDED[action] for action in actions if action in DECIDED), CHANGED)
    if change.revoked is None and change.recorded < change.effective <= now:
        yield next((IN_EFFECT[action] for action in actions if action in IN_EFFECT), CHANGED)


def _stretch(row: Row) -> Stretch:
    quantity = None if row["quantity"] is None else Fraction(row["quantity"])
    return row["start_time"], row["end_time"], (row["customer_id"], row["price_id"], quantity)


def _start(row: Row) -> datetime:
    start: datetime = row["start_time"]
    return start


def _due(view: View, item_id: str) -> list[Stretch]:
    return [
        (run.start, run.end, (run.terms.customer_id, run.terms.price.id, run.terms.price.quantity))
        for run in view.runs(item_id)
        if run.terms is not None
    ]


def _merged(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Those that follow each other with the same terms as one."""
    found: list[Stretch] = []
    for start, end, terms in stretches:
        if found and found[-1][1:] == (start, terms):
            found[-1] = (found[-1][0], end, terms)
        else:
            found.append((start, end, terms))
    return found


INVARIANTS: Final = (
    Invariant(
        name="the terms of every item follow from the log", needs=("subscriptions",), verify=terms_follow_from_log
    ),
    Invariant(
        name="every decision about a subscription is announced", needs=("subscriptions",), verify=every_decision_told
    ),
    Invariant(
        name="the end of every billing period is announced once",
        needs=("subscriptions",),
        verify=every_period_end_told,
    ),
)
