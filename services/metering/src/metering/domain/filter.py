"""Knows which usage events are counted: by the values they name for dimensions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from common.errors import InvalidArgument
from metering.domain.dimension import check_dimension

MATCHES_MAX: Final = 16
EXCLUSIONS_MAX: Final = 16
VALUES_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DimensionMatch:
    """Holds for a usage event that names one of the values; never for one that does not name the dimension."""

    dimension: str
    values: tuple[str, ...]

    def check(self, *, field: str) -> None:
        check_dimension(self.dimension, field=f"{field}.dimension")
        if not 1 <= len(self.values) <= VALUES_MAX:
            raise InvalidArgument(f"must have 1 to {VALUES_MAX} values", field=f"{field}.values")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    match: tuple[DimensionMatch, ...] = ()
    """All of which hold."""
    exclude: tuple[tuple[DimensionMatch, ...], ...] = ()
    """None of which holds; one holds when all its parts do."""

    def __bool__(self) -> bool:
        """Whether there is any event that it does not let through."""
        return bool(self.match or self.exclude)

    def check(self, *, field: str) -> None:
        _check_matches(self.match, field=f"{field}.match")
        if len(self.exclude) > EXCLUSIONS_MAX:
            raise InvalidArgument(f"must have at most {EXCLUSIONS_MAX} exclusions", field=f"{field}.exclude")
        for n, exclusion in enumerate(self.exclude):
            if not exclusion:
                raise InvalidArgument(
                    "must have a part: without any it would hold for all", field=f"{field}.exclude[{n}]"
                )
            _check_matches(exclusion, field=f"{field}.exclude[{n}].match")


def _check_matches(matches: Collection[DimensionMatch], *, field: str) -> None:
    if len(matches) > MATCHES_MAX:
        raise InvalidArgument(f"must have at most {MATCHES_MAX} dimensions", field=field)
    for n, match in enumerate(matches):
        match.check(field=f"{field}[{n}]")


EVERYTHING: Final = EventFilter()
"""Lets all events through."""
