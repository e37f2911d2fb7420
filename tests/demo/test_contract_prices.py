"""What customers.yaml says about negotiated prices is sent as it is written, or refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from saldo.catalog.v1.plan_pb2 import Plan
from saldo.catalog.v1.price_pb2 import Price
from tests.demo.test_folder import CUSTOMERS, faults, read
from tools.demo.requests import create_contract_price, create_subscription

PLAN = Plan(id="plan_1", prices=[Price(id="price_1", code="power"), Price(id="price_2", code="base")])


def negotiated(written: str) -> str:
    return f"{CUSTOMERS}    contract_prices: [{written}]\n"


def test_a_negotiated_price_is_sent_exactly(tmp_path: Path) -> None:
    """Every decimal that is written, and nothing about what is not."""
    written = "{plan: home, price: power, per_unit: 0.070000000001, minimum_amount: 500, free_units: 10}"
    (customer,) = read(tmp_path, customers=negotiated(written)).example.customers
    (contract,) = customer.contract_prices
    request = create_contract_price(contract, number=0, customer_id="cus_1", plan=PLAN)
    assert (request.customer_id, request.list_price_id) == ("cus_1", "price_1")
    expected = Price()
    expected.per_unit.unit_price.value = "0.070000000001"
    expected.minimum_amount.value = "500"
    expected.free_units.value = "10"
    assert request.price == expected


def test_another_operator_is_sent_exactly(tmp_path: Path) -> None:
    """Negotiations end with a share off or a lid on the bill as well."""
    written = "{plan: home, price: base, flat: 0.09, discount_percent: 12.5, maximum_amount: 1}"
    (customer,) = read(tmp_path, customers=negotiated(written)).example.customers
    request = create_contract_price(customer.contract_prices[0], number=0, customer_id="cus_1", plan=PLAN)
    assert request.list_price_id == "price_2"
    expected = Price()
    expected.flat.amount.value = "0.09"
    expected.discount_percent.value = "12.5"
    expected.maximum_amount.value = "1"
    assert request.price == expected


def test_an_item_that_is_named_is_taken_at_the_negotiated_price(tmp_path: Path) -> None:
    """Who names items names them by the codes of the list, and still pays what was negotiated."""
    items = CUSTOMERS.replace("start: 2012-01-01", "start: 2012-01-01, items: [{price: base}, {price: power}]")
    (customer,) = read(tmp_path, customers=items).example.customers
    (subscription,) = customer.subscriptions
    request = create_subscription(
        subscription, number=0, customer_id="cus_1", plan=PLAN, negotiated={"price_1": "price_9"}
    )
    assert [item.price_id for item in request.items] == ["price_2", "price_9"]


MALFORMED = {
    "two models": ("{plan: home, price: power, per_unit: 1, flat: 2}", "must have exactly one of per_unit and flat"),
    "no model": ("{plan: home, price: power, minimum_amount: 5}", "must have exactly one of per_unit and flat"),
    "no plan of it": ("{plan: house, price: power, per_unit: 1}", "there is no plan 'house'"),
    "no price of it": (
        "{plan: home, price: gas, per_unit: 1}",
        "there is no price of the plan in the customer's currency 'gas'",
    ),
    "no number": ("{plan: home, price: power, per_unit: cheap}", "must be a decimal number"),
    "an unknown key": ("{plan: home, price: power, per_unit: 1, tiers: 2}", "unknown key 'tiers'"),
    "one price twice": (
        "{plan: home, price: power, per_unit: 1}, {plan: home, price: power, per_unit: 2}",
        "there are two of contract price in the place of home/power",
    ),
}


@pytest.mark.parametrize(("written", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, written: str, reason: str) -> None:
    """Before anything is sent."""
    (fault,) = faults(tmp_path, customers=negotiated(written))
    assert fault.startswith("customers.yaml:8:")
    assert reason in fault


def test_the_currency_of_the_customer_counts(tmp_path: Path) -> None:
    """Nothing can be negotiated in the place of a price that the customer cannot have."""
    customers = negotiated("{plan: home, price: power, per_unit: 1}").replace("GBP", "EUR")
    found = faults(tmp_path, customers=customers)
    assert found[-1] == "customers.yaml:8:30: plan home has no price in EUR, which the customer is billed in"
