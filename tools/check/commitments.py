"""Invariants of commitments: what is missing to the least that is to be spent is billed once, to the cent."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import date, datetime
from fractions import Fraction
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tools.check import calendar, rater
from tools.check.billing import standing_lines
from tools.check.calendar import Span
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

DIVIDING: Final = frozenset({"TRANSFER", "END", "REACTIVATE", "SET_BILLING_DAY"})
"""What makes two committed periods of one: each has a line of its own."""


class Commitment(NamedTuple):
    """What was agreed to be spent in each full period, in minor units."""

    minimum: int
    currency: str
    months: int
    since: datetime
    """From when on it holds: a step of a ramp is agreed on long before."""


def trued_up_once(records: Records, tally: Tally) -> None:
    """The lines of a committed period add up to what is missing; and of whole periods none is forgotten."""
    billed: dict[str, list[Row]] = defaultdict(list)
    true_ups: dict[str, dict[datetime, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for line in standing_lines(records):
        if line["kind"] == "TRUE_UP":
            true_ups[line["subscription_id"]][line["period_start"]].append(line)
        else:
            billed[line["subscription_id"]].append(line)
    agreed = _agreed(records)
    changes = records.by("subscriptions", "subscription_changes", "subscription_id")
    for row in records.rows("subscriptions", "subscriptions"):
        own, zone, commitments = billed[row["id"]], row["time_zone"], agreed[row["id"]]
        for lines in true_ups[row["id"]].values():
            with tally.checking(lines[0]["id"]):
                _check(sorted(lines, key=lambda line: line["correction"]), own, commitments, zone, tally)
        now = records.now("invoicing", row["seller_id"])
        divided = {change["effective_time"] for change in changes.get(row["id"], ()) if _actions(change) & DIVIDING}
        for period, commitment in _whole_periods(row, own, commitments, now):
            if any(period.start < each < period.end for each in divided):
                continue
            exact = commitment.minimum - _spent(own, period, zone)
            told = sum(line["amount_minor"] for line in true_ups[row["id"]].get(period.start, ()))
            tally.check(told == _missing(exact), f"{row['id']} {period.start}: {told} is trued up of {exact}")


def _check(
    lines: Sequence[Row], own: Sequence[Row], commitments: Sequence[Commitment | None], zone: str, tally: Tally
) -> None:
    first, last = lines[0], lines[-1]
    for number, line in enumerate(lines):
        tally.check(line["correction"] == number, f"{line['id']} is correction {line['correction']}, not {number}")
    minimum = Fraction(json.loads(last["rating_steps"])[0]["amount"]) * 10 ** rater.decimals(last["currency"])
    known = {(each.minimum, each.currency) for each in commitments if each is not None}
    tally.check((minimum, last["currency"]) in known, f"{last['id']} is for {minimum}, which nobody agreed to")
    period = Span(last["period_start"], last["period_end"])
    share = calendar.share(period, Span(last["full_period_start"], last["full_period_end"]), zone)
    told = Fraction(last["proration_numerator"], last["proration_denominator"])
    tally.check(told == share, f"{last['id']} says {told} of the period, not {share}")
    missing = _missing(minimum * share - _spent(own, period, zone))
    total = sum(line["amount_minor"] for line in lines)
    tally.check(total == missing, f"{first['id']}: {total} is trued up, {missing} is missing")


def _whole_periods(
    subscription: Row, own: Sequence[Row], commitments: Sequence[Commitment | None], now: datetime
) -> Iterator[tuple[Span, Commitment]]:
    """Those that are over and as long as what is committed, of an agreement whose commitment never changed. What is
    billed by other periods is not, which may have come with another plan.
    """
    rhythms = {(item["interval_unit"], item["interval_count"]) for item in json.loads(subscription["opening"])["items"]}
    [commitment] = commitments if len(commitments) == 1 else [None]
    if commitment is None or rhythms != {("MONTH", commitment.months)} or subscription["state"] != "ACTIVE":
        return
    whole = {
        (line["period_start"], line["period_end"])
        for line in own
        if line["full_period_start"] == line["period_start"]
        and line["full_period_end"] == line["period_end"]
        and _months(line, subscription["time_zone"]) == commitment.months
    }
    for start, end in sorted(whole):
        if commitment.since <= start and end <= now:
            yield Span(start, end), commitment


def _months(line: Row, zone: str) -> int:
    """From which month to which a period reaches."""
    place = ZoneInfo(zone)
    start: date = line["period_start"].astimezone(place).date()
    end: date = line["period_end"].astimezone(place).date()
    return 12 * (end.year - start.year) + end.month - start.month


def _actions(change: Row) -> Set[str]:
    return {action["action"] for action in json.loads(change["actions"])}


def _spent(lines: Sequence[Row], period: Span, zone: str) -> Fraction:
    """In minor units, before discounts; of what reaches beyond the period its share of days."""
    spent = Fraction(0)
    for line in lines:
        start, end = max(line["period_start"], period.start), min(line["period_end"], period.end)
        if start < end:
            whole, part = Span(line["period_start"], line["period_end"]), Span(start, end)
            spent += line["amount_minor"] * (Fraction(1) if part == whole else calendar.share(part, whole, zone))
    return spent


def _missing(exact: Fraction) -> int:
    """Rounded once, half up; nothing when more was spent."""
    return int(exact + Fraction(1, 2)) if exact > 0 else 0


def _agreed(records: Records) -> Mapping[str, list[Commitment | None]]:
    """Everything that was ever agreed to be spent on each subscription; None where nothing was any more."""
    found: dict[str, list[Commitment | None]] = defaultdict(list)
    for change in records.rows("subscriptions", "subscription_changes"):
        for action in json.loads(change["actions"]):
            if action["action"] == "SET_COMMITMENT":
                told = action["commitment"]
                found[change["subscription_id"]].append(
                    None
                    if told is None
                    else Commitment(int(told["minor"]), told["currency"], told["months"], change["effective_time"])
                )
    return found


INVARIANTS: Final = (
    Invariant(
        name="commitments are trued up once, to the cent", needs=("subscriptions", "invoicing"), verify=trued_up_once
    ),
)
