"""Figures of periods, anchors, time zones and shares of days that others published, by `common.period`."""

from __future__ import annotations

import calendar
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from common.money import Money, round_half_up
from common.period import (
    Interval,
    Period,
    Unit,
    boundary,
    civil_days,
    day_fraction,
    index_at,
    period_at,
    periods_between,
)

Json = dict[str, Any]  # the cases are JSON of many shapes; cases/README.md describes them

CASES: list[Json] = [
    json.loads(line) for line in (Path(__file__).parent / "cases" / "proration.jsonl").read_text("utf-8").splitlines()
]

# Cases that a calendar alone cannot answer, by prefix of their id.
OTHER_CAPABILITIES = {
    "prorate-kb-invalid-": "whether a request makes sense is decided where it is made: subscriptions",
    "prorate-kb-change-": "what a change of plan credits and charges: invoicing",
    "prorate-polar-": "what a change of plan, quantity or discount credits and charges: invoicing",
    "prorate-stripe-down": "what a change of plan credits and charges: invoicing",
    "prorate-fx-up": "what a change of plan credits and charges: invoicing",
    "prorate-fx-down": "what a change of plan credits and charges: invoicing",
    "prorate-fx-qty": "what a change of quantity credits and charges: invoicing",
    "prorate-fx-cap-": "how much of a proration may be credited: invoicing",
}

# And cases that describe what Saldo deliberately does not do.
OTHER_RULES = {
    "prorate-kb-ratio-long": "a share never exceeds its period; a longer time is cut into periods first",
    "prorate-kb-fixed30-": "months have the days they have",
    "prorate-fx-seconds-last30s": "shares are of days, not of seconds",
    "prorate-fx-seconds-after": "shares are of days, not of seconds, and no period runs backward",
}

PERIODS_MAX = 100
FOR_EVER = datetime(2100, 1, 1, tzinfo=UTC)


def is_ours(case: Json) -> bool:
    return not case["id"].startswith((*OTHER_CAPABILITIES, *OTHER_RULES))


# Reading the cases


def interval_of(given: Json) -> Interval:
    unit = {"D": Unit.DAY, "W": Unit.WEEK, "M": Unit.MONTH, "Y": Unit.YEAR}[given["period"][-1]]
    return Interval(unit, int(given["period"][1:-1]))


def instant_of(text: str, zone: str = "UTC") -> datetime:
    """Dates are midnights in the zone, times without an offset are the zone's."""
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def civil_of(instant: datetime, zone: str = "UTC") -> str:
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat()


def billing_day_anchor(given: Json) -> datetime:
    """The billing day in the month of the start, or whole periods later where the month has the day."""
    start, day, interval = date.fromisoformat(given["start"]), int(given["billing_day"]), interval_of(given)
    months = interval.count * (12 if interval.unit is Unit.YEAR else 1)
    first = start.year * 12 + start.month - 1
    candidates = [divmod(first + n * months, 12) for n in range(12)]
    year, month = next((y, m + 1) for y, m in candidates if calendar.monthrange(y, m + 1)[1] >= day)
    return datetime(year, month, day, tzinfo=UTC)


def calendar_anchor(instant: datetime, zone: str, unit: Unit) -> datetime:
    """The last Monday, or the first of the month, at midnight in the zone."""
    today = instant.astimezone(ZoneInfo(zone)).date()
    day = today - timedelta(days=today.weekday()) if unit is Unit.WEEK else today.replace(day=1)
    return datetime.combine(day, time(), tzinfo=ZoneInfo(zone)).astimezone(UTC)


def anchor_of(given: Json, start: datetime, zone: str, unit: Unit) -> datetime:
    text = given["anchor"]
    if text == "calendar":
        return calendar_anchor(start, zone, unit)
    if text.startswith("day "):
        assert start.astimezone(ZoneInfo(zone)).day == int(text.removeprefix("day "))
        return start
    if text[0].isdigit():
        return instant_of(text, zone)
    weekday, hour = text.split()
    monday = calendar_anchor(start, zone, Unit.WEEK).astimezone(ZoneInfo(zone)).date()
    day = monday + timedelta(days=list(calendar.day_name).index(weekday))
    return datetime.combine(day, time.fromisoformat(hour), tzinfo=ZoneInfo(zone)).astimezone(UTC)


# Answering them


def billed_cycles(given: Json) -> Json:
    """In advance: every period that has begun by the billing date, cut to the life of the subscription."""
    anchor, interval, start = billing_day_anchor(given), interval_of(given), instant_of(given["start"])
    life = Period(start, instant_of(given["end"]) if given["end"] else FOR_EVER)
    until = min(life.end, instant_of(given["bill_up_to"]) + timedelta(microseconds=1))
    items = []
    for whole in periods_between(anchor, "UTC", interval, start, until, limit=PERIODS_MAX):
        part = whole.overlap(life)
        assert part is not None
        item = {"from": part.start.date().isoformat(), "to": part.end.date().isoformat()}
        if part == whole:
            items.append({**item, "cycles": "1"})
        else:
            share = day_fraction(part, whole, "UTC")
            cycles = str(round_half_up(share, 9))
            days = {"days": str(civil_days(part, "UTC")), "of_days": str(civil_days(whole, "UTC"))}
            items.append({**item, "cycles": cycles, **days})
    total = sum(Decimal(item["cycles"]) for item in items)
    first = items[0]
    partial = f"{first['days']}/{first['of_days']}" if "days" in first else ""
    return {"cycles": str(total), "items": items, "first_partial": partial}


def ratio_before(given: Json) -> Json:
    end = instant_of(given["to"])
    part = Period(instant_of(given["from"]), end)
    whole = period_at(end, "UTC", interval_of(given), part.start)
    return {"cycles": day_fraction(part, whole, "UTC")}


def advance(given: Json) -> Json:
    found = boundary(instant_of(given["date"]), "UTC", interval_of(given), int(given["count"]))
    return {"date": found.date().isoformat()}


def whole_periods(given: Json) -> Json:
    count = index_at(instant_of(given["from"]), "UTC", interval_of(given), instant_of(given["to"]))
    return {"count": str(count)}


def first_billing_date(given: Json) -> Json:
    anchor, interval, start = billing_day_anchor(given), interval_of(given), instant_of(given["start"])
    period = period_at(anchor, "UTC", interval, start)
    return {"date": (start if period.start == start else period.end).date().isoformat()}


def billed_through(given: Json) -> Json:
    """In arrears: up to the last boundary that has passed, or to the end if that has passed."""
    anchor, interval = billing_day_anchor(given), interval_of(given)
    start, now = instant_of(given["start"]), instant_of(given["bill_up_to"])
    current = period_at(anchor, "UTC", interval, now)
    through = current.start
    if given["end"] and instant_of(given["end"]) <= now:
        through = instant_of(given["end"])
    return {
        "billed_through": through.date().isoformat() if through > start else None,
        "next_billing_date": current.end.date().isoformat(),
    }


def prorated_amount(given: Json) -> Json:
    if "period_start" in given:
        whole = Period(instant_of(given["period_start"]), instant_of(given["period_end"]))
        start = instant_of(given["from"]) + timedelta(days=int(given.get("trial_days", "0")))
        share = day_fraction(Period(start, instant_of(given["to"])), whole, "UTC")
    else:
        share = Fraction(int(given["days"]), int(given["of_days"]))
    sign = -1 if given.get("direction") == "credit" else 1
    exact = sign * Fraction(given["period_amount"]) * share
    assert Money.rounded(exact, given["currency"]).amount == round_half_up(exact, 2)
    return {"amount": exact, "unrounded_minor_units": exact * 100}


def days_between(given: Json) -> Json:
    period = Period(instant_of(given["from"]), instant_of(given["to"]))
    return {"days": str(civil_days(period, given["timezone"]))}


def next_billing_date(given: Json) -> Json:
    zone, unit = given["timezone"], interval_of(given).unit
    start = instant_of(given["period_start"], zone)
    interval = Interval(unit, interval_of(given).count * int(given["count"]))
    anchor = anchor_of(given, start, zone, unit)
    return {"date": civil_of(period_at(anchor, zone, interval, start).end, zone)}


def period_bounds(given: Json) -> Json:
    zone, interval, start = given["timezone"], interval_of(given), instant_of(given["start"])
    assert given["alignment"] == "first of the month, local"
    anchor = calendar_anchor(start, zone, Unit.MONTH)
    periods = periods_between(anchor, zone, interval, start, FOR_EVER, limit=int(given["count"]))
    return {"bounds": [start, *(period.end for period in periods)]}


def period_containing(given: Json) -> Json:
    anchor, instant = instant_of(given["anchor"]), instant_of(given["at"])
    period = period_at(anchor, given["timezone"], interval_of(given), instant)
    return {"start": period.start, "end": period.end}


def schedule(given: Json) -> Json:
    anchor, interval = instant_of(given["anchor"]), interval_of(given)
    found = [boundary(anchor, "UTC", interval, n) for n in range(1, int(given["count"]) + 1)]
    return {"dates": [each.date().isoformat() for each in found]}


def invoiced_period(given: Json) -> Json:
    """In arrears the period that is over, in advance the one that begins."""
    zone, interval, now = given["timezone"], interval_of(given), instant_of(given["invoiced_at"])
    anchor = anchor_of(given, now, zone, interval.unit)
    n = index_at(anchor, zone, interval, now) - (1 if given["billing"] == "in_arrears" else 0)
    return {
        "period_start": boundary(anchor, zone, interval, n),
        "period_end": boundary(anchor, zone, interval, n + 1),
    }


ANSWERS: dict[str, Callable[[Json], Json]] = {
    "billed_cycles": billed_cycles,
    "ratio_before": ratio_before,
    "advance": advance,
    "whole_periods": whole_periods,
    "first_billing_date": first_billing_date,
    "billed_through": billed_through,
    "prorated_amount": prorated_amount,
    "days_between": days_between,
    "next_billing_date": next_billing_date,
    "period_bounds": period_bounds,
    "period_containing": period_containing,
    "schedule": schedule,
    "invoiced_period_start": invoiced_period,
    "invoiced_period_end": invoiced_period,
}


def wanted(case: Json) -> Json:
    """What a new system should answer: the peer's figure, or the better one that the case recommends."""
    if case["recommended"] == "expected":
        return dict(case["expected"])
    return dict(case["alternatives"][case["recommended"]])


def is_same(found: Any, published: Any) -> bool:  # any JSON on the one side, the values it stands for on the other
    """Figures are compared as what they are, an exact one to the decimals that are published."""
    if isinstance(published, dict):
        return all(is_same(found[key], each) for key, each in published.items())
    if isinstance(published, list):
        return len(found) == len(published) and all(map(is_same, found, published))
    if isinstance(found, datetime):
        return found == instant_of(published)
    if isinstance(found, Fraction):
        return round_half_up(found, len(published.partition(".")[2])) == Decimal(published)
    if published is None or "/" in published:
        return bool(found == published)
    if published.count("-") == 2:
        return datetime.fromisoformat(found) == datetime.fromisoformat(published)
    return Decimal(found) == Decimal(published)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES if is_ours(case)])
def test_the_published_figure(case: Json) -> None:
    """Whoever moves to us from another system finds the same boundaries and the same shares."""
    answer = ANSWERS[case["input"]["kind"]](case["input"])
    assert is_same(answer, wanted(case)), f"{case['situation']} {answer} is not {wanted(case)}"


def test_no_case_is_left_out_by_accident() -> None:
    """Every case is either computed or named above with the reason."""
    assert len(CASES) == len({case["id"] for case in CASES}) == 144
    assert sum(is_ours(case) for case in CASES) == 116
    for prefix in (*OTHER_CAPABILITIES, *OTHER_RULES):
        assert any(case["id"].startswith(prefix) for case in CASES), prefix
