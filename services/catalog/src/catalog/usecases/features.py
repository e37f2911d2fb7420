"""Creates features, and looks them up for those who entitle to them."""

from __future__ import annotations

from catalog import store
from catalog.convert import feature_to_proto
from catalog.domain.feature import Entitlement, Feature, FeatureId, Kind, check_fit
from common.db import Tx
from saldo.catalog.v1 import events_pb2 as events


async def create_feature(tx: Tx, *, code: str, display_name: str, kind: Kind, meter: str, unit_label: str) -> Feature:
    feature = Feature(
        id=FeatureId(tx.new_id("feat")),
        code=code,
        display_name=display_name,
        kind=kind,
        meter=meter,
        unit_label=unit_label,
        create_time=tx.now,
    )
    await store.add_feature(tx, feature)
    await tx.emit(events.FeatureCreated(feature=feature_to_proto(feature)))
    return feature


async def check_entitlements(tx: Tx, entitlements: tuple[Entitlement, ...]) -> None:
    if entitlements:
        features = await store.features_by_code(tx, {each.feature for each in entitlements})
        check_fit(entitlements, features, field="entitlements")
