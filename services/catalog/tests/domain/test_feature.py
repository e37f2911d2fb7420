"""What a plan may entitle to."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from catalog.domain.errors import FeatureNotFound
from catalog.domain.feature import (
    ENTITLEMENTS_MAX,
    Enabled,
    Entitlement,
    Feature,
    FeatureId,
    Grant,
    Kind,
    Limit,
    Quota,
    Unlimited,
    check_entitlements,
    check_fit,
    check_meter,
)
from common.errors import InvalidArgument
from common.period import Interval, Unit

MONTHLY = Interval(Unit.MONTH, 1)
ON = Enabled(enabled=True)
TEN = Limit(limit=Decimal(10))
THOUSAND = Quota(quota=Decimal(1000))


def feature(kind: Kind) -> Feature:
    return Feature(
        id=FeatureId("feat_1"),
        code="api",
        display_name="API",
        kind=kind,
        meter="calls" if kind is Kind.QUOTA else "",
        unit_label="",
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
    )


def entitlement(grant: Grant = ON, reset_interval: Interval | None = None, *, code: str = "api") -> Entitlement:
    return Entitlement(feature=code, grant=grant, reset_interval=reset_interval)


@pytest.mark.parametrize(
    ("kind", "grant", "reset_interval", "field"),
    [
        (Kind.SWITCH, ON, None, ""),
        (Kind.SWITCH, Enabled(enabled=False), None, ""),
        (Kind.SWITCH, TEN, None, "entitlements[0].grant"),
        (Kind.SWITCH, THOUSAND, MONTHLY, "entitlements[0].grant"),
        (Kind.SWITCH, Unlimited(), None, "entitlements[0].grant"),
        (Kind.SWITCH, ON, MONTHLY, "entitlements[0].reset_interval"),
        (Kind.LIMIT, TEN, None, ""),
        (Kind.LIMIT, Unlimited(), None, ""),
        (Kind.LIMIT, ON, None, "entitlements[0].grant"),
        (Kind.LIMIT, THOUSAND, None, "entitlements[0].grant"),
        (Kind.LIMIT, TEN, MONTHLY, "entitlements[0].reset_interval"),
        (Kind.QUOTA, THOUSAND, MONTHLY, ""),
        (Kind.QUOTA, Unlimited(), None, ""),
        (Kind.QUOTA, Unlimited(), MONTHLY, ""),
        (Kind.QUOTA, THOUSAND, None, "entitlements[0].reset_interval"),
        (Kind.QUOTA, TEN, None, "entitlements[0].grant"),
        (Kind.QUOTA, ON, None, "entitlements[0].grant"),
    ],
)
def test_a_grant_fits_its_feature(kind: Kind, grant: Grant, reset_interval: Interval | None, field: str) -> None:
    """What is asked at run time is either a yes or a number, and never the other."""
    entitlements = (entitlement(grant, reset_interval),)
    found = []
    try:
        check_fit(entitlements, {"api": feature(kind)}, field="entitlements")
    except InvalidArgument as error:
        found = [error.field]
    assert found == ([field] if field else [])


def test_what_does_not_exist_is_not_granted() -> None:
    """A misspelt code must not become an entitlement that nobody ever asks for."""
    with pytest.raises(FeatureNotFound):
        check_fit((entitlement(code="ipa"),), {"api": feature(Kind.SWITCH)}, field="entitlements")


def test_a_feature_is_granted_once() -> None:
    """Of two grants, which one holds would be anybody's guess; and their number has an end."""
    with pytest.raises(InvalidArgument):
        check_entitlements((entitlement(), entitlement(TEN)), field="entitlements")
    most = tuple(entitlement(code=f"f{n}") for n in range(ENTITLEMENTS_MAX))
    assert check_entitlements(most, field="entitlements") == most
    with pytest.raises(InvalidArgument):
        check_entitlements((*most, entitlement()), field="entitlements")


@pytest.mark.parametrize(
    ("kind", "meter", "sound"),
    [
        (Kind.QUOTA, "calls", True),
        (Kind.QUOTA, "", False),
        (Kind.SWITCH, "", True),
        (Kind.SWITCH, "calls", False),
        (Kind.LIMIT, "calls", False),
    ],
)
def test_only_a_quota_counts(kind: Kind, meter: str, sound: bool) -> None:
    """A limit is of what there is, a quota of what was used, which is what a meter knows."""
    found = []
    try:
        check_meter(kind, meter, field="meter")
    except InvalidArgument as error:
        found = [error.field]
    assert found == ([] if sound else ["meter"])
