"""Knows how personal data is kept: sealed under a key per subject, which a master key wraps. No key, no data.

Whatever is sealed says whose it is and what it is (its label): put in another place it does not open, and changed by
so much as a bit it does not open either. To delete a subject's key is to erase everything that was sealed under it,
wherever copies of it are, as long as there is no copy of the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
MASTER_KEYS_MAX: Final = 20

_LINE: Final = re.compile(r"(?P<id>[A-Za-z0-9._-]{1,64}):(?P<key>[A-Za-z0-9+/]{43}=)")
_SEPARATOR: Final = "\x1f"
_KEY: Final = "data key"


class MasterKeyMissing(Exception):
    """No master key of this id is configured, or none at all."""


class SealBroken(Exception):
    """What was sealed was changed, belongs somewhere else, or was sealed under another key."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is stored: of no use without the master key that wrapped it."""

    master_key_id: str
    sealed: bytes


class DataKey:
    """The key of one subject, in memory for as long as it takes."""

    __slots__ = ("_cipher", "_key", "_subject")

    def __init__(self, key: bytes, *, subject: str) -> None:
        self._key = key
        self._cipher = AESGCM(key)
        self._subject = subject

    def seal(self, plain: bytes, *, label: str) -> bytes:
        return _seal(self._cipher, plain, _place(self._subject, label))

    def open(self, sealed: bytes, *, label: str) -> bytes:
        """What was sealed; SealBroken unless it is whole, and this subject's, and of this label."""
        return _open(self._cipher, sealed, _place(self._subject, label))

    def digest(self, plain: bytes, *, label: str) -> bytes:
        """The same for the same text, and nothing that could be told or tried out without the key."""
        own = hmac.digest(self._key, _place(self._subject, f"digest of {label}"), hashlib.sha256)
        return hmac.digest(own, plain, hashlib.sha256)


class Vault:
    """The master keys of a service: the first wraps new data keys, the others open what they wrapped before."""

    def __init__(self, master_keys: Iterable[tuple[str, bytes]] = ()) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        for name, key in master_keys:
            if len(key) != KEY_BYTES or name in self._ciphers:
                raise ValueError(f"master key {name} must have {KEY_BYTES} bytes and be there once")
            self._ciphers[name] = AESGCM(key)

    @classmethod
    def read(cls, path: Path) -> Vault:
        """From a mounted secret: one `id:base64` a line, 32 bytes each, the newest first."""
        lines = path.read_text().split()
        matches = [_LINE.fullmatch(line) for line in lines]
        if not 1 <= len(lines) <= MASTER_KEYS_MAX or None in matches:
            # Not repeated here: what is wrong may be a key all the same.
            raise ValueError(f"{path} must have 1 to {MASTER_KEYS_MAX} lines like k1:base64 of {KEY_BYTES} bytes")
        return cls((match["id"], base64.b64decode(match["key"], validate=True)) for match in matches if match)

    @property
    def current(self) -> str:
        """The id of the master key that wraps new data keys."""
        if not self._ciphers:
            raise MasterKeyMissing("this service has no master key")
        return next(iter(self._ciphers))

    def new_key(self, *, subject: str) -> tuple[DataKey, WrappedKey]:
        key = secrets.token_bytes(KEY_BYTES)
        return DataKey(key, subject=subject), self._wrap(key, subject=subject)

    def unwrap(self, wrapped: WrappedKey, *, subject: str) -> DataKey:
        return DataKey(self._unwrapped(wrapped, subject=subject), subject=subject)

    def rewrap(self, wrapped: WrappedKey, *, subject: str) -> WrappedKey:
        """The same data key under the current master key."""
        return self._wrap(self._unwrapped(wrapped, subject=subject), subject=subject)

    def _wrap(self, key: bytes, *, subject: str) -> WrappedKey:
        return WrappedKey(self.current, _seal(self._ciphers[self.current], key, _place(subject, _KEY)))

    def _unwrapped(self, wrapped: WrappedKey, *, subject: str) -> bytes:
        cipher = self._ciphers.get(wrapped.master_key_id)
        if cipher is None:
            raise MasterKeyMissing(f"there is no master key {wrapped.master_key_id}")
        return _open(cipher, wrapped.sealed, _place(subject, _KEY))


def new_master_key(name: str) -> str:
    """A line of the file that `Vault.read` reads."""
    return f"{name}:{binascii.b2a_base64(secrets.token_bytes(KEY_BYTES), newline=False).decode()}\n"


def _place(subject: str, label: str) -> bytes:
    return f"{subject}{_SEPARATOR}{label}".encode()


def _seal(cipher: AESGCM, plain: bytes, place: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, place)


def _open(cipher: AESGCM, sealed: bytes, place: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as error:
        raise SealBroken("what was sealed does not open") from error
