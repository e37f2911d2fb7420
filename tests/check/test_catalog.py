"""What the checker says of plans: all that can be sold, and versions that contradict one another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import json_format

from common import clock, ids, wire
from common.testing import SANDBOX_START, Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, price_pb2, product_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tools.check.catalog import INVARIANTS, one_version_at_a_time
from tools.check.records import Records, Row, Sources, read_records
from tools.check.report import Tally

CUSTOMER = ids.mint("cus", SANDBOX_START)
EVERYTHING: dict[str, dict[str, Any]] = {  # Any: JSON
    "flat": {"flat": {"amount": {"value": "49"}}},
    "free": {"flat": {"amount": {"value": "0"}}},
    "unit": {
        "per_unit": {"unit_price": {"value": "0.000000000000000001"}},
        "unit_conversion": {"divide_by": {"value": "1000"}, "rounding": "UP", "decimals": -2},
        "free_units": {"value": "10.0"},
        "discount_percent": {"value": "12.5"},
        "minimum_amount": {"value": "5"},
        "maximum_amount": {"value": "500.50"},
    },
    "graduated": {
        "graduated": {
            "tiers": [
                {"up_to": {"value": "10"}, "unit_price": {"value": "0"}, "flat_amount": {"value": "1"}},
                {"up_to": {"value": "20.5"}, "unit_price": {"value": "3"}},
                {"unit_price": {"value": "7"}, "package_size": {"value": "100"}},
            ],
            "flat_without_usage": True,
        }
    },
    "shares": {
        "graduated": {"tiers": [{"up_to": {"value": "10"}, "percent": {"value": "2.50"}}, {"percent": {"value": "0"}}]}
    },
    "volume": {
        "volume": {"tiers": [{"up_to": {"value": "5"}, "unit_price": {"value": "2"}}, {"unit_price": {"value": "0"}}]}
    },
    "package": {"package": {"size": {"value": "1000"}, "price": {"value": "3"}}},
    "percentage": {
        "percentage": {
            "percent": {"value": "1.5"},
            "fixed_fee": {"value": "0.30"},
            "free_transactions": 3,
            "free_amount": {"value": "100"},
            "transaction_minimum": {"value": "0.1"},
            "transaction_maximum": {"value": "20"},
        }
    },
    "matrix": {
        "matrix": {
            "dimensions": ["region", "size"],
            "cells": [
                {"values": ["eu", ""], "tariff": {"per_unit": {"unit_price": {"value": "1"}}}},
                {"values": ["us", "10"], "tariff": {"package": {"size": {"value": "2"}, "price": {"value": "3"}}}},
            ],
            "default_tariff": {"volume": {"tiers": [{"unit_price": {"value": "4"}}]}},
        }
    },
    "dynamic": {"dynamic": {}},
    "passed-on": {"dynamic": {"multiplier": {"value": "1.2"}}},
    "capacity": {
        "capacity": {
            "tiers": [
                {"limits": [{"meter": "calls", "up_to": {"value": "10"}}], "amount": {"value": "1"}},
                {"amount": {"value": "2"}},
            ]
        }
    },
}


def price(code: str, product_id: str, *, metered: bool) -> price_pb2.Price:
    said = price_pb2.Price(
        code=code,
        product_id=product_id,
        currency="EUR",
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
        billing_timing=price_pb2.Price.IN_ARREARS,
        meter="calls" if metered else "",
    )
    return json_format.ParseDict(EVERYTHING[code], said)


async def everything_on_sale(suite: Suite) -> None:
    """Every model, every kind of entitlement, versions on sale, scheduled and in writing, a negotiated price."""
    await suite.start("catalog")
    api = suite.stub(CatalogServiceStub, "catalog")
    product = await api.CreateProduct(pb.CreateProductRequest(code="calls", display_name="Calls"))
    kinds = product_pb2.Feature
    for code, kind in (("sso", kinds.SWITCH), ("members", kinds.LIMIT), ("exports", kinds.LIMIT)):
        await api.CreateFeature(pb.CreateFeatureRequest(code=code, display_name=code, kind=kind))
    await api.CreateFeature(
        pb.CreateFeatureRequest(code="calls", display_name="Calls", kind=kinds.QUOTA, meter="calls")
    )
    entitlements: list[dict[str, Any]] = [  # Any: JSON
        {"feature": "sso", "enabled": False},
        {"feature": "members", "limit": {"value": "10.0"}},
        {"feature": "exports", "unlimited": True},
        {"feature": "calls", "quota": {"value": "1000"}, "reset_interval": {"unit": "QUARTER", "count": 2}},
    ]
    first = await api.CreatePlan(
        pb.CreatePlanRequest(
            code="team",
            display_name="Team",
            prices=[price(code, product.id, metered=code not in ("flat", "free")) for code in EVERYTHING],
            entitlements=[json_format.ParseDict(each, plan_pb2.PlanEntitlement()) for each in entitlements],
            trial_days=14,
        )
    )
    first = await api.UpdatePlan(
        pb.UpdatePlanRequest(
            id=first.id,
            display_name="Team",
            kind=plan_pb2.Plan.ADD_ON,
            prices=first.prices,
            entitlements=first.entitlements,
        )
    )
    await api.PublishPlan(pb.PublishPlanRequest(id=first.id))
    negotiated = price("unit", product.id, metered=True)
    await api.CreateContractPrice(
        pb.CreateContractPriceRequest(list_price_id=first.prices[0].id, customer_id=CUSTOMER, price=negotiated)
    )
    for days in (1, 10):
        version = await api.CreatePlanVersion(pb.CreatePlanVersionRequest(code="team"))
        effective = wire.timestamp(SANDBOX_START + timedelta(days=days))
        await api.PublishPlan(pb.PublishPlanRequest(id=version.id, effective_time=effective))
    await suite.travel(SANDBOX_START + timedelta(days=2))
    await suite.quiet()
    await api.CreatePlanVersion(pb.CreatePlanVersionRequest(code="team"))


async def test_whatever_can_be_sold_is_what_was_published(suite: Suite) -> None:
    """What is announced and what is stored look different; a difference that means nothing is none."""
    await everything_on_sale(suite)
    records = await read_records(Sources(databases={"catalog": suite.urls["catalog"]}))
    for invariant in INVARIANTS:
        tally = Tally()
        invariant.verify(records, tally)
        assert (tally.offenders, tally.offending) == ([], 0)
        assert tally.checked >= 7  # three published versions and a negotiated price among them


def version(number: int, state: str, begins: int | None, ends: int | None) -> Row:
    def instant(day: int | None) -> Any:  # Any: an instant, or none
        return None if day is None else SANDBOX_START + timedelta(days=day)

    return {
        "seller_id": "sel_1",
        "id": f"plan_{number}",
        "code": "team",
        "version": number,
        "state": state,
        "publish_time": instant(begins),
        "effective_time": instant(begins),
        "superseded_time": instant(ends),
    }


@pytest.mark.parametrize(
    ("versions", "offenders"),
    [
        ([version(1, "ARCHIVED", 0, 1), version(2, "ACTIVE", 1, 5), version(3, "ACTIVE", 5, None)], 0),
        ([version(1, "ACTIVE", 0, 5), version(2, "ARCHIVED", 3, 5), version(3, "ACTIVE", 5, None)], 0),
        ([version(1, "ACTIVE", 0, None), version(2, "DRAFT", None, None)], 0),
        ([version(1, "ARCHIVED", 0, None)], 0),
        ([version(1, "ACTIVE", 0, None), version(2, "ACTIVE", 1, None)], 1),
        ([version(1, "ACTIVE", 0, 2), version(2, "ACTIVE", 1, None)], 1),
        ([version(1, "ACTIVE", 0, 1)], 1),
        ([version(1, "ACTIVE", 5, 1), version(2, "ACTIVE", 1, None)], 1),
        ([version(1, "ARCHIVED", 0, 1), version(3, "ACTIVE", 1, None)], 1),
        ([version(1, "DRAFT", None, None), version(2, "ACTIVE", 1, None)], 1),
    ],
)
def test_versions_that_contradict_one_another_are_named(versions: list[Row], offenders: int) -> None:
    """Two on sale at once, one sold for ever beside its successor, one missing, a draft that was passed over."""
    records = Records({"catalog": {"plans": versions}}, [], clock.wall())
    tally = Tally()
    one_version_at_a_time(records, tally)
    assert tally.offending == offenders, tally.offenders
