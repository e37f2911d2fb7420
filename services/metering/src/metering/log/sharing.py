"""Knows how shards are divided among replicas: each decides for itself, from what all see, and comes to the same.

free       falls at once to who has the fewest; to anybody when that one does not take it
owned      stays where it is, until one replica has two more than another for a while: then it gives one up, and waits
           until that has found its owner

Two that decide from different sights may want the same shard: then the lock decides. Nothing here makes anything sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SHARDS_MAX: Final = 64
GRACE_SECONDS: Final = 3.0
"""For so long a free shard is left to the replica that it falls to."""
SETTLED_SECONDS: Final = 10.0
"""Nothing is given up until the replicas have been the same for so long."""
STEP_SECONDS: Final = 1.0
"""Between giving up one and the next."""
CONTENT_SECONDS: Final = 300.0
"""For so long nothing is given up by who had to take what another one had left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there was at one look."""

    shards: frozenset[int]
    replicas: frozenset[int]
    """Those that take shards."""
    owners: Mapping[int, int | None]
    """The replica that owns a shard; None for one of which only that is known. A shard that is not here is free."""

    def free(self, shards: frozenset[int]) -> list[int]:
        return sorted((self.shards | shards) - self.owners.keys())

    def counts(self) -> dict[int, int]:
        """How many shards each replica owns."""
        found = dict.fromkeys(sorted(self.replicas), 0)
        for owner in self.owners.values():
            if owner in found:
                found[owner] += 1
        return found


def falls_to(replica: int, seen: Seen, free: Sequence[int]) -> list[int]:
    """Those of the free shards that are a replica's to take."""
    counts = seen.counts()
    taken: list[int] = []
    for shard in free if counts else ():
        next_one = min(counts, key=lambda each: (counts[each], each))
        counts[next_one] += 1
        if next_one == replica:
            taken.append(shard)
    return taken


def has_too_many(replica: int, seen: Seen) -> bool:
    """Whether it is this replica that is to give one up: of those with the most, the first."""
    counts = seen.counts()
    if replica not in counts:
        return False
    most = max(counts.values())
    return most - min(counts.values()) >= 2 and replica == min(each for each, count in counts.items() if count == most)


class Sharing:
    """What one replica has seen, look by look."""

    def __init__(self, replica: int, *, shards: int) -> None:
        """`shards` are so many as there are to be, whether or not anybody has seen them yet."""
        self._replica = replica
        self._shards = frozenset(range(shards))
        self._replicas: frozenset[int] = frozenset()
        self._changed_time = 0.0
        self._free_since: dict[int, float] = {}
        self._next_giving = 0.0
        self._is_free = True

    def take(self, seen: Seen, *, now: float) -> list[int]:
        """The shards to take, by a look at this moment."""
        if seen.replicas != self._replicas:
            self._replicas, self._changed_time = seen.replicas, now
        free = seen.free(self._shards)
        self._is_free = bool(free)
        self._free_since = {shard: self._free_since.get(shard, now) for shard in free}
        own = falls_to(self._replica, seen, free)
        left = [shard for shard in free if shard not in own and now - self._free_since[shard] >= GRACE_SECONDS]
        if left:
            self._next_giving = now + CONTENT_SECONDS
        return own + left

    def is_to_give(self, seen: Seen, *, now: float) -> bool:
        """Whether to give a shard up, by the look from which was taken before."""
        if self._is_free or now < self._next_giving or now - self._changed_time < SETTLED_SECONDS:
            return False
        if not has_too_many(self._replica, seen):
            return False
        self._next_giving = now + STEP_SECONDS
        return True
