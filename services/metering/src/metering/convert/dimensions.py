"""Knows the dimensions that usage events are sent with: a map, or names and values in turn; and how a set is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping

from common import wire
from common.errors import InvalidArgument
from metering.domain.dimension import check_dimension_count, check_dimensions
from metering.domain.usage_event import KEY_LENGTH_MAX
from saldo.metering.v1.usage_event_pb2 import FlatEvent, UsageEvent


def row_dimensions(event: UsageEvent) -> Mapping[str, str]:
    check_dimension_count(len(event.dimensions), field="dimensions")
    return dict(event.dimensions)


def flat_dimensions(event: FlatEvent) -> Mapping[str, str]:
    check_dimension_count(len(event.dimensions) // 2, field="dimensions")
    names, values = event.dimensions[0::2], event.dimensions[1::2]
    if len(names) != len(values):
        raise InvalidArgument("must have a value for every name", field="dimensions")
    if len(set(names)) < len(names):
        raise InvalidArgument("must not name a dimension twice", field="dimensions")
    return dict(zip(names, values, strict=True))


def checked_dimensions(dimensions: Mapping[str, str]) -> dict[str, str]:
    """In order: of several faults the first is told, and a map has none of its own."""
    check_dimension_count(len(dimensions), field="dimensions")
    sent = dict(sorted(dimensions.items()))
    check_dimensions(sent, field="dimensions")
    for value in sent.values():
        wire.text(value, field="dimensions", max_length=KEY_LENGTH_MAX)
    return sent


def dimension_set(dimensions: Mapping[str, str]) -> str:
    """As JSON, which is what is stored."""
    return json.dumps(checked_dimensions(dimensions), ensure_ascii=False)
