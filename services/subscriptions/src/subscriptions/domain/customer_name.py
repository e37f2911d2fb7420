"""Knows for which periods usage under a name is a customer's: at every moment a name is one customer's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerName:
    """A name beside the id. It counts for periods that begin in `[since, until)`; None is no bound."""

    key: str
    since: datetime | None = None
    until: datetime | None = None


def ordered(names: Iterable[CustomerName]) -> tuple[CustomerName, ...]:
    return tuple(sorted(names, key=lambda name: name.key))


def names_of(keys: Iterable[str], known: Sequence[CustomerName]) -> tuple[CustomerName, ...]:
    """One for every key; one of which nothing is known has always counted."""
    found = {name.key: name for name in known}
    return ordered(found.get(key, CustomerName(key=key)) for key in {*keys, *found} - {""})


def ended(names: Iterable[CustomerName], *, at: datetime) -> tuple[CustomerName, ...]:
    """As they are for who has had them until now. One that came at this very moment has counted for nothing."""
    return tuple(replace(name, until=at) for name in names if name.since is None or name.since < at)
