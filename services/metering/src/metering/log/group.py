"""Knows what goes into one transaction: the batches of senders who wait, what became of each, and what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.pace import Stopwatch
from metering.log.backfills import Loaded
from metering.log.batch import Batch, KeyArray, Mask, Part
from metering.log.commits import Corrected, Ingest
from metering.log.names import Pairs


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch."""

    fresh: Mask | None
    """Which of its events were stored; None for all of them. The others had been before."""
    known: Sequence[bool]
    """Which of the events that were asked about had been before."""


@dataclass(slots=True)
class Waiting:
    """A sender that waits."""

    batch: Batch
    asked: Sequence[tuple[str, bytes]]
    """Sources and ids of events that cannot be stored, of which it is to be said whether they had been before."""
    done: asyncio.Future[Stored]
    since: Stopwatch


@dataclass(slots=True)
class Group:
    """What is written in one transaction, and who is told then what."""

    senders: list[Waiting] = field(default_factory=list)
    found: list[Stored] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    corrected: list[Corrected] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    loaded: dict[int, Loaded] = field(default_factory=dict)
    """By backfill."""
    lasts: dict[str, int] = field(default_factory=dict)
    """The last position of each seller."""
    ingests: list[Ingest] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(each.batch) for each in self.senders)


def new_of(waiting: Waiting, keys: KeyArray, stored: Stored) -> tuple[Part, Pairs, KeyArray]:
    """What of a batch is to be written: what had been before leaves nothing, not even a name."""
    places = np.arange(len(waiting.batch))
    if stored.fresh is not None:
        # Another correction was faster: of one that is not stored whole, nothing is.
        places = np.flatnonzero(stored.fresh) if waiting.batch.correction is None else places[:0]
    part = Part(waiting.batch, places)
    return part, Pairs.of(part), keys[places]


def shared_out(group: Sequence[Waiting], fresh: Mask, before: Mask) -> list[Stored]:
    """What was found out about all of a group, by its batches."""
    found: list[Stored] = []
    is_all_new = bool(fresh.all())
    own = asked = 0
    for each in group:
        own, first_own = own + len(each.batch), own
        asked, first_asked = asked + len(each.asked), asked
        part = fresh[first_own:own]
        found.append(Stored(None if is_all_new or part.all() else part, before[first_asked:asked].tolist()))
    return found
