"""Knows filters of usage events as paths of SQL/JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from metering.domain.filter import DimensionMatch, EventFilter


def filter_path(filters: Iterable[EventFilter]) -> str | None:
    """What holds for the dimensions of the usage events that all of them let through; None when that is every one."""
    parts = [part for only in filters for part in _parts(only)]
    return " && ".join(parts) if parts else None


def _parts(only: EventFilter) -> Iterable[str]:
    yield from (_match(match) for match in only.match)
    # A comparison with what is not there is false, so an event that does not name the dimension is not excluded.
    yield from (f"!({' && '.join(map(_match, exclusion))})" for exclusion in only.exclude)


def _match(match: DimensionMatch) -> str:
    name = json.dumps(match.dimension)
    return f"({' || '.join(f'$.{name} == {json.dumps(value)}' for value in match.values)})"
