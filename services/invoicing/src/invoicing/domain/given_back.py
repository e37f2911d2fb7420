"""Knows what is left of what was billed in advance: by credit notes and credits together nothing goes back twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.money import Money
from invoicing.domain.late_usage import less_credited
from invoicing.domain.line import Line, LineKey, LineKind
from invoicing.domain.lines_due import BillablePeriod, Due, Source, source_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A line that counts, with what became of it."""

    line: Line
    credited: Money
    """What credit notes gave back of it; of a credit what they took back of that, below zero."""
    is_final: bool


class LeftOf:
    """Which lines there are, and what is left of each that was billed."""

    def __init__(self, standing: Iterable[Standing]) -> None:
        self._owed: dict[str, list[Standing]] = defaultdict(list)
        credits_taken: list[Standing] = []
        for each in standing:
            mine = credits_taken if each.line.is_credit else self._owed[each.line.item_id]
            mine.append(each)
        self._left = {each.line.id: each.line.amount - each.credited for own in self._owed.values() for each in own}
        for each in credits_taken:
            source = self._source_of(each.line)
            if source is not None:
                self._left[source.line.id] += each.line.amount - each.credited

    def of(self, line: Line) -> Money | None:
        """None if it does not count."""
        return self._left.get(line.id)

    def source_of(self, credit: BillablePeriod) -> Source | None:
        found = self._source_of(credit)
        if found is None:
            return None
        return Source(line=found.line, is_final=found.is_final, left=self._left[found.line.id])

    def _source_of(self, credit: BillablePeriod | Line) -> Standing | None:
        own = self._owed.get(credit.item_id, ())
        line = source_of(credit, (each.line for each in own))
        return next((each for each in own if each.line is line), None)


def given_back_once(
    due: Sequence[list[Due]], sources: Mapping[LineKey, Source], *, so_far: Iterable[Line] = ()
) -> Sequence[list[Due]]:
    """With credits that take off no more than is left of what they are of, and none of what has nothing left. `so_far`
    are lines that the sources do not know of.
    """
    if not any(each.line.is_credit for own in due for each in own):
        return due
    left = {source.line.key: source.left for source in sources.values()}
    owed: dict[str, list[Line]] = defaultdict(list)
    known = [*so_far, *(each.line for own in due for each in own)]
    for line in known:
        if line.kind is LineKind.OWED:
            owed[line.item_id].append(line)
            left.setdefault(line.key, line.amount)

    def source_key(credit: Line) -> LineKey | None:
        stored = sources.get(credit.key)
        source = source_of(credit, [*([] if stored is None else [stored.line]), *owed[credit.item_id]])
        return None if source is None else source.key

    for line in so_far:
        key = source_key(line) if line.is_credit else None
        if key is not None:
            left[key] += line.amount
    found: list[list[Due]] = []
    for own in due:
        mine: list[Due] = []
        for each in own:
            line = each.line
            key = source_key(line) if line.is_credit else None
            if key is not None:
                line = less_credited(line, left[key])
                left[key] += line.amount
            if line is each.line:
                mine.append(each)
            elif line.amount.minor:
                mine.append(replace(each, line=line))
        found.append(mine)
    return found
