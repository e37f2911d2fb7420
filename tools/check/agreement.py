"""Knows what was agreed about a subscription and decided since, as the log tells it, and what was known when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

Json = Mapping[str, Any]  # Any: JSON of many shapes, one per action
Row = Mapping[str, Any]  # Any: whatever the columns of the tables hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What is agreed about an item."""

    id: str
    unit: str
    count: int
    in_advance: bool
    meter: str
    quantity: Fraction | None

    @property
    def rhythm(self) -> tuple[str, int]:
        return self.unit, self.count

    @property
    def is_once(self) -> bool:
        return self.unit == "ONCE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What was agreed at first."""

    customer_id: str
    items: Mapping[str, Price]
    start: datetime
    billing_day: int
    trial_days: int
    proration: str
    activation: str
    deadline: datetime | None
    """By when it must be activated."""
    trial_end: str
    bill_ahead_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was decided together."""

    id: str
    position: int
    recorded: datetime
    effective: datetime
    revoked: datetime | None
    revoked_after: int
    """How many changes the log had then."""
    decided_with: str | None
    proration: str
    unused: str
    actions: Sequence[Json]
    after_months: int | None
    """How long after the beginning of billing it is to take effect, if it is counted from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What is known from a decision, or from taking one back, to the next."""

    since: datetime | None
    """None for what was agreed at first."""
    until: datetime | None
    """None for what is known now."""
    change_id: str
    """What was decided or taken back."""
    changes: Sequence[Change]
    """In the order in which they take effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A subscription: the opening and the log."""

    id: str
    zone: str
    opening: Opening
    changes: Sequence[Change]

    def knowledge(self) -> list[Knowledge]:
        """In order. Of one moment, what was taken back comes before what was decided with it or later."""
        facts = sorted(
            [
                ((change.recorded, change.position), 1, change.position)
                for change in self.changes
                if change.decided_with is None
            ]
            + [(when, 0, together[-1].position) for when, together in self._taken_back().items()]
        )
        by_position = {change.position: change for change in self.changes}
        known = {change.id for change in self.changes if change.decided_with == ""}
        first = facts[0][0][0] if facts else None
        found = [Knowledge(since=None, until=first, change_id="", changes=self._in_effect_order(known))]
        for n, (when, is_decision, position) in enumerate(facts):
            time, change = when[0], by_position[position]
            if is_decision:
                both = [each for each in self.changes if each.id == change.id or each.decided_with == change.id]
                known |= {each.id for each in both if each.revoked != time or each.revoked_after > each.position}
            else:
                known -= {each.id for each in self._taken_back()[when]}
            until = facts[n + 1][0][0] if n + 1 < len(facts) else None
            changes = self._in_effect_order(known)
            found.append(Knowledge(since=time, until=until, change_id=change.id, changes=changes))
        return found

    def _taken_back(self) -> Mapping[tuple[datetime, int], Sequence[Change]]:
        """What was taken back in one moment, and nothing was decided in between, was taken back together."""
        found: dict[tuple[datetime, int], list[Change]] = {}
        for change in self.changes:
            if change.revoked is not None:
                found.setdefault((change.revoked, change.revoked_after), []).append(change)
        return found

    def _in_effect_order(self, known: Iterable[str]) -> Sequence[Change]:
        found = [change for change in self.changes if change.id in known]
        return sorted(found, key=lambda change: (change.effective, change.position))


def agreement_of(row: Row, changes: Iterable[Row]) -> Agreement:
    """A subscription as its table has it, with the rows of its log."""
    return Agreement(
        id=row["id"],
        zone=row["time_zone"],
        opening=opening_of(json.loads(row["opening"])),
        changes=[_change(each) for each in sorted(changes, key=lambda each: each["position"])],
    )


def opening_of(written: Json) -> Opening:
    return Opening(
        customer_id=written["customer_id"],
        items={item["id"]: price_of(item) for item in written["items"]},
        start=datetime.fromisoformat(written["start_time"]),
        billing_day=written["billing_day"],
        trial_days=written["trial_days"],
        proration=written["proration"],
        activation=written["activation"],
        deadline=None
        if written.get("activation_deadline") is None
        else datetime.fromisoformat(written["activation_deadline"]),
        trial_end=written["trial_end"],
        bill_ahead_days=written.get("bill_ahead_days", 0),
    )


def price_of(written: Json) -> Price:
    return Price(
        id=written["price_id"],
        unit=written["interval_unit"],
        count=written["interval_count"],
        in_advance=written["billing_timing"] == "IN_ADVANCE",
        meter=written["meter"],
        quantity=None if written["quantity"] is None else Fraction(written["quantity"]),
    )


def _change(row: Row) -> Change:
    return Change(
        id=row["id"],
        position=row["position"],
        recorded=row["recorded_time"],
        effective=row["effective_time"],
        revoked=row["revoked_time"],
        revoked_after=row["revoked_after"] or 0,
        decided_with=row["decided_with"],
        proration=row["proration"],
        unused=row["unused"],
        actions=json.loads(row["actions"]),
        after_months=row["after_months"],
    )
