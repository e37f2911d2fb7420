"""Knows how features are stored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select

from catalog.domain.errors import FeatureCodeTaken
from catalog.domain.feature import Feature, FeatureId, Kind
from catalog.store.rows import inserted
from catalog.store.tables import features
from common.db import Tx


async def add_feature(tx: Tx, feature: Feature) -> None:
    values = {
        "seller_id": tx.seller_id,
        "id": feature.id,
        "code": feature.code,
        "display_name": feature.display_name,
        "kind": feature.kind.name,
        "meter": feature.meter,
        "unit_label": feature.unit_label,
        "create_time": feature.create_time,
    }
    if not await inserted(tx, features, values):
        raise FeatureCodeTaken(f"there is a feature {feature.code} already", code=feature.code)


async def features_by_code(tx: Tx, codes: Collection[str]) -> dict[str, Feature]:
    """Those that exist."""
    query = select(features).where(features.c.seller_id == tx.seller_id, features.c.code.in_(codes))
    return {row.code: _feature(row) for row in await tx.execute(query)}


async def list_features(tx: Tx, *, after: str, limit: int) -> list[Feature]:
    query = (
        select(features)
        .where(features.c.seller_id == tx.seller_id, features.c.id > after)
        .order_by(features.c.id)
        .limit(limit)
    )
    return [_feature(row) for row in await tx.execute(query)]


def _feature(row: Row[Any]) -> Feature:  # Any: a row of `features`
    return Feature(
        id=FeatureId(row.id),
        code=row.code,
        display_name=row.display_name,
        kind=Kind[row.kind],
        meter=row.meter,
        unit_label=row.unit_label,
        create_time=row.create_time,
    )
