"""Knows what is to be billed when: the log read again from the beginning, by rules of its own.

Each decision, and each revocation, makes another view of all of time. By each view, what begins or falls due up to the
next decision is settled against what was billed before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from tools.check.agreement import Agreement, Change, Knowledge
from tools.check.calendar import MICROSECOND, Span, days_later, exact_share, share
from tools.check.covers import Cover, joined, without
from tools.check.terms import Run, Terms, View


class BilledKey(NamedTuple):
    """What may be billed only once."""

    item_id: str
    price_id: str
    period_start: datetime
    kind: str
    change_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Billable:
    """Something that is to be billed once."""

    subscription_id: str
    item_id: str
    terms: Terms
    period: Span
    full: Span
    part: Fraction
    """How much of the full period it is."""
    bill_time: datetime
    kind: str
    change_id: str
    source: BilledKey | None = None
    """Of a credit: what was billed for it."""

    @property
    def key(self) -> BilledKey:
        return BilledKey(self.item_id, self.terms.price.id, self.period.start, self.kind, self.change_id)

    @property
    def share(self) -> Fraction:
        """What part of the price is owed. The usage of a part of a period is itself only a part."""
        return Fraction(1) if self.terms.price.meter else self.part


def billables(agreement: Agreement, *, through: datetime) -> list[Billable]:
    """Everything of a subscription with a bill time up to `through`, in order of bill time."""
    books: dict[str, _Book] = {}
    for knowledge in agreement.knowledge():
        until = through if knowledge.until is None else min(through, knowledge.until)
        view = View(agreement, knowledge.changes)
        for item_id in view.item_ids:
            book = books.setdefault(item_id, _Book(agreement, item_id))
            book.settle(view, knowledge, until=until)
    found = [each for book in books.values() for each in book.billed]
    return sorted((each for each in found if each.bill_time <= through), key=lambda each: each.bill_time)


@dataclass(slots=True)
class _Book:
    """What was billed of an item."""

    agreement: Agreement
    item_id: str
    billed: list[Billable] = field(default_factory=list)
    covers: list[Cover] = field(default_factory=list)
    settled: list[Span] = field(default_factory=list)
    """What was billed in arrears."""
    is_once_billed: bool = False
    bills: int = 0
    keys: dict[int, BilledKey] = field(default_factory=dict)
    """What each bill was billed as."""

    def settle(self, view: View, knowledge: Knowledge, *, until: datetime) -> None:
        """What begins or falls due up to `until` by what is known."""
        turn = _Turn(self, view, knowledge, until)
        turn.compare()
        for run in view.runs(self.item_id):
            if run.start > until:
                break
            if run.terms is None:
                continue
            if run.terms.price.is_once:
                turn.bill_once(run, run.terms)
            elif run.terms.price.in_advance:
                turn.bill_in_advance(run, run.terms)
            else:
                turn.bill_in_arrears(run, run.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """What is taken back of a piece, by what."""

    piece: Cover
    terms: Terms
    kind: str
    cause: Change | None
    bill_time: datetime


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is billed of an item by one view of all of time."""

    book: _Book
    view: View
    knowledge: Knowledge
    until: datetime
    freed: list[datetime] = field(default_factory=list)
    """From when on what was covered is to be billed anew: not before, as it is covered until then."""
    begun: list[datetime] = field(default_factory=list)
    """Where what is billed in advance begins, of all that is by this view."""

    def compare(self) -> None:
        """What was billed in advance with what is wanted of it."""
        losses: list[_Loss] = []
        for run in self.view.stretches(self.book.item_id):
            pieces = [piece for cover in self.book.covers for piece in cover.cut(run)]
            kept: list[Cover] = []
            for piece in pieces:
                inside = run.start <= piece.span.start and (run.end is None or piece.span.start < run.end)
                is_known = piece.span.start <= self.until or self._is_ahead(piece)
                if inside and is_known and piece.wanted != run.terms:
                    left = self._left_covered(piece, run.terms, losses)
                    kept += [left] if left else []
                    if left is None and not self._is_ahead(piece):
                        self.freed.append(piece.span.start)
                else:
                    kept.append(piece)
            self.book.covers = joined(kept)
        self._credit(losses)

    def _is_ahead(self, piece: Cover) -> bool:
        """Whether it was billed, and had not begun when this came to be known."""
        since = self.knowledge.since
        return since is not None and since < piece.span.start and piece.span.start == piece.begins

    def _left_covered(self, piece: Cover, wanted: Terms | None, losses: list[_Loss]) -> Cover | None:
        """What stays of a piece of which something else is wanted now; what does not is credited, or forfeit."""
        setter = self.view.setter(self.book.item_id, piece.span.start)
        unused = "KEEP" if setter is None else setter.unused
        if unused == "KEEP" and self._is_ahead(piece):
            unused = "CREDIT"
        if wanted is None:
            if unused == "KEEP" or piece.wanted is None:
                return replace(piece, wanted=None)
            losses.append(self._loss(piece, piece.wanted, unused))
            return None
        is_same_price = wanted.price.id == piece.paid.price.id
        counts = unused == "KEEP" or wanted == piece.paid or piece.wanted is None
        if piece.wanted is not None and is_same_price and wanted.customer_id == piece.wanted.customer_id:
            counts = counts or _quantity(wanted) > _quantity(piece.wanted)
        if not counts:
            losses.append(self._loss(piece, piece.wanted or piece.paid, unused))
        elif is_same_price and _quantity(wanted) <= _quantity(piece.paid):
            return replace(piece, wanted=wanted)
        elif is_same_price:
            losses.append(self._loss(piece, piece.paid, unused))
        return None

    def _loss(self, piece: Cover, terms: Terms, unused: str) -> _Loss:
        return _Loss(
            piece=piece,
            terms=replace(terms, customer_id=piece.paid.customer_id),
            kind="REFUND" if unused == "REFUND" else "CREDIT",
            cause=self.view.cause(self.book.item_id, piece.span.start),
            bill_time=self.knowledge.since
            if self._is_ahead(piece) and self.knowledge.since is not None
            else self._not_before(piece.span.start),
        )

    def _credit(self, losses: list[_Loss]) -> None:
        """What one change takes back of one bill at once is one credit, whatever else lies in it."""
        whole: list[_Loss] = []
        for loss in sorted(losses, key=lambda each: each.piece.span):
            span = loss.piece.span
            if whole and whole[-1].piece.span.end == span.start:
                longer = Span(whole[-1].piece.span.start, span.end)
                if replace(whole[-1], piece=replace(whole[-1].piece, span=span)) == loss:
                    whole[-1] = replace(loss, piece=replace(loss.piece, span=longer))
                    continue
            whole.append(loss)
        for loss in whole:
            span, full = loss.piece.span, loss.piece.full
            part = self._part(span, full, loss.piece.proration or self._measure(loss.cause))
            if part:
                self._bill(loss.terms, span, full, part, loss.bill_time, kind=loss.kind, change_id=_id(loss.cause))
                self.book.billed[-1] = replace(self.book.billed[-1], source=self.book.keys.get(loss.piece.bill))

    def bill_once(self, run: Run, terms: Terms) -> None:
        if not self.book.is_once_billed:
            self.book.is_once_billed = True
            day = Span(run.start, days_later(run.start, 1, self.agreement.zone))
            self._bill(terms, day, day, Fraction(1), run.start, change_id=self._made_due_by(run, run.start))

    def bill_in_advance(self, run: Run, terms: Terms) -> None:
        at = run.start
        while self._is_reached(run, at) and (run.end is None or at < run.end):
            covering = next((each for each in self.book.covers if each.span.start <= at < each.span.end), None)
            if covering is not None:
                at = covering.span.end
                continue
            if self._billed_from(run, at) > self.until:
                break
            full = self.view.period(run, at)
            following = [each.span.start for each in self.book.covers if each.span.start > at]
            following += [each for each in self.freed if each > self._not_before(at)]
            end = min([full.end, *following, *([run.end] if run.end else [])])
            self._cover(run, terms, Span(at, end), full)
            at = end

    def _cover(self, run: Run, terms: Terms, span: Span, full: Span) -> None:
        measured = None if span == full else self._measure(self.view.cause(self.book.item_id, span.start))
        self.book.bills += 1
        self.begun.append(span.start)
        self.book.covers.append(
            Cover(
                bill=self.book.bills,
                begins=span.start,
                span=span,
                full=full,
                paid=terms,
                wanted=terms,
                proration=measured,
            )
        )
        part = self._part(span, full, measured)
        change_id = self._made_due_by(run, span.start)
        if part or not change_id:
            self._bill(terms, span, full, part, self._billed_from(run, span.start), change_id=change_id)
            self.book.keys[self.book.bills] = self.book.billed[-1].key

    def _is_reached(self, run: Run, at: datetime) -> bool:
        """Whether the period around it is billed by then, or a part of it may be."""
        return self._billed_from(run, max(self.view.period(run, at).start, run.start)) <= self.until

    def _billed_from(self, run: Run, start: datetime) -> datetime:
        """What goes on from one whole period to the next is billed some days ahead, in the period before."""
        days = self.agreement.opening.bill_ahead_days
        if not days or start <= run.start or self.view.period(run, start).start != start:
            return start
        before = self.view.period(run, start - MICROSECOND).start
        billed = [each for each in self.begun if before <= each < start]
        return max([days_later(start, -days, self.agreement.zone), before, run.start, *billed])

    def bill_in_arrears(self, run: Run, terms: Terms) -> None:
        settlements = self.view.settlements(self.book.item_id)
        at = run.start
        while at <= self.until and (run.end is None or at < run.end):
            full = self.view.period(run, at)
            end = min([full.end, *([run.end] if run.end else [])])
            # The periods may go on elsewhere, but what was used up to there is settled there.
            end = min([end, *(each for each in settlements if at < each)])
            bill_time = min([full.end, *(each for each in settlements if end <= each)])
            if self._not_before(bill_time) <= self.until:
                for rest in without(Span(at, end), self.book.settled):
                    measured = self._measure(self.view.cause(self.book.item_id, rest.start))
                    part = self._part(rest, full, measured)
                    begun_by = self.view.cause(self.book.item_id, run.start) if rest.start == run.start else None
                    self._bill(terms, rest, full, part, bill_time, change_id=_id(begun_by))
                self.book.settled.append(Span(at, end))
            at = end

    @property
    def agreement(self) -> Agreement:
        return self.book.agreement

    def _measure(self, cause: Change | None) -> str:
        told = self.agreement.opening.proration if cause is None or cause.proration == "NONE" else cause.proration
        return "BY_SECOND" if told == "BY_SECOND" else "BY_DAY"

    def _part(self, span: Span, full: Span, measured: str | None) -> Fraction:
        if span == full:
            return Fraction(1)
        return exact_share(span, full) if measured == "BY_SECOND" else share(span, full, self.agreement.zone)

    def _made_due_by(self, run: Run, start: datetime) -> str:
        """The change that makes a part due, if that is not the ordinary course of time."""
        item_id = self.book.item_id
        if start == run.start:
            return _id(self.view.cause(item_id, start))
        decided = self.knowledge.since is not None and start <= self.knowledge.since
        return _id(self.view.cause(item_id, start)) if decided and start in self.view.causes(item_id) else ""

    def _not_before(self, time: datetime) -> datetime:
        """What was decided later is billed when it was decided."""
        return time if self.knowledge.since is None else max(time, self.knowledge.since)

    def _bill(
        self,
        terms: Terms,
        span: Span,
        full: Span,
        part: Fraction,
        bill_time: datetime,
        *,
        kind: str = "OWED",
        change_id: str,
    ) -> None:
        billable = Billable(
            subscription_id=self.agreement.id,
            item_id=self.book.item_id,
            terms=terms,
            period=span,
            full=full,
            part=part,
            bill_time=self._not_before(bill_time),
            kind=kind,
            change_id=change_id,
        )
        # What is billed again from the very moment from which it was billed before is told apart by the decision.
        if any(each.key == billable.key for each in self.book.billed):
            billable = replace(billable, change_id=self.knowledge.change_id)
        self.book.billed.append(billable)


def _id(change: Change | None) -> str:
    return "" if change is None else change.id


def _quantity(terms: Terms) -> Fraction:
    return terms.price.quantity or Fraction(0)
