"""Knows how to say what is wrong with a file: where, and why, as an editor or a compiler would."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

FAULTS_MAX: Final = 1_000
"""Kept per folder: whoever has more has one cause for them."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Lines and columns are counted from 1."""

    file: str
    line: int
    column: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.reason}"


class Malformed(Exception):
    """What was read is not what it should be; says all that was found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults)[:FAULTS_MAX]
        super().__init__("\n".join(map(str, self.faults)))
