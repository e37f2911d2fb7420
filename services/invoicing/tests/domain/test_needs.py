"""What a price has to be told about usage, and how the usage of several meters becomes one proof."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.period import Period
from invoicing.domain.line import TRACEPARENTS_MAX, Usage
from invoicing.domain.lines_due import UsageKey
from invoicing.domain.price import (
    Capacity,
    Dynamic,
    Flat,
    Graduated,
    Matrix,
    Model,
    Needs,
    Package,
    Percentage,
    PerUnit,
    Price,
    Size,
    Tier,
    Volume,
)
from invoicing.domain.rating import rate
from invoicing.domain.usage import MeterQuantity, UsageToRate

ONE = PerUnit(unit_price=Decimal(1))
OPEN = (Tier(up_to=None, unit_price=Decimal(1)),)
SHARE = Percentage(percent=Decimal(3))
LIMITS = {"seats": Decimal(5), "disk": Decimal(9), "calls": Decimal(1)}


def priced(model: Model) -> Price:
    return Price(id="price", currency="EUR", model=model, product="", unit_label="", meter="disk", is_metered=True)


@pytest.mark.parametrize(
    ("model", "needs"),
    [
        (Flat(amount=Decimal(1)), Needs()),
        (ONE, Needs()),
        (Graduated(tiers=OPEN), Needs()),
        (Volume(tiers=OPEN), Needs()),
        (Package(size=Decimal(2), price=Decimal(1)), Needs()),
        (Dynamic(multiplier=Decimal(2)), Needs()),
        (SHARE, Needs()),
        (replace(SHARE, fixed_fee=Decimal(1)), Needs(with_values=True)),
        (replace(SHARE, free_transactions=1), Needs(with_values=True)),
        (replace(SHARE, free_amount=Decimal(1)), Needs(with_values=True)),
        (replace(SHARE, transaction_minimum=Decimal(1)), Needs(with_values=True)),
        (replace(SHARE, transaction_maximum=Decimal(1)), Needs(with_values=True)),
        (Matrix(dimensions=("shop", "till"), cells={}, default=ONE), Needs(group_by=("shop", "till"))),
        (
            Capacity(sizes=(Size(limits=LIMITS, amount=Decimal(1)), Size(limits={}, amount=Decimal(2)))),
            Needs(other_meters=("calls", "seats")),
        ),
        (Capacity(sizes=(Size(limits={}, amount=Decimal(2)),)), Needs()),
    ],
)
def test_a_price_needs_what_its_amount_depends_on(model: Model, needs: Needs) -> None:
    """More would be slow to ask for, less would be billed wrong. Its own meter is asked for anyhow."""
    assert priced(model).needs == needs


@given(st.lists(st.decimals(min_value=-1000, max_value=1000, places=2)))
def test_a_share_needs_no_more_than_the_sum(amounts: list[Decimal]) -> None:
    """However many transactions, and whatever was taken back: the sum costs the same, also below nothing."""
    price = priced(SHARE)
    one_by_one = rate(price, UsageToRate(quantity=sum(amounts, Decimal(0)), amounts=tuple(amounts)))
    assert rate(price, UsageToRate.of(sum(amounts, Decimal(0)))).exact_amount == one_by_one.exact_amount


def test_the_same_usage_looked_at_differently_is_another_question() -> None:
    """Otherwise one of two prices on a meter would be rated by what the other one needs."""
    month = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    keys = {UsageKey("disk", month, needs) for needs in (Needs(), Needs(group_by=("a",)), Needs(with_values=True))}
    assert len(keys) == 3
    assert UsageKey("disk", month, Needs(other_meters=("calls", "seats"))).meters == ("disk", "calls", "seats")


def counted(meter: str, quantity: int, *, position: int, traces: str = "") -> Usage:
    return Usage(
        meter=meter,
        quantity=Decimal(quantity),
        event_count=quantity,
        digest=f"digest of {meter}",
        through_position=position,
        traceparents=tuple(traces),
        meter_versions={meter: position},
    )


def test_one_proof_for_several_meters() -> None:
    """The quantity is the price's own; all else is of every meter, in the order of their codes."""
    disk = counted("disk", 80, position=7, traces="abc")
    others = (counted("seats", 4, position=5, traces="ade"), counted("calls", 9, position=6))
    found = disk.beside(others)
    text = "calls\x1fdigest of calls\ndisk\x1fdigest of disk\nseats\x1fdigest of seats"
    assert found == Usage(
        meter="disk",
        quantity=Decimal(80),
        event_count=93,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        through_position=5,
        traceparents=("a", "b", "d", "c"),  # in turn, each once
        meter_versions={"disk": 7, "seats": 5, "calls": 6},
    )
    assert len(found.traceparents) == TRACEPARENTS_MAX
    assert found.other_meters == (
        MeterQuantity(meter="seats", quantity=Decimal(4)),
        MeterQuantity(meter="calls", quantity=Decimal(9)),
    )


def test_the_proof_of_one_meter_is_meterings() -> None:
    """Nothing is made up where there is nothing to put together."""
    disk = counted("disk", 80, position=7)
    assert disk.beside(()) is disk


@pytest.mark.parametrize("changed", ["disk", "seats"])
def test_other_usage_of_any_meter_is_another_proof(changed: str) -> None:
    """Late usage is noticed by it."""
    meters = {name: counted(name, 1, position=1) for name in ("disk", "seats")}
    before = meters["disk"].beside([meters["seats"]])
    meters[changed] = replace(meters[changed], digest="another")
    assert meters["disk"].beside([meters["seats"]]).digest != before.digest
