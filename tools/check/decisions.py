"""Invariants of decisions: what is stored beside the log follows from it, and everything that was decided was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final

from saldo.subscriptions.v1 import events_pb2
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionChange
from tools.check.agreement import Agreement, Change, Knowledge, agreement_of
from tools.check.announcements import pruned
from tools.check.calendar import Rhythm, Span
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.terms import View

CREATED: Final = "SubscriptionCreated"
CHANGED: Final = "SubscriptionChanged"
ENDS_REVOKED: Final = "SubscriptionCancellationRevoked"
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
        due = Counter(event for change in agreement.changes for event in _events(change, now, agreement.changes))
        for event, times in {**due, CREATED: 1}.items():
            found = told[row["seller_id"], row["id"], event]
            # What is taken back by another decision, and what time does by itself, is told by the same events.
            tally.check(found >= times, f"{row['id']}: {found} of {event}, not {times}")


def every_revocation_told(records: Records, tally: Tally) -> None:
    """Of each change that was taken back an event told that has it; of an end, one may have told without it."""
    outbox = records.by("subscriptions", "outbox", "aggregate_id")
    unknown = pruned(records, "subscriptions")
    for row, agreement in agreements(records):
        if (row["seller_id"], row["id"]) in unknown:
            continue
        told: Counter[str] = Counter()
        ends_told = 0
        for each in outbox.get(row["id"], ()):
            event = each["subject"].rpartition(".")[2]
            ends_told += event == ENDS_REVOKED
            if event == CHANGED and each["seller_id"] == row["seller_id"]:
                announced = events_pb2.SubscriptionChanged.FromString(each["payload"]).change
                told[announced.id] += announced.state == SubscriptionChange.REVOKED
        untold: set[datetime] = set()
        for change in agreement.changes:
            due = int(change.revoked is not None)
            if change.revoked is not None and _is_end(change) and not told[change.id]:
                untold.add(change.revoked)
                continue
            found = told[change.id]
            tally.check(found == due, f"{row['id']}: {found} of {CHANGED} tell that {change.id} is revoked, not {due}")
        tally.check(len(untold) <= ends_told, f"{row['id']}: {ends_told} of {ENDS_REVOKED}, not {len(untold)}")


def steps_follow_the_beginning(records: Records, tally: Tally) -> None:
    """A step of a ramp comes as many months after billing begins as was agreed, going by what is known of that."""
    for row, agreement in agreements(records):
        with tally.checking(row["id"]):
            elsewhere = [
                change.id for knowledge in agreement.knowledge() for change in _elsewhere(agreement, knowledge)
            ]
            tally.check(
                not elsewhere, f"{row['id']}: {', '.join(sorted(elsewhere))} not counted from the beginning of billing"
            )


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


def _events(change: Change, now: datetime, log: Sequence[Change]) -> Iterator[str]:
    actions = [action["action"] for action in change.actions]
    is_expiry = any(action.get("reason") == "EXPIRED" for action in change.actions)
    is_step_moved = change.after_months is not None and change.decided_with != ""
    # What a term brings with it is not decided by itself, nor is what was agreed or decided with something else.
    if is_step_moved or _comes_again(change, log):
        yield CHANGED
    elif change.decided_with is None and not is_expiry:
        yield next((DECIDED[action] for action in actions if action in DECIDED), CHANGED)
    if change.revoked is None and change.recorded < change.effective <= now:
        yield next((IN_EFFECT[action] for action in actions if action in IN_EFFECT), CHANGED)


def _elsewhere(agreement: Agreement, knowledge: Knowledge) -> Iterator[Change]:
    """The steps that do not come when they should; what was known for no time at all says nothing."""
    if knowledge.until is not None and knowledge.until == knowledge.since:
        return
    begins = View(agreement, knowledge.changes).begins(waiting_until=agreement.opening.deadline)
    for change in knowledge.changes:
        if change.after_months is None:
            continue
        due = Rhythm(begins, agreement.zone, "MONTH", 1).boundary(change.after_months)
        # What a cancellation had taken back comes at once if its time has passed.
        if change.effective != (max(due, change.recorded) if change.decided_with is None else due):
            yield change


def _comes_again(change: Change, log: Sequence[Change]) -> bool:
    """Whether a cancellation had taken it back, which was taken back itself."""
    is_going_on = any(each.revoked == change.recorded and _is_end(each) for each in log)
    was_there = any(
        each.revoked is not None and each.position < change.position and each.actions == change.actions for each in log
    )
    return is_going_on and was_there and change.decided_with is None and not _is_end(change)


def _is_end(change: Change) -> bool:
    return any(action["action"] == "END" for action in change.actions)


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
        name="every revocation of a scheduled change is announced once",
        needs=("subscriptions",),
        verify=every_revocation_told,
    ),
    Invariant(
        name="steps of ramps are counted from the beginning of billing",
        needs=("subscriptions",),
        verify=steps_follow_the_beginning,
    ),
    Invariant(
        name="the end of every billing period is announced once",
        needs=("subscriptions",),
        verify=every_period_end_told,
    ),
)
