"""A set of keys answers as one of Python's does, whatever it is asked in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.log.batch import as_keys
from metering.log.keyset import KeySet

# Few places in common, and few keys: they meet, wrap around at the end of the table, and one is a free place.
crowded = st.builds(
    lambda low, high: low.to_bytes(8, "little") + high.to_bytes(8, "little"),
    st.sampled_from([0, 1, 2, 14, 15, 16, 31, 2**32, 2**64 - 1]),
    st.integers(0, 3),
)
keys = st.one_of(crowded, st.binary(min_size=16, max_size=16))


@given(st.lists(st.lists(keys, max_size=60), max_size=8), st.lists(keys, max_size=30), st.integers(0, 40))
def test_it_is_a_set(added: Sequence[Sequence[bytes]], asked: Sequence[bytes], expected: int) -> None:
    """Also when keys meet in a call, are added twice, wrap around the end of the table, or make it grow."""
    found, model = KeySet(expected), set[bytes]()
    for each in added:
        fresh = found.add(as_keys(each))
        for key, is_new in zip(each, fresh.tolist(), strict=True):
            assert is_new == (_seen(key) not in model)
            model.add(_seen(key))
        assert len(found) == len(model)
    assert found.contains(as_keys(asked)).tolist() == [_seen(key) in model for key in asked]
    parts = [found.part(first, 7) for first in range(0, found.places, 7)]
    assert sorted(key.tobytes() for part in parts for key in part) == sorted(model)


@given(st.lists(keys, max_size=60), st.lists(keys, max_size=60))
def test_what_was_cleared_is_as_new(before: Sequence[bytes], added: Sequence[bytes]) -> None:
    """The set of a leaf that has its indexes is that of a later one."""
    cleared, new = KeySet(20), KeySet(20)
    cleared.add(as_keys(before))
    cleared.clear()
    assert len(cleared) == 0
    assert not cleared.contains(as_keys(before)).any()
    assert cleared.add(as_keys(added)).tolist() == new.add(as_keys(added)).tolist()
    assert len(cleared) == len(new)


@pytest.mark.parametrize("expected", [10, 100_000])
def test_many_keys_and_all_of_them_again(expected: int) -> None:
    """In groups as large as those of the log; expected or not."""
    random = np.random.default_rng(1)
    found = KeySet(expected)
    every = as_keys([random.bytes(16) for _ in range(100_000)])
    for first in range(0, len(every), 20_000):
        assert found.add(every[first : first + 20_000]).all()
    assert not found.add(every[::-1]).any()
    assert found.contains(every).all()
    assert not found.contains(as_keys([random.bytes(16) for _ in range(100_000)])).any()
    assert len(found) == len(every)


def _seen(key: bytes) -> bytes:
    """No key begins with zeros: it counts as one that begins with ones."""
    return key if any(key[:8]) else b"\xff" * 8 + key[8:]
