"""Knows what usage can be told apart by: dimensions, each a name and, in a usage event, a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from common.errors import InvalidArgument

DIMENSIONS_MAX: Final = 16
"""That one usage event may name."""
GROUP_BY_MAX: Final = 2
"""Dimensions at once: a price that tells more apart could not be read by anybody."""
NO_DIMENSIONS: Final[Mapping[str, str]] = {}
"""What most usage events name."""

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


def check_dimensions(names: Collection[str], *, field: str) -> None:
    """What a usage event may name."""
    check_dimension_count(len(names), field=field)
    for name in names:
        check_dimension(name, field=field)


def check_dimension_count(count: int, *, field: str) -> None:
    """Before they are looked at: there may be a million of them."""
    if count > DIMENSIONS_MAX:
        raise InvalidArgument(f"must have at most {DIMENSIONS_MAX} names", field=field)


def check_group_by(names: Collection[str], *, field: str) -> None:
    """What a usage may be told apart by."""
    if not names:
        return
    if len(names) > GROUP_BY_MAX:
        raise InvalidArgument(f"must have at most {GROUP_BY_MAX} dimensions", field=field)
    if len(set(names)) < len(names):
        raise InvalidArgument("must not name a dimension twice", field=field)
    for name in names:
        check_dimension(name, field=field)


def check_dimension(name: str, *, field: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument("must be named by 1 to 64 of a-z, 0-9, _ and -", field=field)
