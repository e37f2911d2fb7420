"""Knows what time of an item was billed in advance, and what becomes of it when something else is wanted of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from common.period import Period
from subscriptions.domain.change import Proration, Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.terms import CouponId, Terms
from subscriptions.domain.track import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """Time that is billed in advance already."""

    bill: datetime
    """The beginning of what was billed together with it."""
    start: datetime
    end: datetime
    full: Period
    paid: Terms
    """What was billed."""
    counts_as: Terms | None
    """What is wanted of it: the same, or fewer of them, or nothing where it was kept without being wanted."""
    customer_id: CustomerId
    """Who was billed."""
    used_by: CustomerId
    """Who wants it: the same, or whom it was left to."""
    measured: Proration | None
    """How its share of the full period was measured, and so is any part of it; None for a full period."""
    coupon_ids: tuple[CouponId, ...]


def resolved(piece: Cover, segment: Segment, *, has_begun: bool = True) -> tuple[Terms | None, Cover | None]:
    """What of a piece is credited, and what of it stays, where a segment says otherwise than it does. Nobody keeps what
    has not begun when that is decided.
    """
    wanted, before, paid = segment.terms, piece.counts_as, piece.paid
    keeps = (segment.cause.unused is Unused.KEEP and has_begun) or before is None
    if wanted is None:
        return (None, replace(piece, counts_as=None)) if keeps else (before, None)
    is_same = wanted.price_id == paid.price_id
    if before is not None and is_same and segment.customer_id == piece.used_by:
        # More than was wanted last may have been paid for and kept.
        keeps = keeps or _quantity(wanted) > _quantity(before)
    if is_same and segment.customer_id == piece.customer_id:
        keeps = keeps or _quantity(wanted) == _quantity(paid)
    if not keeps:
        return before, None
    if is_same and _quantity(wanted) <= _quantity(paid):
        return None, replace(piece, counts_as=wanted, used_by=segment.customer_id)
    # More of the same: what is paid counts towards it. Something else: what is paid is lost.
    return (paid if is_same else None), None


def agree(cover: Cover, segment: Segment) -> bool:
    """Whether what is covered is what is wanted; where periods begin is no matter."""
    if cover.counts_as is None or segment.terms is None:
        return cover.counts_as is None and segment.terms is None
    return (
        cover.used_by == segment.customer_id
        and cover.counts_as.price_id == segment.terms.price_id
        and cover.counts_as.quantity == segment.terms.quantity
    )


def rejoined(pieces: Iterable[Cover]) -> list[Cover]:
    """Pieces of one cover that say the same are one again."""
    joined: list[Cover] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last is not None and last.end == piece.start and replace(last, start=piece.start, end=piece.end) == piece:
            joined[-1] = replace(last, end=piece.end)
        else:
            joined.append(piece)
    return joined


def uncovered(stretch: Period, covers: Sequence[Cover]) -> Iterator[Period]:
    """The parts of a stretch that are not billed yet, in order."""
    if not covers:
        yield stretch
        return
    start, end = stretch.start, stretch.end
    overlapping = sorted((each.start, each.end) for each in covers if each.start < end and each.end > start)
    for covered_start, covered_end in overlapping:
        if start < covered_start:
            yield Period(start, covered_start)
        start = max(start, covered_end)
    if start < end:
        yield Period(start, end)


def parted(stretches: Iterator[Period], at: Sequence[datetime]) -> Iterator[Period]:
    """The same time, with a part of its own from each of these moments on."""
    for stretch in stretches:
        if not any(stretch.start < each < stretch.end for each in at):
            yield stretch
            continue
        bounds = [stretch.start, *sorted({each for each in at if stretch.start < each < stretch.end}), stretch.end]
        for start, end in pairwise(bounds):
            yield Period(start, end)


def _quantity(terms: Terms) -> Decimal:
    return terms.quantity if terms.quantity is not None else Decimal(0)
