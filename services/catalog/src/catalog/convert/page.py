"""Knows how a list is answered in pages: where one begins, and how much one holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from common import ids, wire
from common.errors import InvalidArgument

PAGE_BYTES_MAX: Final = 3_000_000
"""What gRPC clients take unless told otherwise is four; a page may be shorter than was asked for (AIP-158)."""

MessageT = TypeVar("MessageT", bound=Message)


def place(page: wire.Page, prefix: str) -> str:
    """The id after which a page begins; empty for the first one. A place in another list is none in this one."""
    if not page.after:
        return ""
    try:
        return ids.check(page.after[0], prefix)
    except InvalidArgument:
        raise not_a_token() from None


def shown(found: Iterable[MessageT], size: int) -> list[MessageT]:
    """As many of the resources as were asked for and an answer can carry, but one at least if there is one."""
    page: list[MessageT] = []
    room = PAGE_BYTES_MAX
    for resource in found:
        room -= resource.ByteSize()
        if len(page) == size or (page and room < 0):
            break
        page.append(resource)
    return page


def not_a_token() -> InvalidArgument:
    return InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token")
