"""Knows what is to be billed when, computed anew from what was agreed and what happened, by rules of its own.

in advance   every full period in which service was begun, from there to its end, when service begins in it
in arrears   every part of a full period that was served, when the full period or the subscription ends
once         the civil day that begins when billing does, if it came to that

Service during a trial is not billed: here it has not begun before the trial is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from tools.check.calendar import Rhythm, Span, days_later, share


class BilledKey(NamedTuple):
    """What may be billed only once."""

    item_id: str
    price_id: str
    period_start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A subscription, as far as the time of its bills depends on it."""

    id: str
    customer_id: str
    zone: str
    anchor: datetime
    start: datetime
    trial_end: datetime | None
    pauses: tuple[tuple[datetime, datetime | None], ...]
    end: datetime | None
    """When it ended, or will."""
    notice_given: datetime | None
    """When it was decided that it ends at `cancel_time`; it may have ended before that all the same."""
    cancel_time: datetime | None

    @property
    def billed_from(self) -> datetime:
        return self.start if self.trial_end is None else self.trial_end

    @property
    def stretches(self) -> list[_Stretch]:
        """Service without a break, in order."""
        starts = [self.billed_from, *(end for _, end in self.pauses if end is not None)]
        stops: list[datetime | None] = [*(start for start, _ in self.pauses), self.end]
        foreseen = self.cancel_time is not None and self.end == self.cancel_time
        return [
            _Stretch(start, stop, foreseen=foreseen and n == len(self.pauses))
            for n, (start, stop) in enumerate(zip(starts, stops, strict=False))
            if stop is None or start <= stop
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """An item of a subscription, as far as the time of its bills depends on it."""

    item_id: str
    price_id: str
    unit: str
    count: int
    in_advance: bool
    meter: str
    quantity: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Billable:
    """Something that is to be billed once."""

    agreement: Agreement
    terms: Terms
    period: Span
    full: Span
    bill_time: datetime

    @property
    def key(self) -> BilledKey:
        return BilledKey(self.terms.item_id, self.terms.price_id, self.period.start)

    @property
    def share(self) -> Fraction:
        """What part of the price is owed. The usage of a part of a period is itself only a part."""
        return Fraction(1) if self.terms.meter else share(self.period, self.full, self.agreement.zone)


def billables(agreement: Agreement, terms: Terms, *, through: datetime) -> Iterator[Billable]:
    """Everything of an item with a bill time up to `through`."""
    for full, period, bill_time in _parts(agreement, terms, through):
        if bill_time <= through:
            yield Billable(agreement=agreement, terms=terms, period=period, full=full, bill_time=bill_time)


@dataclass(frozen=True, slots=True)
class _Stretch:
    start: datetime
    end: datetime | None
    foreseen: bool
    """Whether the end was known before it came. One that was not comes after all else of its instant."""

    def lasts_at(self, instant: datetime) -> bool:
        return self.end is None or instant < self.end or (instant == self.end and not self.foreseen)


def _parts(agreement: Agreement, terms: Terms, through: datetime) -> Iterator[tuple[Span, Span, datetime]]:
    """A full period, a part of it, and when that is billed."""
    if terms.unit == "ONCE":
        yield from _once(agreement)
        return
    rhythm = Rhythm(agreement.anchor, agreement.zone, terms.unit, terms.count)
    for full in rhythm.spans(agreement.billed_from, _after(through)):
        found = _in_advance(agreement, full) if terms.in_advance else _in_arrears(agreement, full)
        yield from ((full, period, bill_time) for period, bill_time in found)


def _once(agreement: Agreement) -> list[tuple[Span, Span, datetime]]:
    start = agreement.billed_from
    # Billing never began if the subscription ended before, or by an end that was known.
    if not any(stretch.start == start and stretch.lasts_at(start) for stretch in agreement.stretches):
        return []
    day = Span(start, days_later(start, 1, agreement.zone))
    return [(day, day, start)]


def _in_advance(agreement: Agreement, full: Span) -> list[tuple[Span, datetime]]:
    for stretch in agreement.stretches:
        start = max(full.start, stretch.start)
        if start < full.end and stretch.lasts_at(start):
            end = full.end
            if agreement.notice_given is not None and agreement.notice_given < start:
                assert agreement.cancel_time is not None, "a notice says when"
                end = min(end, agreement.cancel_time)
            return [(Span(start, end), start)]
    return []


def _in_arrears(agreement: Agreement, full: Span) -> list[tuple[Span, datetime]]:
    bill_time = full.end if agreement.end is None else min(full.end, agreement.end)
    parts: list[Span] = []
    for stretch in agreement.stretches:
        start = max(full.start, stretch.start)
        end = full.end if stretch.end is None else min(full.end, stretch.end)
        if start < end:
            parts.append(Span(start, end))
    return [(part, bill_time) for part in parts]


def _after(instant: datetime) -> datetime:
    """Periods that begin at the instant itself count."""
    return instant.replace(microsecond=0) + _SECOND


_SECOND: Final = timedelta(seconds=1)
