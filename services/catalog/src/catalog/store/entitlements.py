"""Knows how the entitlements of a plan are stored as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from catalog.domain.feature import Enabled, Entitlement, Grant, Limit, Quota, Unlimited
from common.period import Interval, Unit


# Decimals are text in JSON: a JSON number would be read as a float.
def entitlements_to_json(entitlements: Iterable[Entitlement]) -> list[dict[str, object]]:
    return [_to_json(entitlement) for entitlement in entitlements]


def entitlements_from_json(stored: list[dict[str, Any]]) -> tuple[Entitlement, ...]:  # Any: JSON as it was written
    return tuple(_from_json(each) for each in stored)


def _to_json(entitlement: Entitlement) -> dict[str, object]:
    stored: dict[str, object] = {"feature": entitlement.feature}
    match entitlement.grant:
        case Enabled(enabled=enabled):
            stored["enabled"] = enabled
        case Limit(limit=limit):
            stored["limit"] = f"{limit:f}"
        case Quota(quota=quota):
            stored["quota"] = f"{quota:f}"
        case Unlimited():
            stored["unlimited"] = True
    if entitlement.reset_interval is not None:
        interval = entitlement.reset_interval
        stored["reset_interval"] = {"unit": interval.unit.name, "count": interval.count}
    return stored


def _from_json(stored: dict[str, Any]) -> Entitlement:  # Any: as above
    reset = stored.get("reset_interval")
    return Entitlement(
        feature=stored["feature"],
        grant=_grant(stored),
        reset_interval=Interval(Unit[reset["unit"]], reset["count"]) if reset else None,
    )


def _grant(stored: dict[str, Any]) -> Grant:  # Any: as above
    if "enabled" in stored:
        return Enabled(enabled=stored["enabled"])
    if "limit" in stored:
        return Limit(limit=Decimal(stored["limit"]))
    if "quota" in stored:
        return Quota(quota=Decimal(stored["quota"]))
    return Unlimited()
