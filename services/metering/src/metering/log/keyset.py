"""Knows a set of keys exactly, in one block of memory, and many of them at a time.

    keys, 16 random bytes each ─► place = their first bytes ─► taken? the next place ─► ... ─► the key itself, or free

An open hash table with linear probing (Knuth, The Art of Computer Programming 3, 6.4), in which all keys of a call are
looked for side by side: each round looks at one place for every key that is still undecided. A set of Python does the
same one by one; it stands still for a tenth of a second when it grows, and takes 110 bytes a key instead of 32 to 64.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from metering.log.batch import KEY, KeyArray, Mask

FREE_SHARE: Final = 2
"""A table has at least so many places a key."""

CLAIMS_PER_KEY: Final = 8
"""Of the keys of one call: so few of them meet by chance that another round costs nothing."""

FREE: Final = np.uint64(0)

Places = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


class KeySet:
    def __init__(self, keys_expected: int) -> None:
        """It takes more keys than expected, and stands still once while it doubles."""
        self._count = 0
        self._make(keys_expected)

    def __len__(self) -> int:
        return self._count

    def add(self, keys: KeyArray) -> Mask:
        """Which of the keys were new. Of several that are the same it is the first."""
        if (self._count + len(keys)) * FREE_SHARE > self.places:
            self._grow(self._count + len(keys))
        first, second = _words(keys)
        fresh = np.zeros(len(keys), dtype=np.bool_)
        left, place = np.arange(len(keys)), self._first_places(first)
        claims = np.empty(min(1 << (CLAIMS_PER_KEY * len(keys)).bit_length(), self.places), dtype=np.int32)
        while len(left):
            there = self._first[place]
            is_free = there == FREE
            # Of those that want the same free place one has it, and of those that are the same the first: what is
            # written last remains. Some want different ones and claim the same, which matters as little.
            wanted, by = place[is_free], left[is_free]
            claimed = wanted & (len(claims) - 1)
            claims[claimed[::-1]] = by[::-1]
            has_it = claims[claimed] == by
            place_of, chosen = wanted[has_it], by[has_it]
            fresh[chosen] = True
            self._first[place_of], self._second[place_of] = first[chosen], second[chosen]
            goes_on = ~(is_free | self._is_at(place, there, first[left], second[left]))
            # Who came too late looks at the same place again: what is there now may be the same key.
            undecided = goes_on.copy()
            undecided[is_free] = ~has_it
            left, place = left[undecided], (place[undecided] + goes_on[undecided]) & self._last
        self._count += int(np.count_nonzero(fresh))
        return fresh

    def contains(self, keys: KeyArray) -> Mask:
        first, second = _words(keys)
        found = np.zeros(len(keys), dtype=np.bool_)
        place = self._first_places(first)
        there = self._first[place]
        left = np.flatnonzero(there)
        place, there = place[left], there[left]
        while len(left):
            is_own = self._is_at(place, there, first[left], second[left])
            found[left[is_own]] = True
            place = (place + 1) & self._last
            there = self._first[place]
            goes_on = ~is_own & (there != FREE)
            left, place, there = left[goes_on], place[goes_on], there[goes_on]
        return found

    def clear(self) -> None:
        """Forget all keys, and have all of its memory: what is used for the first time the system fills with zeros
        then, which takes it as long as the key."""
        self._first.fill(FREE)
        self._second.fill(FREE)
        self._count = 0

    def part(self, first: int, size: int) -> KeyArray:
        """The keys in some of the places, of which there are `places`."""
        taken = first + np.flatnonzero(self._first[first : first + size])
        return np.column_stack([self._first[taken], self._second[taken]]).view(KEY)[:, 0].copy()

    @property
    def places(self) -> int:
        return len(self._first)

    @property
    def size_bytes(self) -> int:
        return self._first.nbytes + self._second.nbytes

    def _is_at(self, place: Places, there: Words, first: Words, second: Words) -> Mask:
        """Whether a key is what is at its place; hardly ever does more than half of it have to be looked at."""
        found: Mask = there == first
        if found.any():
            found[found] = self._second[place[found]] == second[found]
        return found

    def _make(self, keys: int) -> None:
        places = 1 << max(4, (keys * FREE_SHARE - 1).bit_length())
        # Half of each key apart: numpy gathers single words ten times as fast as pairs.
        self._first, self._second = zeros(places, np.uint64), zeros(places, np.uint64)
        self._last = places - 1

    def _grow(self, keys: int) -> None:
        before = self.part(0, self.places)
        self._make(keys)
        self._count = 0
        self.add(before)

    def _first_places(self, first: Words) -> Places:
        return (first & np.uint64(self._last)).astype(np.int64)


def zeros(size: int, kind: type[np.generic]) -> npt.NDArray[Any]:  # Any: of that kind
    """From the system, which fills a page when it is first used: what numpy reuses it fills at once, for 70 ms. In
    large pages, if it has them: who looks at random places finds those faster.
    """
    pages = mmap.mmap(-1, size * np.dtype(kind).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=kind)


def _words(keys: KeyArray) -> tuple[Words, Words]:
    words = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)
    first = words[:, 0]
    if not first.all():  # what begins like a free place; random keys do that once in 2**64 times
        first = np.where(first == FREE, ~FREE, first)
    return first, words[:, 1]
