"""Knows by what terms each item is billed at each moment, going by what was known at another."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from tools.check.agreement import Agreement, Change, Json, Price, price_of
from tools.check.calendar import Rhythm, Span, days_later

MONTHS_AHEAD: Final = 14
UNITS: Final = ("DAY", "WEEK", "MONTH", "YEAR")
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Price and quantity, for a customer."""

    price: Price
    customer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stretch of time in which an item has the same terms and the same anchor, or no terms."""

    start: datetime
    end: datetime | None
    terms: Terms | None
    anchor: datetime | None


@dataclass(frozen=True, slots=True)
class Setting:
    """From when on an item is billed at a price; at none, when it was taken away."""

    since: datetime
    price: Price | None
    change: Change | None


@dataclass(frozen=True, slots=True)
class Anchoring:
    """From when on periods are counted from an anchor."""

    since: datetime
    anchor: datetime


@dataclass(slots=True)
class _Item:
    agreed: Price | None
    settings: list[Setting]
    anchorings: list[Anchoring]


@dataclass(slots=True)
class _Truth:
    """What is true at a moment."""

    start: datetime
    customer_id: str
    billing_day: int
    is_activated: bool
    is_in_doubt: bool
    trial_end: datetime | None = None
    is_paused: bool = False
    is_over: bool = False
    paused_by: str = ""
    """The change that paused billing, while it is."""
    stopped: Change | None = None
    """What made billing stop, of all that did the first."""
    resumed: Change | None = None
    """What took up billing again that had begun before."""
    transferred: Change | None = None
    anchorings: list[Anchoring] = field(default_factory=list)
    items: dict[str, _Item] = field(default_factory=dict)

    @property
    def billed_from(self) -> datetime:
        return self.start if self.trial_end is None else self.trial_end


class View:
    """What is true at each moment, by the changes that are known, which come in the order of their effect."""

    def __init__(self, agreement: Agreement, known: Sequence[Change]) -> None:
        self._opening = agreement.opening
        self._zone = agreement.zone
        self._known = known
        self._truths = [self._truth(known[:count]) for count in range(len(known) + 1)]

    @property
    def item_ids(self) -> list[str]:
        """In the order in which they were agreed."""
        return list(self._truths[-1].items)

    def begins(self, *, waiting_until: datetime | None) -> datetime:
        """When billing begins, if it does; not before the time until which it waits to be activated by hand."""
        truth = self._truths[-1]
        if truth.is_activated or self._opening.activation != "BY_HAND" or waiting_until is None:
            return truth.billed_from
        days = self._opening.trial_days
        return days_later(waiting_until, days, self._zone) if days else waiting_until

    def runs(self, item_id: str) -> list[Run]:
        """All of time, in order."""
        moments = sorted({BEGINNING, *self._moments(item_id)})
        found: list[Run] = []
        for moment in moments:
            terms = self.terms(item_id, moment)
            anchor = None if terms is None or terms.price.is_once else self._anchor(item_id, moment)
            if found and (found[-1].terms, found[-1].anchor) == (terms, anchor):
                continue
            if found:
                found[-1] = replace(found[-1], end=moment)
            found.append(Run(start=moment, end=None, terms=terms, anchor=anchor))
        return found

    def stretches(self, item_id: str) -> list[Run]:
        """The same, divided where another change says so, whether it says something else or not."""
        found: list[Run] = []
        told: object = None
        for moment in sorted({BEGINNING, *self._moments(item_id)}):
            terms = self.terms(item_id, moment)
            saying = terms, self.setter(item_id, moment), self.cause(item_id, moment)
            if found and told == saying:
                continue
            if found:
                found[-1] = replace(found[-1], end=moment)
            found.append(Run(start=moment, end=None, terms=terms, anchor=None))
            told = saying
        return found

    def terms(self, item_id: str, at: datetime) -> Terms | None:
        truth = self._at(at)
        item = truth.items.get(item_id)
        if item is None or truth.is_over or truth.is_paused or truth.is_in_doubt or at < truth.billed_from:
            return None
        if not truth.is_activated and self._opening.activation == "BY_HAND":
            return None
        price = _in_force(item.settings, at).price
        if price is None or not (truth.is_activated or price.in_advance):
            return None
        return Terms(price=price, customer_id=truth.customer_id)

    def period(self, run: Run, at: datetime) -> Span:
        """The full period of a moment in a run."""
        assert run.terms is not None, "without terms there are no periods"
        assert run.anchor is not None, "what is billed once has no periods"
        return _period(run.anchor, self._zone, run.terms.price, at)

    def _anchor(self, item_id: str, at: datetime) -> datetime:
        return _anchor(self._at(at).items[item_id].anchorings, at)

    def settlements(self, item_id: str) -> list[datetime]:
        """When what is owed in arrears is settled, though the full period goes on."""
        ends = [change.effective for change in self._known if _has(change, "END")]
        anchorings = self._truths[-1].items[item_id].anchorings
        # Of several at one moment the last one counts.
        last = {each.since: each.anchor for each in anchorings}
        anchored = [since for (_, before), (since, after) in pairwise(last.items()) if before != after]
        return sorted({*ends, *anchored, *self._interval_changes(item_id)})

    def _interval_changes(self, item_id: str) -> list[datetime]:
        settings = self._truths[-1].items[item_id].settings
        return [
            after.since
            for before, after in pairwise(settings)
            if before.price is not None and after.price is not None and before.price.rhythm != after.price.rhythm
        ]

    def setter(self, item_id: str, at: datetime) -> Change | None:
        """The change that says by what terms an item is billed at a moment, or that made it not be billed."""
        truth = self._at(at)
        if item_id not in truth.items:
            return None
        setting = _in_force(truth.items[item_id].settings, at)
        if truth.stopped is not None or setting.price is None:
            return truth.stopped or setting.change
        spoken = [each for each in (setting.change, truth.transferred) if each is not None]
        return max(spoken, key=lambda each: (each.effective, each.position), default=None)

    def cause(self, item_id: str, at: datetime) -> Change | None:
        """The same, or a later one that resumed billing by these terms."""
        resumed = self._at(at).resumed
        setter = self.setter(item_id, at)
        if resumed is None or self._at(at).stopped is not None or resumed.effective <= self._since(item_id, at):
            return setter
        return resumed

    def _since(self, item_id: str, at: datetime) -> datetime:
        """Since when an item has had the same terms and the same anchor, paused or not."""
        truth = self._at(at)
        if item_id not in truth.items:
            return BEGINNING
        item = truth.items[item_id]
        transferred = truth.transferred.effective if truth.transferred else BEGINNING
        anchored = [each.since for each in item.anchorings if each.since <= at][-1]
        return max(_in_force(item.settings, at).since, transferred, anchored, truth.billed_from)

    def causes(self, item_id: str) -> set[datetime]:
        """When something was said about how the item is billed."""
        settings = self._truths[-1].items[item_id].settings
        spoken = [each.effective for each in self._known if _has(each, "RESUME") or _has(each, "TRANSFER")]
        return {*spoken, *(each.since for each in settings)}

    def _moments(self, item_id: str) -> list[datetime]:
        found = [change.effective for change in self._known]
        for truth in self._truths:
            found.append(truth.billed_from)
            if item_id in truth.items:
                found += [setting.since for setting in truth.items[item_id].settings]
                found += [each.since for each in truth.items[item_id].anchorings]
        return found

    def _at(self, at: datetime) -> _Truth:
        return self._truths[sum(change.effective <= at for change in self._known)]

    def _truth(self, changes: Sequence[Change]) -> _Truth:
        opening = self._opening
        truth = _Truth(
            start=opening.start,
            customer_id=opening.customer_id,
            billing_day=opening.billing_day,
            is_activated=opening.activation == "ON_START",
            is_in_doubt=opening.trial_end != "CONTINUE" and opening.trial_days > 0,
        )
        if opening.trial_days:
            truth.trial_end = days_later(opening.start, opening.trial_days, self._zone)
        for item_id, price in opening.items.items():
            truth.items[item_id] = _Item(price, [Setting(BEGINNING, price, None)], [])
        self._anchor_anew(truth)
        for change in changes:
            was_in_doubt, was_paused = truth.is_in_doubt, truth.is_paused
            for action in change.actions:
                self._apply(truth, change, action)
            if not (truth.is_over or truth.is_paused):
                truth.stopped = None
            elif truth.stopped is None:
                truth.stopped = change
            if was_paused and not truth.is_paused and not was_in_doubt:
                truth.resumed = change
            if _has(change, "TRANSFER"):
                truth.transferred = change
            if change.effective <= truth.billed_from:
                self._anchor_anew(truth)
        return truth

    def _anchor_anew(self, truth: _Truth) -> None:
        """As long as nothing is billed, periods are to be counted from where billing begins."""
        anchor = first_midnight(truth.billed_from, self._zone, truth.billing_day)
        truth.anchorings = [Anchoring(BEGINNING, anchor)]
        for item in truth.items.values():
            item.anchorings = [Anchoring(BEGINNING, anchor)]

    def _apply(self, truth: _Truth, change: Change, action: Json) -> None:
        match action["action"]:
            case "ADD_ITEM":
                item = _Item(None, [Setting(BEGINNING, None, None)], list(truth.anchorings))
                truth.items[action["item"]["id"]] = item
                self._set(truth, item, change, price_of(action["item"]))
            case "REMOVE_ITEM":
                self._set(truth, truth.items[action["item_id"]], change, None)
            case "SET_QUANTITY":
                item = truth.items[action["item_id"]]
                assert item.agreed is not None, "only what is agreed has a quantity"
                self._set(truth, item, change, replace(item.agreed, quantity=Fraction(action["quantity"])))
            case "SET_PRICE":
                self._set(truth, truth.items[action["item_id"]], change, price_of(action["terms"]))
            case "SET_BILLING_DAY":
                truth.billing_day = action["billing_day"]
                self._anchor_at(truth, change.effective, truth.billing_day, units=UNITS[2:])
            case "PAUSE":
                if action["billing"] and not truth.is_paused:
                    truth.is_paused, truth.paused_by = True, change.id
            case "RESUME" if action["billing"]:
                # One that was decided with a pause is the end of that pause only.
                if change.decided_with in (None, truth.paused_by):
                    truth.is_paused = False
                truth.is_in_doubt = truth.is_in_doubt and change.effective < truth.billed_from
            case "END":
                truth.is_over = True
            case "REACTIVATE":
                truth.is_over = False
                truth.is_in_doubt = truth.is_in_doubt and change.effective < truth.billed_from
                self._anchor_at(truth, change.effective, truth.billing_day, units=UNITS)
            case "ACTIVATE":
                truth.is_activated = True
                if self._opening.activation == "BY_HAND":
                    truth.start = change.effective
                    truth.is_in_doubt = self._opening.trial_end != "CONTINUE" and self._opening.trial_days > 0
                    for item in truth.items.values():
                        self._begin_with(item, change.effective)
                    if self._opening.trial_days:
                        truth.trial_end = days_later(truth.start, self._opening.trial_days, self._zone)
            case "BEGIN_BILLING":
                truth.is_in_doubt = False
            case "SET_TRIAL_END":
                truth.trial_end = datetime.fromisoformat(action["trial_end_time"])
            case "TRANSFER":
                truth.customer_id = action["customer_id"]

    def _begin_with(self, item: _Item, start: datetime) -> None:
        """What was added and put off, when nothing was billed yet, is there when billing begins."""
        if item.settings[0].price is None and len(item.settings) > 1:
            none, first, *later = item.settings
            item.settings = [none, replace(first, since=min(first.since, start)), *later]

    def _set(self, truth: _Truth, item: _Item, change: Change, price: Price | None) -> None:
        since = moment = change.effective
        rhythm = _in_force(item.settings, moment).price or item.agreed or price
        if change.proration == "NONE" and moment > truth.billed_from and rhythm is not None and not rhythm.is_once:
            under_way = _period(_anchor(item.anchorings, moment), self._zone, rhythm, moment)
            since = moment if under_way.start == moment else under_way.end
        item.agreed = price
        item.settings = [each for each in item.settings if each.since < since]
        item.anchorings = [each for each in item.anchorings if each.since < since or each in truth.anchorings]
        before = _in_force(item.settings, since).price
        item.settings.append(Setting(since, price, change))
        changes_rhythm = before is not None and price is not None and before.rhythm != price.rhythm
        if changes_rhythm and not truth.billing_day and since > truth.billed_from:
            item.anchorings.append(Anchoring(since, since))

    def _anchor_at(self, truth: _Truth, moment: datetime, billing_day: int, *, units: Sequence[str]) -> None:
        """Items of some units are counted from another anchor from a moment on."""
        anchoring = Anchoring(moment, first_midnight(moment, self._zone, billing_day))
        truth.anchorings.append(anchoring)
        for item in truth.items.values():
            priced = [each.price for each in item.settings if each.price is not None]
            if priced and priced[-1].unit in units:
                item.anchorings.append(anchoring)


def first_midnight(instant: datetime, zone: str, day: int) -> datetime:
    """The first midnight, not before, of a day of the month that has this number; the instant itself without one."""
    if day == 0:
        return instant
    place = ZoneInfo(zone)
    local = instant.astimezone(place)
    for months in range(MONTHS_AHEAD):
        year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
        if day <= calendar.monthrange(year, month + 1)[1]:
            civil = datetime(year, month + 1, day, tzinfo=place)
            found = civil.astimezone(UTC)
            # A midnight that the clocks skip is none.
            if found >= instant and found.astimezone(place).replace(tzinfo=None) == civil.replace(tzinfo=None):
                return found
    raise ValueError(f"no midnight of a day {day} after {instant}")


def _period(anchor: datetime, zone: str, price: Price, at: datetime) -> Span:
    return Rhythm(anchor, zone, price.unit, price.count).span_at(at)


def _in_force(settings: Sequence[Setting], at: datetime) -> Setting:
    return [each for each in settings if each.since <= at][-1]


def _anchor(anchorings: Sequence[Anchoring], at: datetime) -> datetime:
    return [each for each in anchorings if each.since <= at][-1].anchor


def _has(change: Change, action: str) -> bool:
    return any(each["action"] == action for each in change.actions)
