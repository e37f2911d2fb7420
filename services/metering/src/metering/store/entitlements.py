"""Knows how it is stored what customers are entitled to, as it was heard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from common.db import Tx
from common.period import Interval, Unit
from metering.domain.entitlement import Enabled, Entitlement, Feature, FeatureKind, Grant, Limit, Quota, Unlimited

UTC: Final = "UTC"
"""Of a customer of whose time zone nothing was heard."""

Json = dict[str, Any]  # Any: JSON of many shapes, one per grant


async def keep_feature(tx: Tx, feature: Feature) -> None:
    await tx.driver.execute(
        "INSERT INTO features (seller_id, code, kind, meter) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        tx.seller_id,
        feature.code,
        feature.kind.name,
        feature.meter,
    )


async def keep_entitlements(tx: Tx, customer_id: str, grants: Mapping[str, Sequence[Grant]], *, revision: int) -> None:
    """These, by feature, and no others; nothing when something newer was heard before."""
    stored = {feature: [_to_json(grant) for grant in granted] for feature, granted in grants.items()}
    await tx.driver.execute(_KEEP, tx.seller_id, customer_id, revision, json.dumps(stored))


async def entitlement(tx: Tx, customer_id: str, feature_code: str) -> Entitlement:
    """What was heard last, and be it nothing."""
    row = await tx.driver.fetchrow(_FOUND, tx.seller_id, customer_id, feature_code)
    assert row is not None, "what has no FROM has a row"
    return Entitlement(
        customer_id=customer_id,
        feature_code=feature_code,
        grants=tuple(_grant(each) for each in row["grants"] or ()),
        feature=(
            Feature(code=feature_code, kind=FeatureKind[row["kind"]], meter=row["meter"]) if row["kind"] else None
        ),
        names=tuple(sorted({customer_id, *row["names"]})),
        time_zone=row["time_zone"] or UTC,
        customer_is_known=row["customer_is_known"],
    )


_KEEP: Final = """
INSERT INTO customer_entitlements AS e (seller_id, customer_id, revision, grants) VALUES ($1, $2, $3, $4)
ON CONFLICT (seller_id, customer_id) DO UPDATE SET revision = excluded.revision, grants = excluded.grants
WHERE e.revision < excluded.revision
"""
_FOUND: Final = """
SELECT e.grants -> $3 AS grants, f.kind, f.meter, c.time_zone,
       (e.customer_id IS NOT NULL OR c.id IS NOT NULL) AS customer_is_known,
       ARRAY(SELECT n.name FROM customer_names n WHERE n.seller_id = $1 AND n.customer_id = $2) AS names
FROM (SELECT) AS one
LEFT JOIN customer_entitlements e ON e.seller_id = $1 AND e.customer_id = $2
LEFT JOIN features f ON f.seller_id = $1 AND f.code = $3
LEFT JOIN customers c ON c.seller_id = $1 AND c.id = $2
"""


# Decimals are text in JSON: a JSON number would be read as a float.
def _to_json(grant: Grant) -> Json:
    match grant:
        case Enabled(enabled):
            return {"enabled": enabled}
        case Limit(limit):
            return {"limit": f"{limit:f}"}
        case Quota(quota, interval):
            return {"quota": f"{quota:f}", "reset_unit": interval.unit.name, "reset_count": interval.count}
        case Unlimited():
            return {"unlimited": True}


def _grant(stored: Json) -> Grant:
    if "enabled" in stored:
        return Enabled(stored["enabled"])
    if "limit" in stored:
        return Limit(Decimal(stored["limit"]))
    if "quota" in stored:
        return Quota(Decimal(stored["quota"]), Interval(Unit[stored["reset_unit"]], stored["reset_count"]))
    return Unlimited()
