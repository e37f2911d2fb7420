"""Knows what an id looks like: a TypeID, the kind of thing and a UUIDv7 in one readable word.

    inv_01h455vb4pex5vsknk084sn02q
    prefix   26 characters of Crockford base32, the first ten or so of which are the instant

Ids of one instant sort in the order in which this process minted them, so the lines of an invoice keep
their order. What has to get the same id again, should it ever be made again, has it derived from what it is.
A seller's id also says what the seller is: `sel_…` is live, `sel_sandbox_…` has its own
simulated time.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NewType

from common.errors import InvalidArgument

SellerId = NewType("SellerId", str)

SELLER: Final = "sel"
SANDBOX: Final = "sel_sandbox"
NTH_MAX: Final = 65_535


def mint(prefix: str, at: datetime) -> str:
    """A new id whose embedded instant is `at`, to the millisecond."""
    sequence = next(_sequence) & _ones(_SEQUENCE_BITS)
    return _written(prefix, at, sequence << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def derived(prefix: str, at: datetime, parts: Iterable[str], *, nth: int = 0) -> str:
    """The id of what has these parts, the same whenever and wherever it is asked for; its instant is `at`.

    Of several with the same parts and instant, those with a greater `nth` sort later.
    """
    if not 0 <= nth <= NTH_MAX:
        raise ValueError(f"{nth} is not from 0 to {NTH_MAX}")
    # Each with its length: no two lists of parts run together into one text.
    told = "".join(f"{len(part)}:{part}" for part in (prefix, *parts))
    digest = hashlib.sha256(told.encode()).digest()
    return _written(prefix, at, nth << _DIGEST_BITS | int.from_bytes(digest[:8]) & _ones(_DIGEST_BITS))


def check(text: str, prefix: str, *, field: str = "id") -> str:
    """`text` itself if it is an id of this prefix."""
    match = _TYPEID.fullmatch(text)
    if match is None or match["prefix"] != prefix:
        raise InvalidArgument(f"must be an id like {prefix}_01h455vb4pex5vsknk084sn02q", field=field)
    return text


def check_seller(text: str, *, field: str = "seller") -> SellerId:
    """The id of a seller, live or sandbox. A sandbox's must embed an instant: its clock begins there."""
    check(text, SANDBOX if is_sandbox(text) else SELLER, field=field)
    if is_sandbox(text):
        instant_of(text, field=field)
    return SellerId(text)


def is_sandbox(seller_id: str) -> bool:
    return seller_id.startswith(f"{SANDBOX}_")


def prefix_of(text: str, *, field: str = "id") -> str:
    return _parse(text, field)["prefix"]


def instant_of(text: str, *, field: str = "id") -> datetime:
    """The instant at which the id was minted. Ids that are not UUIDv7 have none."""
    number = decode(_parse(text, field)["suffix"])
    if number >> 76 & 0xF != 0x7 or number >> 62 & 0b11 != 0b10:
        raise InvalidArgument("must be an id that embeds an instant (UUIDv7)", field=field)
    try:
        return _EPOCH + (number >> 80) * _MILLISECOND
    except OverflowError:
        raise InvalidArgument("embeds an instant after the year 9999", field=field) from None


def encode(number: int) -> str:
    """128 bits as 26 characters."""
    return "".join([_PAIRS[number >> shift & 0x3FF] for shift in _SHIFTS])


def decode(suffix: str) -> int:
    """26 characters as 128 bits; the caller has checked them."""
    return int(suffix.translate(_PYTHON_DIGITS), 32)


def _written(prefix: str, at: datetime, tail: int) -> str:
    _check_prefix(prefix)
    number = 0x7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & _ones(62)
    return f"{prefix}_{_digits_of(at)}{''.join([_PAIRS[number >> shift & 0x3FF] for shift in _TAIL_SHIFTS])}"


@functools.lru_cache(maxsize=100)
def _digits_of(at: datetime) -> str:
    """The ten characters that are the instant, in which whatever is made in one transaction begins alike."""
    if at.tzinfo is None:
        raise ValueError("an id is minted at an instant, which has a time zone")
    milliseconds = (at - _EPOCH) // _MILLISECOND
    if milliseconds < 0:
        raise ValueError(f"{at.isoformat()} is before 1970, which an id cannot hold")
    return encode(milliseconds << 80)[:_INSTANT_DIGITS]


@functools.lru_cache(maxsize=1_000)
def _check_prefix(prefix: str) -> None:
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is not a TypeID prefix")


def _parse(text: str, field: str) -> re.Match[str]:
    match = _TYPEID.fullmatch(text)
    if match is None:
        raise InvalidArgument("must be an id like inv_01h455vb4pex5vsknk084sn02q", field=field)
    return match


def _ones(bits: int) -> int:
    return (1 << bits) - 1


_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: very many ids are made.
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS: Final = tuple(range(120, -1, -10))
_INSTANT_DIGITS: Final = 10
_TAIL_SHIFTS: Final = _SHIFTS[_INSTANT_DIGITS // 2 :]
_PYTHON_DIGITS: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_PREFIX: Final = re.compile(r"[a-z](?:[a-z_]{0,61}[a-z])?")
# 26 characters carry 130 bits, so the first one is at most 7.
_TYPEID: Final = re.compile(rf"(?P<prefix>{_PREFIX.pattern})_(?P<suffix>[0-7][{_ALPHABET}]{{25}})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

# A UUIDv7 has 74 bits besides its instant. The high ones count what this process mints, from a random
# start, which keeps order even when the clocks of several sandboxes stand still; the low ones are random,
# which keeps processes apart.
_SEQUENCE_BITS: Final = 34
_RANDOM_BITS: Final = 40
_DIGEST_BITS: Final = _SEQUENCE_BITS + _RANDOM_BITS - NTH_MAX.bit_length()
_sequence: Final = itertools.count(secrets.randbits(_SEQUENCE_BITS - 1))
