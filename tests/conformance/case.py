"""Knows what a published case is, and whether an answer agrees with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self

Json = Mapping[str, Any]  # Any: the cases are JSON of many shapes; cases/README.md describes them

CASES: Final = Path(__file__).parent / "cases"


class Unsupported(Exception):
    """Saldo has nothing yet that a case could be put to; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    id: str
    situation: str
    given: Json
    expected: Json
    conventions: tuple[str, ...]
    alternatives: Mapping[str, Json]
    recommended: str

    @classmethod
    def parse(cls, line: str) -> Self:
        told = json.loads(line)
        return cls(
            id=told["id"],
            situation=told.get("situation", ""),
            given=told["input"],
            expected=told["expected"],
            conventions=tuple(told.get("convention", ())),
            alternatives=told.get("alternatives", {}),
            recommended=told.get("recommended", "expected"),
        )


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount as it is due, and as it was before it was rounded. Peers publish either."""

    due: Decimal
    exact: Decimal
    places: int
    """How many decimals the currency has."""


def check_fields(told: Json, known: frozenset[str]) -> None:
    """A field that nobody looked at is not ignored: what it says might change the figure."""
    if unknown := told.keys() - known:
        raise Unsupported(", ".join(sorted(unknown)))


Answer = Mapping[str, Any]  # Any: numbers, texts, lists and mappings, by the fields of `expected`


class Verdict(Enum):
    PASSED = "passed"
    OTHER_CONVENTION = "other_convention"
    UNSUPPORTED = "unsupported"
    WRONG = "wrong"


def load(file: Path) -> list[Case]:
    return [Case.parse(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def judge(case: Case, answer: Answer, *, any_convention: bool = False) -> Verdict:
    """By the reading that cases/README.md gives: the peer's figure, or the alternative that is allowed.

    `any_convention` is for a case that follows one that we do not: then it is among the alternatives that ours is.
    """
    if agrees(case.expected, answer):
        return Verdict.PASSED if case.recommended in ("expected", "either") else Verdict.WRONG
    allowed = case.alternatives if any_convention or case.recommended == "either" else [case.recommended]
    if any(name in case.alternatives and agrees(case.alternatives[name], answer) for name in allowed):
        return Verdict.OTHER_CONVENTION
    return Verdict.WRONG


def agrees(expected: Json, answer: Answer) -> bool:
    """Whether every figure that both have is the same, and there is one that both have."""
    shared = expected.keys() & answer.keys()
    return bool(shared) and all(_same(expected[key], answer[key]) for key in shared)


def _same(expected: Any, found: Any) -> bool:  # Any: as in Answer
    if isinstance(found, Amount):
        figure = _number(expected)
        if figure is None:
            return False
        exponent = figure.normalize().as_tuple().exponent
        assert isinstance(exponent, int), "a figure is finite"
        return figure == (found.due if -exponent <= found.places else found.exact)
    if isinstance(found, Mapping):
        return isinstance(expected, Mapping) and all(
            key in expected and _same(expected[key], each) for key, each in found.items()
        )
    if isinstance(found, list):
        return isinstance(expected, list) and len(expected) == len(found) and all(map(_same, expected, found))
    if isinstance(found, Decimal | int):
        return _number(expected) == found
    return bool(expected == found)


def _number(told: Any) -> Decimal | None:  # Any: as in Answer
    """None if it is none, or not a finite one."""
    try:
        number = Decimal(str(told))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
