"""Answers the cases of proration.jsonl that are about time: what is billed of a subscription, and when next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from common import wire
from common.money import round_half_up
from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.invoicing.v1.invoice_pb2 import LineItem
from saldo.subscriptions.v1.subscription_pb2 import BillablePeriod
from tests.conformance import change_answers, story_answers
from tests.conformance.agreements import (
    BY_DAY,
    BY_SECOND,
    Agreement,
    agree,
    as_published,
    date_of,
    days_of,
    flat_price,
    instant_of,
    interval_between,
    interval_of,
    minimum_price,
    period_of,
    share_of,
    time_of,
    whole_amount,
)
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.rooms import Rooms
from tests.conformance.system import Refused, System, attempt

CYCLE_DECIMALS: Final = 9
DAYS_COUNTED: Final = 366
"""As many days as one period can have."""

MONDAY: Final = "Monday 00:00"
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PERIODS_BEFORE: Final = 3
"""So many periods before it is asked about begins what runs for ever."""

FIELDS: Final = {
    "billed_cycles": ["period", "billing_day", "start", "end", "bill_up_to", "billing"],
    "billed_through": ["period", "billing_day", "start", "end", "bill_up_to", "billing"],
    "ratio_before": ["period", "from", "to"],
    "ratio_after": ["period", "from", "to"],
    "advance": ["date", "period", "count"],
    "whole_periods": ["from", "to", "period"],
    "first_billing_date": ["start", "billing_day", "period"],
    "days_between": ["from", "to", "timezone"],
    "next_billing_date": ["period_start", "anchor", "period", "count", "timezone", "alignment"],
    "period_bounds": ["timezone", "start", "period", "alignment", "count"],
    "period_containing": ["anchor", "period", "at", "timezone"],
    "schedule": ["anchor", "period", "count"],
    "invoiced_period_start": ["anchor", "period", "invoiced_at", "billing", "timezone"],
    "invoiced_period_end": ["anchor", "period", "invoiced_at", "billing", "timezone"],
    "prorated_amount": [
        "currency",
        "period_amount",
        "period_start",
        "period_end",
        "from",
        "to",
        "direction",
        "trial_days",
        "days",
        "of_days",
    ],
}


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    kind = given["kind"]
    if "days_per_month" in given:
        raise Unsupported("months have the days they have; never 30 of them by agreement")
    if kind in change_answers.ANSWERS:
        return await change_answers.answer(case, saldo.rooms)
    if kind == "story":
        return await story_answers.answer(case, saldo.rooms)
    if kind not in ANSWERS:
        raise Unsupported(kind)
    check_fields(given, frozenset(["kind", *FIELDS[kind]]))
    return await ANSWERS[kind](case, saldo.rooms)


# What is billed


async def _billed_cycles(case: Case, rooms: Rooms) -> Answer:
    """In advance: every period that has begun by the billing date, cut to the life of the subscription."""
    given = case.given
    agreement = await _with_billing_day(given, rooms)
    start, through = instant_of(given["start"]), instant_of(given["bill_up_to"])
    found = await attempt(agreement.schedule(through, after=start))
    if isinstance(found, Refused):
        return {"error": "invalid_date_sequence" if found.field == "after_time" else found.reason.lower()}
    items = [_item(each) for each in found.periods]
    first = items[0] if items else {}
    return {
        "cycles": sum((item["cycles"] for item in items), Decimal(0)),
        "items": items,
        "first_partial": f"{first['days']}/{first['of_days']}" if "days" in first else "",
    }


def _item(billable: BillablePeriod) -> dict[str, Any]:  # Any: as in the cases
    period = period_of(billable.period)
    item = {"from": date_of(period.start).isoformat(), "to": date_of(period.end).isoformat()}
    share = share_of(billable)
    if share == 1:
        return {**item, "cycles": Decimal(1)}
    days, whole = days_of(billable)
    return {**item, "cycles": round_half_up(share, CYCLE_DECIMALS), "days": days, "of_days": whole}


async def _billed_through(case: Case, rooms: Rooms) -> Answer:
    found = await (await _with_billing_day(case.given, rooms)).schedule(instant_of(case.given["bill_up_to"]))
    ends = [period_of(each.period).end for each in found.periods]
    following = date_of(time_of(found.next_bill_time)).isoformat() if found.HasField("next_bill_time") else None
    return {"billed_through": date_of(max(ends)).isoformat() if ends else None, "next_billing_date": following}


async def _first_billing_date(case: Case, rooms: Rooms) -> Answer:
    """When the first full period begins."""
    start = instant_of(case.given["start"])
    agreement = await _with_billing_day(case.given, rooms)
    found = await agreement.schedule(start)
    [first] = found.periods
    whole = share_of(first) == 1
    return {"date": date_of(start if whole else time_of(found.next_bill_time)).isoformat()}


async def _with_billing_day(given: Json, rooms: Rooms) -> Agreement:
    start = instant_of(given["start"])
    price = flat_price("1", interval_of(given["period"]), in_arrears=given.get("billing") == "in_arrears")
    day = int(given["billing_day"])
    agreement = await agree(await rooms.before(start), price, start=start, billing_day=day)
    if given.get("end") is not None:
        await agreement.end(instant_of(given["end"]))
    return agreement


# Where periods begin


async def _advance(case: Case, rooms: Rooms) -> Answer:
    given = case.given
    bounds = await _bounds(instant_of(given["date"]), interval_of(given["period"]), int(given["count"]), rooms)
    return {"date": date_of(bounds[-1]).isoformat()}


async def _schedule(case: Case, rooms: Rooms) -> Answer:
    given = case.given
    bounds = await _bounds(instant_of(given["anchor"]), interval_of(given["period"]), int(given["count"]), rooms)
    return {"dates": [date_of(each).isoformat() for each in bounds[1:]]}


async def _period_bounds(case: Case, rooms: Rooms) -> Answer:
    given = case.given
    if given["alignment"] != "first of the month, local":
        raise Unsupported(f"alignment {given['alignment']}")
    start, interval = instant_of(given["start"]), interval_of(given["period"])
    bounds = await _bounds(start, interval, int(given["count"]), rooms, zone=given["timezone"], billing_day=1)
    return {"bounds": [_utc(each) for each in bounds]}


async def _bounds(
    start: datetime, interval: BillingInterval, count: int, rooms: Rooms, *, zone: str = "UTC", billing_day: int = 0
) -> list[datetime]:
    """The start, and where each of so many periods ends."""
    agreement = await agree(
        await rooms.before(start), flat_price("1", interval), start=start, zone=zone, billing_day=billing_day
    )
    bounds = [start]
    for _ in range(count):
        found = await agreement.schedule(bounds[-1], after=bounds[-1])
        [billable] = found.periods
        assert period_of(billable.period).start == bounds[-1]
        bounds.append(period_of(billable.period).end)
    return bounds


async def _whole_periods(case: Case, rooms: Rooms) -> Answer:
    """As many as were billed in arrears."""
    start = instant_of(case.given["from"])
    price = flat_price("1", interval_of(case.given["period"]), in_arrears=True)
    agreement = await agree(await rooms.before(start), price, start=start)
    return {"count": len((await agreement.schedule(instant_of(case.given["to"]))).periods)}


async def _period_containing(case: Case, rooms: Rooms) -> Answer:
    given = case.given
    anchor, zone = instant_of(given["anchor"]), given["timezone"]
    price = flat_price("1", interval_of(given["period"]))
    agreement = await agree(await rooms.before(anchor), price, start=anchor, zone=zone)
    period = period_of((await agreement.schedule(instant_of(given["at"]))).periods[-1].period)
    return {"start": _utc(period.start), "end": _utc(period.end)}


async def _invoiced_period(case: Case, rooms: Rooms) -> Answer:
    """In arrears the period that is over, in advance the one that begins."""
    given = case.given
    zone, now, interval = given["timezone"], instant_of(given["invoiced_at"]), interval_of(given["period"])
    anchor = _anchor(given["anchor"], now - PERIODS_BEFORE * timedelta(days=31), zone, interval)
    price = flat_price("1", interval, in_arrears=given["billing"] == "in_arrears")
    agreement = await agree(await rooms.before(anchor), price, start=anchor, zone=zone)
    period = period_of((await agreement.schedule(now)).periods[-1].period)
    return {"period_start": _utc(period.start), "period_end": _utc(period.end)}


async def _next_billing_date(case: Case, rooms: Rooms) -> Answer:
    """What is billed next after the period has begun, of what is counted from the anchor."""
    given = case.given
    zone, interval = given["timezone"], interval_of(given["period"], int(given["count"]))
    start = instant_of(given["period_start"], zone)
    anchor = _anchor(given["anchor"], start, zone, interval)
    agreement = await agree(await rooms.before(anchor), flat_price("1", interval), start=anchor, zone=zone)
    found = await agreement.schedule(start)
    civil = time_of(found.next_bill_time).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return {"date": civil.isoformat() if "T" in case.expected["date"] else civil.date().isoformat()}


def _anchor(told: str, near: datetime, zone: str, interval: BillingInterval) -> datetime:
    """From when on periods are counted. Periods by the calendar are counted from its Monday, or first of the month."""
    if told[0].isdigit():
        return instant_of(told, zone)
    today = near.astimezone(ZoneInfo(zone))
    if told.startswith("day "):
        assert today.day == int(told.removeprefix("day ")), "the period begins on its day"
        return near
    if told == "calendar" and interval.unit == BillingInterval.MONTH:
        return _midnight(today.replace(day=1))
    weekday, hour = (MONDAY if told == "calendar" else told).split()
    day = today - timedelta(days=(today.weekday() - WEEKDAYS.index(weekday)) % 7)
    hours, minutes = map(int, hour.split(":"))
    anchor = day.replace(hour=hours, minute=minutes, second=0).astimezone(UTC)
    return anchor if anchor <= near else anchor - timedelta(days=7)


def _midnight(day: datetime) -> datetime:
    return day.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _utc(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


# Shares, and what they cost


async def _ratio_before(case: Case, rooms: Rooms) -> Answer:
    """The part that leads to the end of a period."""
    given = case.given
    start, end = instant_of(given["from"]), instant_of(given["to"])
    price = flat_price("1", interval_of(given["period"]))
    agreement = await agree(await rooms.before(start), price, start=start, billing_day=end.day)
    [part] = (await agreement.schedule(start)).periods
    assert period_of(part.period).end == end
    return {"cycles": as_published(share_of(part), case.expected["cycles"])}


async def _ratio_after(case: Case, rooms: Rooms) -> Answer:
    """The part of a period that follows its beginning."""
    given = case.given
    start, end = instant_of(given["from"]), instant_of(given["to"])
    agreement = await agree(await rooms.before(start), flat_price("1", interval_of(given["period"])), start=start)
    await agreement.end(end)
    parts = (await agreement.schedule(end)).periods
    if len(parts) > 1:
        raise Unsupported("a share of more than a period: time is cut into periods first")
    return {"cycles": as_published(share_of(parts[0]), case.expected["cycles"])}


async def _days_between(case: Case, rooms: Rooms) -> Answer:
    """As the share of a year of days that begins then."""
    given = case.given
    start, zone = instant_of(given["from"]), given["timezone"]
    year = BillingInterval(unit=BillingInterval.DAY, count=DAYS_COUNTED)
    agreement = await agree(await rooms.before(start), flat_price("1", year), start=start, zone=zone)
    await agreement.end(instant_of(given["to"]))
    [part] = (await agreement.schedule(start)).periods
    days = share_of(part) * DAYS_COUNTED
    assert days.denominator == 1
    return {"days": int(days)}


async def _prorated_amount(case: Case, rooms: Rooms) -> Answer:
    """The line of an invoice: the next one, as it would be now."""
    given = case.given
    line = await (_line_of_credit if given.get("direction") == "credit" else _line_of_part)(case, rooms)
    if line is None:
        return {"amount": Decimal(0)}
    amount = whole_amount(line)
    exact = Fraction(Decimal(line.exact_amount.value))
    published = case.expected["amount"]
    is_rounded = len(published.partition(".")[2]) <= 2
    return {
        "amount": amount.amount if is_rounded else as_published(exact, published),
        "unrounded_minor_units": as_published(exact * 100, case.expected.get("unrounded_minor_units", "0")),
    }


async def _line_of_part(case: Case, rooms: Rooms) -> LineItem | None:
    """A subscription that has only the part: it begins in the period, or ends before it does."""
    given = case.given
    in_seconds = any(each.startswith("proration:seconds") for each in case.conventions)
    trial_days = int(given.get("trial_days", "0"))
    start, full_start, end, full_end, interval = _times(given)
    if start > full_end:
        end = full_end  # what begins after the period has no part in it
    if trial_days and interval.unit == BillingInterval.YEAR:
        raise Unsupported("years that are not counted from the end of the trial")
    begins_late = start != full_start or trial_days
    is_minimum = "commitment:prorated_by_days" in case.conventions
    price = (minimum_price if is_minimum else flat_price)(given["period_amount"], interval, currency=given["currency"])
    agreement = await agree(
        await rooms.before(start),
        price,
        start=start,
        billing_day=full_end.day if begins_late else 0,
        trial_days=trial_days,
        proration=BY_SECOND if in_seconds else BY_DAY,
    )
    if end < full_end:
        await agreement.end(end)
    lines = await agreement.coming_lines()
    within = [each for each in lines if full_start <= period_of(each.period).start < full_end]
    assert len(within) <= 1
    return within[0] if within else None


def _times(given: Json) -> tuple[datetime, datetime, datetime, datetime, BillingInterval]:
    """The part, the period, and how it is counted. So many of so many days may be any days."""
    if "period_start" not in given:
        start = datetime(2023, 1, 1, tzinfo=UTC)
        days = BillingInterval(unit=BillingInterval.DAY, count=int(given["of_days"]))
        return start, start, start + timedelta(days=int(given["days"])), start + timedelta(days=days.count), days
    full_start, full_end = instant_of(given["period_start"]), instant_of(given["period_end"])
    interval = interval_between(full_start, full_end)
    return instant_of(given["from"]), full_start, instant_of(given["to"]), full_end, interval


async def _line_of_credit(case: Case, rooms: Rooms) -> LineItem:
    """Of a subscription that was billed, and is paused for the part."""
    given = case.given
    start, full_start, end, _, interval = _times(given)
    async with rooms.at(full_start) as sandbox:
        price = flat_price(given["period_amount"], interval, currency=given["currency"])
        agreement = await agree(sandbox, price, start=full_start)
        await sandbox.travel(start)
        await agreement.pause(end)
        lines: Sequence[LineItem] = await agreement.coming_lines()
    [credit] = [each for each in lines if each.kind == LineItem.CREDIT]
    assert wire.parse_interval(credit.period, field="period").end == end
    return credit


ANSWERS: Final[dict[str, Callable[[Case, Rooms], Awaitable[Answer]]]] = {
    "billed_cycles": _billed_cycles,
    "billed_through": _billed_through,
    "ratio_before": _ratio_before,
    "ratio_after": _ratio_after,
    "advance": _advance,
    "whole_periods": _whole_periods,
    "first_billing_date": _first_billing_date,
    "days_between": _days_between,
    "next_billing_date": _next_billing_date,
    "period_bounds": _period_bounds,
    "period_containing": _period_containing,
    "schedule": _schedule,
    "invoiced_period_start": _invoiced_period,
    "invoiced_period_end": _invoiced_period,
    "prorated_amount": _prorated_amount,
}
