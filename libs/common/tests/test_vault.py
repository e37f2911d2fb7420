"""What is sealed opens for whoever has the key, in the place where it was sealed, and for nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.vault import KEY_BYTES, MASTER_KEYS_MAX, DataKey, MasterKeyMissing, SealBroken, Vault, new_master_key

ADA, EVE = "sel_1/cus_1", "sel_1/cus_2"


def vault(*names: str) -> Vault:
    """Keys of the same name are the same keys, as on two replicas."""
    return Vault((name, name.encode().ljust(KEY_BYTES, b".")) for name in names)


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_and_says_nothing(plain: bytes) -> None:
    """The same text twice does not even look the same."""
    key, _ = vault("k1").new_key(subject=ADA)
    first, second = key.seal(plain, label="name"), key.seal(plain, label="name")
    assert key.open(first, label="name") == key.open(second, label="name") == plain
    assert first != second
    assert len(plain) < 4 or plain not in first


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_single_changed_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    """Wherever it is: in the text, its check, or what was drawn for it."""
    key, _ = vault("k1").new_key(subject=ADA)
    sealed = bytearray(key.seal(plain, label="name"))
    place = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(SealBroken):
        key.open(bytes(sealed), label="name")


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 12, b"x" * 27, b"x" * 28])
def test_what_is_no_seal_does_not_open(sealed: bytes) -> None:
    """An empty column, or one that was cut off."""
    key, _ = vault("k1").new_key(subject=ADA)
    with pytest.raises(SealBroken):
        key.open(sealed, label="name")


def test_what_is_sealed_for_one_place_opens_in_no_other() -> None:
    """Not in another column, and not for another subject, even with the same key."""
    made = vault("k1")
    key, wrapped = made.new_key(subject=ADA)
    sealed = key.seal(b"Ada", label="name")
    with pytest.raises(SealBroken):
        key.open(sealed, label="email")
    for other in (DataKey(b"x" * KEY_BYTES, subject=ADA), made.new_key(subject=ADA)[0]):
        with pytest.raises(SealBroken):
            other.open(sealed, label="name")
    raw = b"k" * KEY_BYTES
    with pytest.raises(SealBroken):
        DataKey(raw, subject=EVE).open(DataKey(raw, subject=ADA).seal(b"Ada", label="name"), label="name")
    with pytest.raises(SealBroken):
        made.unwrap(wrapped, subject=EVE)


def test_a_wrapped_key_is_the_same_key_after_a_rotation() -> None:
    """The data are not sealed anew: only their keys are wrapped anew."""
    key, wrapped = vault("old").new_key(subject=ADA)
    sealed = key.seal(b"Ada", label="name")
    both = vault("new", "old")
    assert (wrapped.master_key_id, both.current) == ("old", "new")
    assert both.unwrap(wrapped, subject=ADA).open(sealed, label="name") == b"Ada"
    rewrapped = both.rewrap(wrapped, subject=ADA)
    assert vault("new").unwrap(rewrapped, subject=ADA).open(sealed, label="name") == b"Ada"
    with pytest.raises(MasterKeyMissing):
        vault("new").unwrap(wrapped, subject=ADA)


def test_a_master_key_of_the_same_name_is_not_the_same_key() -> None:
    """Somebody made a new one and called it as the old: nothing opens, nothing is overwritten."""
    _, wrapped = vault("k1").new_key(subject=ADA)
    with pytest.raises(SealBroken):
        Vault([("k1", b"another".ljust(KEY_BYTES))]).unwrap(wrapped, subject=ADA)


def test_without_master_keys_nothing_is_sealed() -> None:
    """A service that was given none keeps no personal data."""
    with pytest.raises(MasterKeyMissing):
        Vault().new_key(subject=ADA)


def test_digests_tell_same_from_other_only_with_the_key() -> None:
    """Of one subject, for one purpose: nobody can try out all numbers, or find one person under two subjects."""
    raw = b"k" * KEY_BYTES
    key = DataKey(raw, subject=ADA)
    digest = key.digest(b"DK13585628", label="tax id")
    assert digest == DataKey(raw, subject=ADA).digest(b"DK13585628", label="tax id")
    others = [
        key.digest(b"DK13585629", label="tax id"),
        key.digest(b"DK13585628", label="phone"),
        DataKey(raw, subject=EVE).digest(b"DK13585628", label="tax id"),
        DataKey(b"x" * KEY_BYTES, subject=ADA).digest(b"DK13585628", label="tax id"),
    ]
    assert digest not in others
    assert len(set(others)) == len(others)


def test_master_keys_are_read_from_a_file_the_newest_first(tmp_path: Path) -> None:
    """As a mounted secret has them."""
    path = tmp_path / "keys"
    path.write_text(new_master_key("k2") + new_master_key("k1"))
    read = Vault.read(path)
    assert read.current == "k2"
    key, wrapped = read.new_key(subject=ADA)
    assert Vault.read(path).unwrap(wrapped, subject=ADA).open(key.seal(b"x", label="l"), label="l") == b"x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "k1",
        "k1:c2hvcnQ=\n",
        ":" + "A" * 43 + "=",
        "k 1:" + "A" * 43 + "=",
        "k1:" + "A" * 43 + "=\nk1:" + "B" * 43 + "=",
        "".join(f"k{n}:{'A' * 43}=\n" for n in range(MASTER_KEYS_MAX + 1)),
    ],
)
def test_a_file_that_says_something_else_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    """At the start, before anything is stored; and the message ends up in a log."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match="must have") as refused:
        Vault.read(path)
    assert "AAAA" not in str(refused.value)
    assert "c2hvcnQ" not in str(refused.value)
