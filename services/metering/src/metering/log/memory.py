"""Knows which events there have been: the recent ones exactly, all older ones by filters that never miss one.

keys of the leaves that are being written    sets, exact                                  about 34 bytes a key
keys of the leaves that have an index        one filter for every 16 leaves, by which     4 bytes a key
                                             about 1 of 200,000 new keys seems known
what a filter seems to know                  is looked up in the index of those leaves
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from metering.log.batch import KeyArray, Mask
from metering.log.keyset import KeySet, Places, zeros

BITS_PER_KEY: Final = 32
"""One of 200,000 keys that are new is looked for in the indexes of sixteen leaves. With bits in one block only it would
be one of 11,000, and beside 100 million events these looks would keep whoever writes waiting for the disk.
"""
BLOCK_BITS: Final = 128
BLOCKS: Final = 2
"""How many of them have bits of a key."""
LEAVES_PER_FILTER: Final = 16
BACKFILLED_KEYS: Final = 4_000_000
"""Backfills are small or large: as many as have so many keys together share a filter."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Probes:
    """Where in a filter some keys are looked for: a block, and some bits in either word of it."""

    place: Words
    first: Words
    second: Words

    @classmethod
    def of(cls, keys: KeyArray) -> Probes:
        """Four bits in each word."""
        high, low = _halves(keys)
        return cls(high >> np.uint64(32), _mask(low, 0, 4), _mask(low, 24, 4))

    @classmethod
    def elsewhere(cls, keys: KeyArray) -> Probes:
        """Two bits in each word of another block. A block in which chance put too many keys seems to have any: that two
        are like that is chance squared.
        """
        high, low = _halves(keys)
        mixed = (high ^ (low >> np.uint64(32))) * _MIX
        return cls(high & np.uint64(0xFFFF_FFFF), _mask(mixed, 40, 2), _mask(mixed, 52, 2))


def _halves(keys: KeyArray) -> tuple[Words, Words]:
    halves: Words = keys.view("<u8").reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def _mask(words: Words, start: int, count: int) -> Words:
    """Words with so many bits set, each as six bits say, from a place on."""
    mask = np.zeros(len(words), dtype=np.uint64)
    for bit in range(count):
        mask |= np.uint64(1) << ((words >> np.uint64(start + 6 * bit)) & np.uint64(63))
    return mask


class Filter:
    """A blocked Bloom filter for a number of keys (Putze, Sanders, Singler, Cache-, Hash- and Space-Efficient Bloom
    Filters, 2007), of two blocks a key: says of a key that it is not there, or that it may be.
    """

    def __init__(self, keys_max: int, bits: bytes | None = None, *, blocks: int = BLOCKS) -> None:
        """`bits` are those of a filter that was kept, of whatever size, with so many blocks a key."""
        # The two words of a block lie together: what costs is to fetch them. They are kept one after the other.
        self._words: Words = (
            zeros(2 * max(1, keys_max * BITS_PER_KEY // BLOCK_BITS), np.uint64)
            if bits is None
            else np.frombuffer(bits, dtype="<u8").reshape(2, -1).T.flatten()
        )
        self._size = np.uint64(len(self._words) // 2)
        self.blocks = blocks

    def add(self, keys: KeyArray) -> None:
        for probes in (Probes.of(keys), Probes.elsewhere(keys)):
            place = self._place(probes)
            self._set(place, probes.first)
            self._set(place + 1, probes.second)

    def may_contain(self, keys: KeyArray, probes: Probes) -> Mask:
        """`probes` are `Probes.of` the keys, for all filters in which they are looked for."""
        found = self._has(probes)
        if self.blocks > 1 and found.any():
            found[found] = self._has(Probes.elsewhere(keys[found]))
        return found

    def _has(self, probes: Probes) -> Mask:
        place = self._place(probes)
        found: Mask = (self._words[place] & probes.first) == probes.first
        if found.any():
            found &= (self._words[place + 1] & probes.second) == probes.second
        return found

    def _set(self, place: npt.NDArray[np.intp], bits: Words) -> None:
        """Of those that mean the same word one is heard, and the others say it again."""
        while len(place):
            self._words[place] |= bits
            is_lost = (self._words[place] & bits) != bits
            place, bits = place[is_lost], bits[is_lost]

    def bits(self) -> bytes:
        return self._words.reshape(-1, 2).T.astype("<u8").tobytes()

    @property
    def size_bytes(self) -> int:
        return self._words.nbytes

    def _place(self, probes: Probes) -> npt.NDArray[np.intp]:
        return 2 * ((probes.place * self._size) >> np.uint64(32)).astype(np.intp)


@dataclass(slots=True)
class Generation:
    """Sixteen leaves that share a filter; the last one may still have fewer."""

    number: int
    """Below 0 for one of backfills."""
    filter: Filter
    leaves: list[int] = field(default_factory=list)
    key_count: int = 0
    """Of one of backfills."""
    is_kept: bool = False
    """Whether its filter is stored, and stands for its keys."""

    @property
    def is_complete(self) -> bool:
        return len(self.leaves) >= LEAVES_PER_FILTER


@dataclass(slots=True)
class Memory:
    """What one shard remembers of its events."""

    leaf_rows: int
    recent: dict[int, KeySet] = field(default_factory=dict)
    """By leaf, the one that is being written last."""
    generations: list[Generation] = field(default_factory=list)
    backfills: dict[int, KeySet] = field(default_factory=dict)
    """Of those that are open, by number."""
    backfilled: list[Generation] = field(default_factory=list)
    """Of those that were closed."""
    spare: KeySet | None = None
    """Empty, for the next leaf."""

    def suspects(self, keys: KeyArray) -> dict[int, Places]:
        """Where among the keys those are that a filter seems to know, by the number of its generation."""
        if not (self.generations or self.backfilled) or not len(keys):
            return {}
        probes = Probes.of(keys)
        generations = (*self.generations, *self.backfilled)
        found = {each.number: np.flatnonzero(each.filter.may_contain(keys, probes)) for each in generations}
        return {number: places for number, places in found.items() if len(places)}

    def is_recent(self, keys: KeyArray) -> Mask:
        found = np.zeros(len(keys), dtype=np.bool_)
        for each in (*self.recent.values(), *self.backfills.values()):
            found |= each.contains(keys)
        return found

    def take(self, keys: KeyArray, *, known: Mask, backfill: int | None = None) -> Mask:
        """Remember keys, as those of the leaf that is being written, or of a backfill; which of them are new.

        `known` are those that stand in an index. Of several that are the same the first is new.
        """
        *older, newest = self.recent.values()
        others = [each for number, each in self.backfills.items() if number != backfill]
        if backfill is not None:
            older, newest = [*older, newest], self.backfills[backfill]
        before = known.copy()
        for each in (*older, *others):
            before |= each.contains(keys)
        if not before.any():
            return newest.add(keys)
        fresh = ~before
        fresh[fresh] = newest.add(keys[fresh])
        return fresh

    def generation_for(self, key_count: int) -> Generation:
        """The one that a backfill will belong to when it is closed."""
        newest = self.backfilled[-1] if self.backfilled else None
        if newest is not None and not newest.is_kept and newest.key_count + key_count <= BACKFILLED_KEYS:
            return newest
        return Generation(-len(self.backfilled) - 1, Filter(max(BACKFILLED_KEYS, key_count)))

    def join(self, generation: Generation, leaf: int, *, key_count: int) -> None:
        """That a backfill belongs to it from now on."""
        if not self.backfilled or self.backfilled[-1] is not generation:
            self.backfilled.append(generation)
        if leaf not in generation.leaves:
            generation.leaves.append(leaf)
        generation.key_count += key_count

    def begin_leaf(self, leaf: int) -> KeySet:
        """The keys of one that is going to be written."""
        self.recent[leaf] = found = KeySet(self.leaf_rows) if self.spare is None else self.spare
        self.spare = None
        return found

    def upcoming_generation(self) -> int:
        """To which the next leaf will belong that gets its index."""
        if not self.generations:
            return 0
        newest = self.generations[-1]
        return newest.number + 1 if newest.is_complete else newest.number

    def generation_of(self, leaf: int) -> Generation:
        """The one that a leaf belongs to from now on, which has got its index."""
        number = self.upcoming_generation()
        if not self.generations or self.generations[-1].number < number:
            self.generations.append(Generation(number, Filter(LEAVES_PER_FILTER * self.leaf_rows)))
        self.generations[-1].leaves.append(leaf)
        return self.generations[-1]

    @property
    def size_bytes(self) -> int:
        """What it takes, about."""
        sets = [*self.recent.values(), *self.backfills.values(), *([] if self.spare is None else [self.spare])]
        filters = [each.filter for each in (*self.generations, *self.backfilled)]
        return sum(each.size_bytes for each in sets) + sum(each.size_bytes for each in filters)


_MIX: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
PIECE_BYTES: Final = 4 << 20
"""In which pieces filters are read and written."""
