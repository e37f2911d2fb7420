"""A filter never misses a key, nor does one of the release before, and hardly ever suspects one that is new."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from metering.log.batch import KEY, KeyArray
from metering.log.memory import BITS_PER_KEY, BLOCK_BITS, Filter, Probes

KEYS: Final = 200_000
NEW: Final = 2_000_000
OF_ONE_BLOCK: Final = 1 / 11_000
OF_TWO_BLOCKS: Final = 1 / 200_000


def drawn(seed: int, count: int) -> KeyArray:
    return np.frombuffer(np.random.default_rng(seed).bytes(KEY.itemsize * count), dtype=KEY)


def known(of: Filter, keys: KeyArray) -> int:
    return int(np.count_nonzero(of.may_contain(keys, Probes.of(keys))))


def bits_of_one_block(keys: KeyArray, *, keys_max: int) -> bytes:
    """As the release before kept them."""
    words = np.zeros((2, keys_max * BITS_PER_KEY // BLOCK_BITS), dtype=np.uint64)
    probes = Probes.of(keys)
    place = ((probes.place * np.uint64(words.shape[1])) >> np.uint64(32)).astype(np.intp)
    np.bitwise_or.at(words[0], place, probes.first)
    np.bitwise_or.at(words[1], place, probes.second)
    return words.tobytes()


@pytest.fixture(scope="module")
def filled() -> Filter:
    found = Filter(KEYS)
    found.add(drawn(1, KEYS))
    return found


def test_no_key_is_missed(filled: Filter) -> None:
    """A repeat that no filter suspects would be counted twice. Nor by who knows only the first of two blocks, as the
    release before does, which may own the shard next.
    """
    keys = drawn(1, KEYS)
    kept = Filter(1, filled.bits())
    before = Filter(1, filled.bits(), blocks=1)
    assert known(filled, keys) == known(kept, keys) == known(before, keys) == KEYS


def test_no_key_is_missed_where_all_meet() -> None:
    """Keys of one call that have bits in the same word must not write over each other's."""
    crowded = Filter(8)
    crowded.add(drawn(4, 100))
    assert known(crowded, drawn(4, 100)) == 100


def test_what_was_kept_with_one_block_is_read_so() -> None:
    """The release before set no bits in the second one: looked for there, its keys would be missed."""
    keys = drawn(3, 1_000)
    kept = bits_of_one_block(keys, keys_max=KEYS)
    assert known(Filter(1, kept, blocks=1), keys) == len(keys)
    assert known(Filter(1, kept), keys) < len(keys) // 10


def test_new_keys_are_suspected_as_seldom_as_is_said(filled: Filter) -> None:
    """Each suspicion is a look into sixteen indexes: the share of them is what storing beside a hundred million events
    depends on. Expected are ten among two million, 180 with one block; chance may make it three times as many.
    """
    keys = drawn(2, NEW)
    suspected = known(filled, keys)
    assert suspected <= 3 * NEW * OF_TWO_BLOCKS
    of_one = known(Filter(1, filled.bits(), blocks=1), keys)
    assert of_one > NEW * OF_ONE_BLOCK > 5 * suspected
