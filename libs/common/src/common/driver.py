"""Knows what need not be asked of PostgreSQL on every connection: what its own types are made of.

The driver asks on each connection when it meets an array, say, of numbers, and the question is larger than most of
ours: for a connection that lives for a moment it is the greater part of what it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

PINNED_OIDS_END: Final = 10_000
"""Types with lower numbers have them from PostgreSQL's source, in every database and every version."""

ANSWERS_MAX: Final = 256

TypeRows = Sequence[asyncpg.Record]


class _NothingAsked(NamedTuple):
    """Stands for the statement of a question: by its name the driver knows that its own is still prepared."""

    name: str = "nothing asked"


_answers: dict[frozenset[int], TypeRows] = {}


class Connection(asyncpg.Connection):
    """The driver's, but what one connection has learned about the types of PostgreSQL itself, all of them know."""

    async def _introspect_types(
        self, typeoids: set[int], timeout: float | None
    ) -> tuple[TypeRows, Any]:  # Any: the driver's statement, or what stands for it
        asked = frozenset(typeoids)
        if asked in _answers:
            return _answers[asked], _NothingAsked()
        found: tuple[TypeRows, Any]  # Any: as above
        found = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc] # not in the driver's stubs
        rows, _ = found
        if len(_answers) < ANSWERS_MAX and all(row["oid"] < PINNED_OIDS_END for row in rows):
            _answers[asked] = rows
        return found
