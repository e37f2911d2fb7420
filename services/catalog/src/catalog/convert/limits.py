"""Knows how long texts for people may be, and how large what is announced."""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf.message import Message

from common.errors import InvalidArgument

NAME_LENGTH_MAX: Final = 200
TEXT_LENGTH_MAX: Final = 1000
UNIT_LABEL_LENGTH_MAX: Final = 32
ANNOUNCED_BYTES_MAX: Final = 1_000_000
"""An event carries its resource whole, and the bus carries nothing beyond a mebibyte."""

MessageT = TypeVar("MessageT", bound=Message)


def announceable(resource: MessageT, *, field: str) -> MessageT:
    """The resource, unless nobody could be told of it: its parts are bounded one by one, and not how many meet."""
    if resource.ByteSize() > ANNOUNCED_BYTES_MAX:
        raise InvalidArgument(f"must have at most {ANNOUNCED_BYTES_MAX} bytes in all", field=field)
    return resource
