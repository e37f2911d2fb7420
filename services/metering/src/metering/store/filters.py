"""Knows filters of usage events as paths of SQL/JSON, and as they are stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import null

from metering.domain.filter import DimensionMatch, EventFilter


def filter_path(filters: Iterable[EventFilter]) -> str | None:
    """What holds for the dimensions of the usage events that all of them let through; None when that is every one."""
    parts = [part for only in filters for part in _parts(only)]
    return " && ".join(parts) if parts else None


def filter_to_store(only: EventFilter) -> object:
    """NULL for one that lets all through."""
    if not only:
        return null()
    return {"match": _plain(only.match), "exclude": [_plain(exclusion) for exclusion in only.exclude]}


def stored_filter(told: Mapping[str, Any] | None) -> EventFilter:  # Any: as `filter_to_store` made it
    told = told or {}
    return EventFilter(
        match=_matches(told.get("match", ())),
        exclude=tuple(_matches(exclusion) for exclusion in told.get("exclude", ())),
    )


def _plain(matches: Iterable[DimensionMatch]) -> list[object]:
    return [{"dimension": match.dimension, "values": match.values} for match in matches]


def _matches(told: Iterable[Mapping[str, Any]]) -> tuple[DimensionMatch, ...]:  # Any: as above
    return tuple(DimensionMatch(dimension=each["dimension"], values=tuple(each["values"])) for each in told)


def _parts(only: EventFilter) -> Iterable[str]:
    yield from (_match(match) for match in only.match)
    # A comparison with what is not there is false, so an event that does not name the dimension is not excluded.
    yield from (f"!({' && '.join(map(_match, exclusion))})" for exclusion in only.exclude)


def _match(match: DimensionMatch) -> str:
    name = json.dumps(match.dimension)
    return f"({' || '.join(f'$.{name} == {json.dumps(value)}' for value in match.values)})"
