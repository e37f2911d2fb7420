"""Knows what a caller may keep with a customer that means nothing here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from common.errors import InvalidArgument

CUSTOM_FIELDS_MAX: Final = 50
VALUE_LENGTH_MAX: Final = 500


def check_custom_fields(fields: Mapping[str, str]) -> None:
    if len(fields) > CUSTOM_FIELDS_MAX:
        raise InvalidArgument(f"must be at most {CUSTOM_FIELDS_MAX}", field="custom_fields")
    for key in sorted(fields):
        if not _KEY.fullmatch(key):
            # The key itself is not repeated: it is what is wrong, and may be anything.
            raise InvalidArgument("must have keys of 1 to 40 of a-z, 0-9 and _", field="custom_fields")


_KEY: Final = re.compile(r"[a-z0-9_]{1,40}")
