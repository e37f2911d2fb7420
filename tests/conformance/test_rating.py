"""Figures of flat, per-unit and graduated prices that others published, by invoicing's rating and its corrections."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from common.money import Money, exact_sum
from common.period import Period
from invoicing.domain.line import LineKey, Usage
from invoicing.domain.lines_due import BillablePeriod, Billed, UsageKey, lines_due
from invoicing.domain.price import Flat, Graduated, Model, PerUnit, Price, Tier
from invoicing.domain.rating import rate

Json = dict[str, Any]  # the cases are JSON of many shapes; cases/README.md describes them

CASES: list[Json] = [
    json.loads(line) for line in (Path(__file__).parent / "cases" / "rating.jsonl").read_text("utf-8").splitlines()
]
MODELS = {"flat", "per_unit", "graduated"}

# What surrounds a price and is not part of it, by the field of the case that asks for it.
OTHER_CAPABILITIES = {
    "maximum_amount": "minimum and maximum amounts of a period",
    "discount_percent": "discounts",
    "conversion": "rounding of quantities before they are rated",
    "free_units": "allowances",
}

# And cases that describe what Saldo deliberately does not do.
OTHER_RULES = {
    "rating-om-flat-arrears-mid": "when a period is billed is for subscriptions to say: at its end",
    "rating-polar-unit-negative": "negative usage is charged as nothing, and never credited",
    "rating-polar-negative": "a last tier with an end is refused, and so is a negative quantity",
}

PERIOD = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
KEY = LineKey("item", "price", PERIOD.start)


def is_ours(case: Json) -> bool:
    given = case["input"]
    return given["model"] in MODELS and not OTHER_CAPABILITIES.keys() & given.keys() and case["id"] not in OTHER_RULES


def model_of(given: Json) -> Model:
    match given["model"]:
        case "flat":
            return Flat(amount=Decimal(given["flat_amount"]))
        case "per_unit":
            return PerUnit(unit_price=Decimal(given["unit_amount"]))
        case _:
            return Graduated(tiers=tuple(tier_of(tier) for tier in given["tiers"]))


def tier_of(tier: Json) -> Tier:
    return Tier(
        up_to=None if tier["up_to"] is None else Decimal(tier["up_to"]),
        unit_price=Decimal(tier["unit_amount"]),
        flat_amount=Decimal(tier["flat_amount"]),
    )


def counted(quantity: Decimal, position: int) -> Usage:
    return Usage(
        meter="meter", quantity=quantity, event_count=1, digest=f"digest {position}", through_position=position
    )


def due_now(given: Json) -> Money:
    """The amount of the line that a bill run would write, after what was billed for the period before."""
    price = Price(id="price", currency=given["currency"], model=model_of(given), product="Product", unit_label="")
    quantity = Decimal(given.get("quantity", 1))
    before = Decimal(given.get("already_billed_quantity", 0))
    if "already_billed_amount" in given:
        # This case tells the quantity of the whole period.
        billed_amount: Money | None = Money.rounded(Decimal(given["already_billed_amount"]), price.currency)
    elif before:
        quantity = exact_sum((before, quantity))
        billed_amount = Money.rounded(rate(price, before).amount, price.currency)
    else:
        billed_amount = None
    already_billed = {}
    if billed_amount is not None:
        already_billed[KEY] = Billed(amount=billed_amount, usage=counted(before, 1), correction=0, is_final=True)
    period = BillablePeriod(
        subscription_id="subscription",
        item_id=KEY.item_id,
        price_id=KEY.price_id,
        quantity=None,
        meter="meter",
        period=PERIOD,
        full_period=PERIOD,
        proration=Fraction(1),
        bill_time=PERIOD.end,
    )
    due = lines_due(
        [period],
        {price.id: price},
        {UsageKey("meter", PERIOD): counted(quantity, 2)},
        already_billed,
        as_of=PERIOD.end,
        next_bill_time=None,
    )
    return due[0].line.amount if due else Money.zero(price.currency)


def acceptable(case: Json) -> set[Decimal]:
    """The peer's figure, or the better one that the case recommends; where it is a matter of taste, any of them."""
    expected, alternatives = case["expected"]["amount"], case.get("alternatives", {})
    if case["recommended"] == "expected":
        return {Decimal(expected)}
    if case["recommended"] == "either":
        return {Decimal(expected), *(Decimal(each["amount"]) for each in alternatives.values())}
    return {Decimal(alternatives[case["recommended"]]["amount"])}


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES if is_ours(case)])
def test_the_published_figure(case: Json) -> None:
    """Whoever moves to us from another system pays the same."""
    currency = case["input"]["currency"]
    found = due_now(case["input"])
    assert found in {Money.rounded(figure, currency) for figure in acceptable(case)}, case["situation"]


def test_nothing_used_costs_nothing() -> None:
    """Where peers differ, ours is the answer without a surprise: no flat amount of a tier that nobody reached."""
    zero = [case for case in CASES if is_ours(case) and case["input"].get("quantity") == "0"]
    assert len(zero) == 2
    assert all(due_now(case["input"]).minor == 0 for case in zero)


def test_no_case_is_left_out_by_accident() -> None:
    """Every case of these three models is either computed or named above with the reason."""
    assert len(CASES) == len({case["id"] for case in CASES}) == 114
    ours = Counter(case["input"]["model"] for case in CASES if is_ours(case))
    assert ours == {"graduated": 16, "per_unit": 7, "flat": 1}
    assert sum(case["input"]["model"] in MODELS for case in CASES) == 34
    for field in OTHER_CAPABILITIES:
        assert any(field in case["input"] for case in CASES), field
    for case_id in OTHER_RULES:
        assert any(case["id"] == case_id for case in CASES), case_id
