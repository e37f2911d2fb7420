"""Whoever comes and goes, every shard finds one owner, and in the end nobody has two more than another."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

import pytest

from metering.log.sellers import shard_for
from metering.log.sharing import (
    CONTENT_SECONDS,
    GRACE_SECONDS,
    SETTLED_SECONDS,
    SHARDS_MAX,
    STEP_SECONDS,
    Seen,
    Sharing,
    falls_to,
    has_too_many,
)

LOOK: Final = 0.25


class Town:
    """Replicas that look at their own times, and a lock for each shard."""

    def __init__(self, chance: random.Random, *, shards: int) -> None:
        self.shards = shards
        self.owners: dict[int, int | None] = {}
        self.replicas: dict[int, Sharing] = {}
        self.time = 0.0
        self.moves = 0
        self._chance = chance

    def come(self, replica: int) -> None:
        self.replicas[replica] = Sharing(replica, shards=self.shards)

    def go(self, replica: int) -> None:
        del self.replicas[replica]
        self.owners = {shard: owner for shard, owner in self.owners.items() if owner != replica}

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK)):
            self.time += LOOK
            # What some of them see is what was there before the others did anything.
            seen = self.seen()
            for replica in self._chance.sample(sorted(self.replicas), len(self.replicas)):
                if self._chance.random() < 0.5:
                    seen = self.seen()
                self._look(replica, seen)

    def seen(self) -> Seen:
        return Seen(shards=frozenset(), replicas=frozenset(self.replicas), owners=dict(self.owners))

    def _look(self, replica: int, seen: Seen) -> None:
        sharing = self.replicas[replica]
        for shard in sharing.take(seen, now=self.time):
            self.owners.setdefault(shard, replica)
        if sharing.is_to_give(seen, now=self.time):
            self.moves += 1
            del self.owners[max(shard for shard, owner in self.owners.items() if owner == replica)]

    def counts(self) -> list[int]:
        found = Counter(self.owners.values())
        return sorted(found[replica] for replica in self.replicas)


@pytest.mark.parametrize("seed", range(8))
def test_shards_are_spread_whoever_comes_and_goes(seed: int) -> None:
    """Within seconds nothing is without an owner, and within a while all have as many; then nothing moves any more."""
    chance = random.Random(seed)
    town = Town(chance, shards=chance.choice((1, 2, 3, 4, 7, 16)))
    town.come(chance.randrange(1_000))
    for _ in range(12):
        if len(town.replicas) < 2 or (len(town.replicas) < 5 and chance.random() < 0.5):
            town.come(chance.randrange(1_000, 2**31))
        else:
            town.go(chance.choice(sorted(town.replicas)))
        town.pass_time(2 * LOOK)
        assert sorted(town.owners) == [*range(town.shards)], "somebody has to take what was left at once"
        town.pass_time(SETTLED_SECONDS + (STEP_SECONDS + 3 * LOOK) * town.shards)
        counts = town.counts()
        assert sum(counts) == town.shards
        assert max(counts) - min(counts) <= 1
        before, moves = dict(town.owners), town.moves
        town.pass_time(30)
        assert (town.owners, town.moves) == (before, moves)


def test_what_one_does_not_take_another_does() -> None:
    """It is there and cannot: nobody is left without a shard for long, and it is not offered again at once."""
    able = Sharing(7, shards=2)
    owners: dict[int, int | None] = {0: 7}
    seen = Seen(shards=frozenset(), replicas=frozenset({7, 8}), owners=owners)
    assert able.take(seen, now=100) == []
    assert able.take(seen, now=100 + GRACE_SECONDS - 0.1) == []
    assert able.take(seen, now=100 + GRACE_SECONDS) == [1]
    owners[1] = 7
    taken = 100 + GRACE_SECONDS
    assert able.take(seen, now=taken + SETTLED_SECONDS) == []
    assert not able.is_to_give(seen, now=taken + SETTLED_SECONDS)
    assert able.is_to_give(seen, now=taken + CONTENT_SECONDS)


def test_nothing_is_given_up_while_anything_has_no_owner_or_replicas_come_and_go() -> None:
    """Shards on the move are out of service for a moment: one at a time, and never for somebody who is gone again."""
    sharing = Sharing(7, shards=4)
    full = Seen(shards=frozenset(), replicas=frozenset({7, 8}), owners=dict.fromkeys(range(4), 7))
    sharing.take(full, now=0)
    assert not sharing.is_to_give(full, now=SETTLED_SECONDS - 0.1)
    lacking = Seen(shards=frozenset(), replicas=full.replicas, owners=dict.fromkeys(range(3), 7))
    sharing.take(lacking, now=SETTLED_SECONDS)
    assert not sharing.is_to_give(lacking, now=SETTLED_SECONDS)
    sharing.take(full, now=SETTLED_SECONDS)
    assert sharing.is_to_give(full, now=SETTLED_SECONDS)
    assert not sharing.is_to_give(full, now=SETTLED_SECONDS + STEP_SECONDS / 2)
    other = Seen(shards=frozenset(), replicas=frozenset({7, 8, 9}), owners=full.owners)
    sharing.take(other, now=SETTLED_SECONDS + 2 * STEP_SECONDS)
    assert not sharing.is_to_give(other, now=SETTLED_SECONDS + 2 * STEP_SECONDS)


def test_an_owner_of_whom_only_that_is_known() -> None:
    """A replica of the release before has the lock of its shard and no number: that one is not free."""
    seen = Seen(shards=frozenset({0, 1, 2}), replicas=frozenset({7, 8}), owners={0: None})
    assert seen.free(frozenset()) == [1, 2]
    assert (falls_to(7, seen, [1, 2]), falls_to(8, seen, [1, 2])) == ([1], [2])
    assert not has_too_many(7, seen)
    assert falls_to(9, seen, [1, 2]) == [], "who is not seen by the others takes nothing"


def test_shards_that_have_sellers_are_owned_however_few_are_set() -> None:
    """The setting says where new sellers go, and never that somebody's events are not taken any more."""
    seen = Seen(shards=frozenset({0, 5}), replicas=frozenset({7}), owners={})
    assert Sharing(7, shards=1).take(seen, now=0) == [0, 5]
    assert Sharing(7, shards=3).take(seen, now=0) == [0, 1, 2, 5]


def test_new_sellers_are_spread_evenly() -> None:
    """By nothing but their ids: every replica comes to the same."""
    for shards in (1, 2, 3, SHARDS_MAX):
        found = Counter(shard_for(f"sel_{n}", shards=shards) for n in range(100 * shards))
        assert sorted(found) == [*range(shards)]
        assert max(found.values()) < 160
