"""Knows how a verdict is told: every invariant with what was checked, and the first that offend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.check.records import Records

OFFENDERS_MAX: Final = 5
"""Named per invariant; all are counted."""


@dataclass(slots=True)
class Tally:
    """Counts what holds and names what does not."""

    checked: int = 0
    offending: int = 0
    offenders: list[str] = field(default_factory=list)

    def check(self, holds: bool, offender: object) -> None:
        """`offender` is named if it does not hold: an id, and what about it."""
        self.checked += 1
        if not holds:
            self.offending += 1
            if len(self.offenders) < OFFENDERS_MAX:
                self.offenders.append(str(offender))

    @contextmanager
    def checking(self, offender: object) -> Iterator[None]:
        """What cannot even be computed offends too: a corrupted row must be named, not end the check."""
        try:
            yield
        except (ArithmeticError, KeyError, ValueError) as error:
            self.check(False, f"{offender}: {type(error).__name__} {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """Something that must hold, and the services whose data is needed to tell."""

    name: str
    needs: tuple[str, ...]
    verify: Callable[[Records, Tally], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one invariant. `checked` is None when the data of a service was not there."""

    name: str
    checked: int | None
    offending: int
    offenders: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.offending == 0


@dataclass(frozen=True, slots=True)
class Report:
    findings: Sequence[Finding]

    @property
    def content(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the invariants that do not hold."""
        return tuple(finding.name for finding in self.findings if not finding.holds)

    def __str__(self) -> str:
        if self.content:
            return f"all of {len(self.findings)} invariants hold"
        return "\n".join(
            f"{finding.name}: {finding.offending} of {finding.checked}: {'; '.join(finding.offenders)}"
            for finding in self.findings
            if not finding.holds
        )

    def print(self, console: Console) -> None:
        table = Table(title="Invariants", title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("")
        table.add_column("invariant")
        table.add_column("checked", justify="right")
        for finding in self.findings:
            if finding.checked is None:
                table.add_row("·", escape(finding.name), "no data", style="dim")
            elif finding.holds:
                table.add_row("[green]✓[/]", escape(finding.name), f"{finding.checked:,}")
            else:
                table.add_row(
                    "[red]✗[/]", f"[red]{escape(finding.name)}[/]", f"{finding.offending} of {finding.checked:,}"
                )
                for offender in finding.offenders:
                    table.add_row("", f"  [red]{escape(offender)}[/]", "")
        console.print(table)


def examine(invariant: Invariant, records: Records) -> Finding:
    if not all(records.has(service) for service in invariant.needs):
        return Finding(name=invariant.name, checked=None, offending=0, offenders=())
    tally = Tally()
    with tally.checking(invariant.name):
        invariant.verify(records, tally)
    return Finding(
        name=invariant.name, checked=tally.checked, offending=tally.offending, offenders=tuple(tally.offenders)
    )
