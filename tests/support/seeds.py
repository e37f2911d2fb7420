"""Knows how often chance is tried: what one seed shows, further ones show once more with --thorough."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def seeds(*shown: Any, further: Iterable[Any] = ()) -> list[Any]:  # Any: what a test is tried with, and pytest's own
    return [*shown, *(pytest.param(each, marks=pytest.mark.thorough) for each in further)]
