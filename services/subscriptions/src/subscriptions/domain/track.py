"""Knows the terms of one item over time: segments without gap or overlap, and the breaks in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from subscriptions.domain.change import Proration, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.terms import ChangeId, ItemId, Terms


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a piece of a timeline begin: a change, or the opening, and at whose expense."""

    change_id: ChangeId
    proration: Proration
    unused: Unused
    recorded_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Time in which the terms of an item are the same, half-open; nothing is billed where they are None."""

    start: datetime
    end: datetime | None
    terms: Terms | None
    customer_id: CustomerId
    anchor: datetime
    cause: Cause


@dataclass(frozen=True, slots=True)
class Settlement:
    """A moment at which what is billed in arrears is billed although its full period is not over."""

    time: datetime
    due_time: datetime
    """The same, or when it was decided, if that was later."""
    is_of_anchor: bool = False
    """Because periods are counted from elsewhere since then."""


@dataclass(frozen=True, slots=True)
class Track:
    """The terms of one item over time, in order, without gap from the first to the last, which is open."""

    item_id: ItemId
    segments: tuple[Segment, ...]
    """Divided where something changes about what is billed."""
    stretches: tuple[Segment, ...]
    """Divided where another change says so, whether it says something else or not; by which anchor is no matter."""
    settlements: tuple[Settlement, ...]

    def cause_at(self, instant: datetime) -> Cause:
        """What says how the item is billed at a moment, of those at which it is."""
        return next(each.cause for each in reversed(self.stretches) if each.start <= instant)

    def is_caused(self, instant: datetime) -> bool:
        return any(each.start == instant for each in self.stretches)


@dataclass(frozen=True, slots=True)
class Break:
    """Time without service or billing, half-open, and what ended and began it."""

    start: datetime
    end: datetime | None
    closed_by: Cause
    opened_by: Cause | None


class WantedTrack:
    """The terms of one item as they are wanted, breaks not looked at; one that is being made."""

    def __init__(self, item_id: ItemId) -> None:
        self.item_id = item_id
        self.segments: list[Segment] = []
        self.settlements: list[Settlement] = []

    def at(self, instant: datetime) -> Segment | None:
        return next((each for each in reversed(self.segments) if each.start <= instant), None)

    def become(self, at: datetime, segment: Segment) -> None:
        """This from now on, whatever was to come."""
        kept = [each for each in self.segments if each.start < at]
        if kept:
            kept[-1] = replace(kept[-1], end=at)
        self.segments = [*kept, segment]
        # Where that would have been settled, it is not.
        self.settlements = [each for each in self.settlements if each.time <= at]

    def alter(self, at: datetime, alteration: Callable[[Segment], Segment]) -> None:
        """What is now and what is to come, both in another way."""
        now = self.at(at)
        before = [each for each in self.segments if each.start < at]
        after = [each for each in self.segments if each.start >= at]
        if now is not None and now.start < at:
            before[-1] = replace(now, end=at)
            after.insert(0, replace(now, start=at))
        self.segments = [*before, *(alteration(each) for each in after)]

    def settle(self, at: datetime, cause: Cause) -> None:
        self.settlements.append(Settlement(at, max(at, cause.recorded_time)))

    def count_from(self, at: datetime, cause: Cause, counted: Callable[[Segment], Segment]) -> None:
        """Count periods from elsewhere, which settles the item; not if they are counted as they were before."""
        since = self.at(at)
        self.alter(at, counted)
        now = self.at(at)
        before = next((each for each in reversed(self.segments) if each.start < at), None)
        if before is not None and now is not None and before.anchor == now.anchor:
            self.settlements = without_anchor(self.settlements, at)
        elif since is not None and now is not None and since.anchor != now.anchor:
            self.settlements.append(Settlement(at, max(at, cause.recorded_time), is_of_anchor=True))


def without_anchor(settlements: Iterable[Settlement], at: datetime) -> list[Settlement]:
    """What was wanted of the anchor for no time at all has settled nothing."""
    return [each for each in settlements if each.time != at or not each.is_of_anchor]


def broken(segment: Segment, gap: Break) -> list[Segment]:
    """The segment with a break in it."""
    starts_after = gap.end is not None and segment.start >= gap.end
    if starts_after or (segment.end is not None and segment.end <= gap.start):
        return [segment]
    pieces: list[Segment] = []
    if segment.start < gap.start:
        pieces.append(replace(segment, end=gap.start))
    silent_end = segment.end if gap.end is None else gap.end if segment.end is None else min(segment.end, gap.end)
    silent_start = max(segment.start, gap.start)
    if silent_end is None or silent_start < silent_end:
        pieces.append(replace(segment, start=silent_start, end=silent_end, terms=None, cause=gap.closed_by))
    if gap.end is not None and (segment.end is None or gap.end < segment.end):
        # What is billed from here on is by what ended the break; whether less than was paid for is credited, by what
        # made it less, before the break or in it.
        opened_by = segment.cause if gap.opened_by is None else replace(gap.opened_by, unused=segment.cause.unused)
        pieces.append(replace(segment, start=gap.end, cause=opened_by))
    return pieces


def joined(segments: Iterable[Segment], says: Callable[[Segment], object]) -> tuple[Segment, ...]:
    """Where nothing changes, nothing begins."""
    found: list[Segment] = []
    for each in segments:
        if found and says(found[-1]) == says(each):
            found[-1] = replace(found[-1], end=each.end)
        else:
            found.append(each)
    return tuple(found)


def what_is_billed(segment: Segment) -> object:
    if segment.terms is None:
        return None
    return segment.terms, segment.customer_id, segment.anchor


def what_is_said(segment: Segment) -> object:
    """One after the other may say different things about what was paid for their time."""
    if segment.terms is None:
        return None, segment.cause
    return segment.terms, segment.customer_id, segment.cause


def one_by_one(breaks: Iterable[Break]) -> list[Break]:
    """In order: of several that stop billing the first is the one that did."""
    found: list[Break] = []
    for each in sorted(breaks, key=lambda gap: (gap.start, gap.end != gap.start)):
        last = found[-1] if found else None
        if last is None or (last.end is not None and last.end <= each.start):
            found.append(each)
        elif last.end is not None and (each.end is None or last.end < each.end):
            found.append(replace(each, start=last.end))
    return found
