"""Knows what is to be done to the versions of one plan so that those which a document names are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from catalog.document.changes import Action, Change, FieldChange, differences
from catalog.document.entries import PlanEntry, plan_entry
from catalog.document.parse import Placed
from catalog.document.tree import Tree, instant, tree_of
from catalog.domain.plan import Plan, PlanId, State, draft
from catalog.domain.product import ProductId
from common.errors import FailedPrecondition, InvalidArgument

PLAN: Final = "plan"
OPENED: Final = FieldChange("state", State.DRAFT.name, State.ACTIVE.name)
CLOSED: Final = FieldChange("state", State.ACTIVE.name, State.ARCHIVED.name)


class Versions:
    """Those of one plan. Each change is first carried out on values, by the plan's own rules.

    What is open, or will be, is compared with the entries in order. An entry that none of them says becomes the next
    version, or what the draft says if there is one.
    """

    def __init__(self, code: str, versions: Sequence[Plan], products: Mapping[ProductId, str], *, at: datetime) -> None:
        self.changes: list[Change] = []
        self._code = code
        self._at = at
        self._draft = next((each for each in versions if each.state is State.DRAFT), None)
        self._open = [each for each in versions if each.state is State.ACTIVE and not each.is_superseded(at)]
        self._found = 0  # so many of the open ones stand in the document, or before one that does
        self._last = max(versions, key=lambda each: each.version, default=None)
        self._says = {each.version: _said(plan_entry(each, products, at=at)) for each in versions}

    def make(self, entries: Sequence[Placed[PlanEntry]]) -> None:
        """Fails with Malformed where an entry asks for what cannot be."""
        for placed in _not_over(entries, at=self._at):
            try:
                self._make(placed)
            except (FailedPrecondition, InvalidArgument) as error:
                raise (placed.value.get("effective") or placed.value).fault(error.message) from None
        if any(placed.entry.state is State.ACTIVE for placed in entries):
            # What the document no longer says will not take effect.
            self._make_way()

    def archive(self, entry: PlanEntry | None = None) -> None:
        """Close all that is open or will be."""
        if self._open:
            closed = [each.archive() for each in self._open]
            self._note(Action.ARCHIVE, entry, CLOSED, ids=tuple(each.id for each in closed if each.id))
            self._open.clear()

    def _make(self, placed: Placed[PlanEntry]) -> None:
        entry = placed.entry
        match entry.state:
            case State.ACTIVE:
                if not self._is_open(entry):
                    self._make_way()
                    self._publish(self._write(entry), entry)
            case State.DRAFT:
                if self._draft is None and not self._found and self._open and self._same(self._open[-1], entry):
                    where = placed.value.get("state") or placed.value
                    raise where.fault(f"plan {self._code} says this already, and what is published is no draft again")
                self._write(entry)
            case State.ARCHIVED:
                if self._last is None or (self._last.version == 1 and self._draft is not None):
                    self._publish(self._write(entry), entry)
                self.archive(entry)

    def _is_open(self, entry: PlanEntry) -> bool:
        """Whether a version that is not compared yet says this, from the same time on."""
        for n, version in enumerate(self._open[self._found :], start=self._found + 1):
            if self._same(version, entry) and _effective_alike(version, entry, at=self._at):
                self._found = n
                return True
        return False

    def _make_way(self) -> None:
        """What was to take effect later and does not stand in the document would end what follows now."""
        for version in self._open[self._found :]:
            if version.takes_effect_after(self._at):
                version.archive()
                told = FieldChange("effective", instant(version.effective_time), "")
                self._note(Action.ARCHIVE, None, CLOSED, told, ids=(version.id,))
                self._open.remove(version)

    def _write(self, entry: PlanEntry) -> Plan:
        """The draft that says it."""
        terms = replace(entry.terms, prices=tuple(each.price for each in entry.prices))
        if self._draft is not None:
            if not self._same(self._draft, entry):
                self._note(Action.UPDATE, entry, *self._differences(self._draft, entry), ids=(self._draft.id,))
                self._draft = self._draft.rewrite(terms)
        elif self._last is None:
            self._draft = draft(PlanId(""), self._code, terms, at=self._at)
            self._note(Action.CREATE, entry)
        else:
            self._draft = draft(PlanId(""), self._code, terms, version=self._last.version + 1, at=self._at)
            self._note(Action.CREATE_VERSION, entry, *self._differences(self._last, entry))
        self._last = self._draft
        self._says[self._draft.version] = _said(entry)
        return self._draft

    def _publish(self, written: Plan, entry: PlanEntry) -> None:
        """An instant that has passed, as it does in a document that is kept, means at once."""
        later = entry.effective if entry.effective is not None and entry.effective > self._at else None
        before = self._open[-1] if self._open else None
        published = written.publish(at=self._at, effective_time=later, before=before)
        fields = [OPENED, FieldChange("effective", "", instant(later))] if later is not None else [OPENED]
        self._note(Action.PUBLISH, entry, *fields, ids=(written.id,) if written.id else ())
        self._draft = None
        self._last = published
        if before is not None and later is None:
            self._open.clear()
        self._open.append(published)
        self._found = len(self._open)

    def _same(self, version: Plan, entry: PlanEntry) -> bool:
        return self._says[version.version] == _said(entry)

    def _differences(self, version: Plan, entry: PlanEntry) -> Sequence[FieldChange]:
        return list(differences(self._says[version.version], _said(entry)))

    def _note(self, action: Action, entry: PlanEntry | None, *fields: FieldChange, ids: tuple[str, ...] = ()) -> None:
        self.changes.append(Change(action=action, resource=PLAN, code=self._code, fields=fields, entry=entry, ids=ids))


def _said(entry: PlanEntry) -> dict[str, Tree]:
    """What a version says, apart from where it is in its life."""
    tree = tree_of(entry)
    return {key: value for key, value in tree.items() if key not in ("state", "effective")}


def _effective_alike(version: Plan, entry: PlanEntry, *, at: datetime) -> bool:
    if version.takes_effect_after(at):
        return version.effective_time == entry.effective
    return entry.effective is None or entry.effective <= at


def _not_over(entries: Sequence[Placed[PlanEntry]], *, at: datetime) -> Sequence[Placed[PlanEntry]]:
    """A document that is kept may still tell what was open before the last one that has taken effect since."""
    begun = (n for n, each in enumerate(entries) if each.entry.effective is not None and each.entry.effective <= at)
    return entries[max(begun, default=0) :]
