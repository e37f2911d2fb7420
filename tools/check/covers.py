"""Knows what time of an item was billed in advance, for what, and in how many pieces that is still wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from tools.check.calendar import Span
from tools.check.terms import Run, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A piece of what was billed in advance."""

    bill: int
    """Which bill it is a piece of."""
    begins: datetime
    """When what that bill is for begins."""
    span: Span
    full: Span
    paid: Terms
    wanted: Terms | None
    """By what terms it counts by now; by none while it is kept without being wanted."""
    proration: str | None
    """How it was measured, if it was a part."""

    def cut(self, run: Run) -> Iterator[Cover]:
        """In pieces, where a run begins and ends."""
        inner = [each for each in (run.start, run.end) if each and self.span.start < each < self.span.end]
        for start, end in pairwise([self.span.start, *inner, self.span.end]):
            yield replace(self, span=Span(start, end))


def joined(covers: Iterable[Cover]) -> list[Cover]:
    """Pieces of one bill are one again where nothing tells them apart."""
    found: list[Cover] = []
    for cover in sorted(covers, key=lambda each: each.span):
        last = found[-1] if found else None
        if last is not None and last.span.end == cover.span.start and replace(last, span=cover.span) == cover:
            found[-1] = replace(last, span=Span(last.span.start, cover.span.end))
        else:
            found.append(cover)
    return found


def without(span: Span, taken: Sequence[Span]) -> Iterator[Span]:
    """What of some time was not taken."""
    at = span.start
    for each in sorted(taken):
        if each.start < span.end and at < each.end:
            if at < each.start:
                yield Span(at, each.start)
            at = each.end
    if at < span.end:
        yield Span(at, span.end)
