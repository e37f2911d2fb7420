"""Knows how a feature looks on the wire."""

from __future__ import annotations

from catalog.domain.feature import Feature
from common import wire
from saldo.catalog.v1 import product_pb2


def feature_to_proto(feature: Feature) -> product_pb2.Feature:
    return product_pb2.Feature(
        id=feature.id,
        code=feature.code,
        display_name=feature.display_name,
        kind=product_pb2.Feature.Kind.Value(feature.kind.name),
        meter=feature.meter,
        unit_label=feature.unit_label,
        create_time=wire.timestamp(feature.create_time),
    )
