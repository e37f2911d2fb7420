"""Knows how filters of usage events look on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from common import wire
from metering.domain.filter import EVERYTHING, DimensionMatch, EventFilter
from metering.domain.usage_event import KEY_LENGTH_MAX
from saldo.metering.v1 import meter_pb2


def filter_to_proto(only: EventFilter) -> meter_pb2.EventFilter:
    return meter_pb2.EventFilter(
        match=[_match_to_proto(match) for match in only.match],
        exclude=[
            meter_pb2.EventExclusion(match=[_match_to_proto(match) for match in exclusion])
            for exclusion in only.exclude
        ],
    )


def filter_from_proto(pb: meter_pb2.EventFilter, *, field: str) -> EventFilter:
    if not pb.match and not pb.exclude:
        return EVERYTHING
    only = EventFilter(
        match=_matches(pb.match, field=f"{field}.match"),
        exclude=tuple(_matches(each.match, field=f"{field}.exclude[{n}].match") for n, each in enumerate(pb.exclude)),
    )
    only.check(field=field)
    return only


def _match_to_proto(match: DimensionMatch) -> meter_pb2.DimensionMatch:
    return meter_pb2.DimensionMatch(dimension=match.dimension, values=match.values)


def _matches(pbs: Iterable[meter_pb2.DimensionMatch], *, field: str) -> tuple[DimensionMatch, ...]:
    return tuple(
        DimensionMatch(
            dimension=pb.dimension,
            values=tuple(
                wire.text(value, field=f"{field}[{n}].values[{k}]", max_length=KEY_LENGTH_MAX)
                for k, value in enumerate(pb.values)
            ),
        )
        for n, pb in enumerate(pbs)
    )
