"""Lines of every model, rated anew from the stored price and the usage events: what was tampered with is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tools.check import billing, usage
from tools.check.billing import span_of
from tools.check.counting import Counting, proof
from tools.check.records import Records
from tools.check.report import Finding, examine
from tools.check.tariff import tariffs

AMOUNTS = "every amount agrees with the independent rater"
COUNTED = "every billed quantity is counted anew"
BILLED = "every usage event of a billed period is billed"
STEPS = "rating steps explain every amount"
NEGOTIATED = "a negotiated price is only on lines of its customer"
INVARIANTS = {invariant.name: invariant for invariant in (*billing.INVARIANTS, *usage.INVARIANTS)}

Json = Mapping[str, Any]  # Any: JSON, or whatever the columns of a table hold
Table = list[dict[str, Any]]  # Any: as above

SELLER = {"seller_id": "sel_1"}
CUSTOMER = "cus_1"
PERIOD = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))

OPENING = {
    "customer_id": CUSTOMER,
    "items": [],
    "billing_day": 0,
    "trial_days": 0,
    "proration": "BY_DAY",
    "activation": "ON_START",
    "trial_end": "CONTINUE",
}

MATRIX = {
    "model": "MATRIX",
    "dimensions": ["region"],
    "cells": [{"values": ["eu"], "tariff": {"model": "PER_UNIT", "unit_price": "2"}}],
    "default_tariff": {"model": "PACKAGE", "size": "4", "price": "1.5"},
}
PERCENTAGE = {"model": "PERCENTAGE", "percent": "10", "fixed_fee": "1", "free_transactions": 1}
CAPACITY = {
    "model": "CAPACITY",
    "tiers": [
        {"limits": [{"meter": "calls", "up_to": "9"}, {"meter": "disk", "up_to": "45"}], "amount": "20"},
        {"limits": [], "amount": "50"},
    ],
}
VOLUME = {
    "model": "VOLUME",
    "tiers": [{"up_to": "5", "unit_price": "3"}, {"unit_price": "1", "flat_amount": "0.5"}],
    "flat_without_usage": True,
}
GRADUATED = {
    "model": "GRADUATED",
    "tiers": [{"up_to": "5", "percent": "50"}, {"unit_price": "3", "package_size": "3", "flat_amount": "0.5"}],
}
OPERATORS = {
    "unit_conversion": {"divide_by": "2", "rounding": "UP"},
    "free_units": "1",
    "discount_percent": "50",
    "minimum_amount": "3",
    "maximum_amount": "4.5",
}


def event(event_id: str, day: int, value: str, *, meter: str = "calls", position: int = 1, **dimensions: str) -> Json:
    return {
        **SELLER,
        "source": "api",
        "event_id": event_id,
        "customer": "acme" if day == 5 else CUSTOMER,
        "meter": meter,
        "time": datetime(2026, 1, day, tzinfo=UTC),
        "value": Decimal(value),
        "position": position,
        "dimensions": json.dumps(dimensions) if dimensions else None,
    }


EVENTS = (
    event("c", 5, "3", region="eu"),
    event("a", 6, "4", region="us"),
    event("b", 6, "2"),
    event("d", 5, "50", meter="disk"),
    event("e", 6, "40", meter="disk"),
    # These were ingested only after the line was made, and one of them while there still was another bill to come.
    event("f", 7, "100", position=6, region="eu"),
    event("g", 7, "100", meter="disk", position=7),
)


class Told:
    """What the services tell about one metered line, as rows that a test may tamper with."""

    def __init__(
        self,
        model: Json,
        amount_minor: int,
        *,
        operators: Json | None = None,
        aggregation: str = "SUM",
        quantity: str = "9",
    ) -> None:
        self.price: dict[str, Any] = {  # Any: columns
            **SELLER,
            "id": "price_1",
            "currency": "EUR",
            "meter": "calls",
            "timing": "IN_ARREARS",
            "model": json.dumps(model),
            "operators": json.dumps(operators or {}),
            "customer_id": "",
        }
        self.invoice: dict[str, Any] = {  # Any: columns
            **SELLER,
            "id": "inv_1",
            "customer_id": CUSTOMER,
            "currency": "EUR",
            "state": "OPEN",
            "bill_time": PERIOD[1],
            "create_time": PERIOD[1],
            "finalize_time": PERIOD[1] + timedelta(hours=1),
        }
        self.line: dict[str, Any] = {  # Any: columns
            **SELLER,
            "id": "line_1",
            "invoice_id": "inv_1",
            "subscription_id": "sub_1",
            "item_id": "subi_1",
            "price_id": "price_1",
            "period_start": PERIOD[0],
            "period_end": PERIOD[1],
            "meter": "calls",
            "quantity": Decimal(quantity),
            "currency": "EUR",
            "amount_minor": amount_minor,
            "exact_amount": Decimal(amount_minor) / 100,
            "rating_steps": json.dumps([{"amount": str(Decimal(amount_minor) / 100)}]),
            "proration_numerator": 1,
            "proration_denominator": 1,
            "correction": 0,
            "kind": "OWED",
            "change_id": "",
            "usage_quantity": Decimal(quantity),
            "usage_through_position": 5,
        }
        self.meters: Table = [
            {**SELLER, "code": "calls", "aggregation": aggregation, "unique_dimension": "region"},
            {**SELLER, "code": "disk", "aggregation": "LATEST", "unique_dimension": ""},
        ]
        self.events: Table = [dict(row) for row in EVENTS]
        self.prove()

    def prove(self) -> None:
        """Of the usage events there are."""
        _, tariff = tariffs(self.records())["price_1"]
        found = Counting(self.records()).considered(self.line, span_of(self.line), tariff.model)
        digest = proof(self.line, found, tariff.model)
        self.line |= {"usage_event_count": len(found), "usage_digest": digest}

    def records(self) -> Records:
        start, end = PERIOD
        subscription = {
            **SELLER,
            "id": "sub_1",
            "customer_id": CUSTOMER,
            "time_zone": "UTC",
            "opening": json.dumps({**OPENING, "start_time": start.isoformat()}),
        }
        ingests = [
            {**SELLER, "id": 1, "position": 5, "create_time": start},
            {**SELLER, "id": 2, "position": 7, "create_time": end},
        ]
        return Records(
            tables={
                "catalog": {"prices": [self.price]},
                "subscriptions": {
                    "subscriptions": [subscription],
                    "customers": [{**SELLER, "id": CUSTOMER, "external_id": "acme"}],
                },
                "metering": {"meters": self.meters, "usage_events": self.events, "ingests": ingests},
                "invoicing": {"invoices": [self.invoice], "invoice_lines": [self.line]},
            },
            entries=(),
            at=end,
        )

    def verified(self, name: str) -> Finding:
        found = examine(INVARIANTS[name], self.records())
        assert found.checked
        return found


RATED = {
    "matrix": (MATRIX, {}, 900),  # 3 of eu at 2; 6 of all else in 2 packages
    "matrix converted": (MATRIX, {"unit_conversion": {"multiply_by": "2"}}, 1650),
    "percentage": (PERCENTAGE, {}, 260),  # the first is free
    "percentage of the rest": ({"model": "PERCENTAGE", "percent": "10", "free_amount": "5"}, {}, 40),
    "dynamic": ({"model": "DYNAMIC", "multiplier": "1.5"}, {}, 1350),
    "dynamic by itself": ({"model": "DYNAMIC"}, {"minimum_amount": "9.01"}, 901),
    "capacity": (CAPACITY, {}, 2000),
    "volume": (VOLUME, {}, 950),
    "graduated": (GRADUATED, {}, 900),  # half of 5, 2 packages, and the flat amount
    "package": ({"model": "PACKAGE", "size": "5", "price": "0.005"}, {}, 1),
    "operators": ({"model": "PER_UNIT", "unit_price": "2"}, OPERATORS, 400),  # 5 converted, 4 to pay, 8 less half
    "maximum": ({"model": "PER_UNIT", "unit_price": "3"}, OPERATORS, 450),
    "minimum": ({"model": "PER_UNIT", "unit_price": "1"}, OPERATORS, 300),
}


@pytest.mark.parametrize(("model", "operators", "amount_minor"), RATED.values(), ids=RATED)
def test_a_line_is_rated_anew(model: Json, operators: Json, amount_minor: int) -> None:
    """The figure by hand is agreed with, and one cent more is not."""
    told = Told(model, amount_minor, operators=operators)
    assert told.verified(AMOUNTS).holds, told.verified(AMOUNTS).offenders
    told.line["amount_minor"] += 1
    (offender,) = told.verified(AMOUNTS).offenders
    assert offender == f"line_1 is {amount_minor + 1} EUR, rated anew {amount_minor} EUR"


@pytest.mark.parametrize(
    ("model", "amount_minor", "change"),
    [
        (MATRIX, 900, {"dimensions": '{"region": "us"}'}),
        ({**PERCENTAGE, "free_amount": "2"}, 370, {"value": Decimal(4)}),  # less than all of it is free
        (PERCENTAGE, 260, {"time": datetime(2026, 1, 8, tzinfo=UTC)}),  # another one is free
        ({"model": "DYNAMIC"}, 900, {"value": Decimal("3.01")}),
        (CAPACITY, 2000, {"value": Decimal("3.01")}),
    ],
)
def test_what_was_used_decides(model: Json, amount_minor: int, change: Json) -> None:
    """Each usage event counts by its amount, by its dimensions, or by its place in time."""
    told = Told(model, amount_minor)
    assert told.verified(AMOUNTS).holds
    told.events[0].update(change)
    assert not told.verified(AMOUNTS).holds


def test_every_meter_of_a_capacity_counts() -> None:
    """Those that are not the price's own are counted at the same position."""
    told = Told(CAPACITY, 2000)
    told.events[4]["value"] = Decimal(46)
    assert told.verified(AMOUNTS).offenders == ("line_1 is 2000 EUR, rated anew 5000 EUR",)


def test_one_proof_stands_for_every_meter_of_a_capacity() -> None:
    """Whichever meter was counted wrongly, it shows; the digest by hand is of both, in order of their codes."""
    told = Told(CAPACITY, 2000)
    assert told.line["usage_event_count"] == 5
    calls = "api\x1fa\x1f4\napi\x1fb\x1f2\napi\x1fc\x1f3"
    disk = "api\x1fd\x1f50\napi\x1fe\x1f40"
    of_each = [hashlib.sha256(text.encode()).hexdigest() for text in (calls, disk)]
    of_both = hashlib.sha256(f"calls\x1f{of_each[0]}\ndisk\x1f{of_each[1]}".encode()).hexdigest()
    assert told.line["usage_digest"] == of_both
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders
    told.events[4]["value"] = Decimal(41)  # rated the same
    assert told.verified(AMOUNTS).holds
    assert told.verified(COUNTED).offenders == ("line_1: 9 of 5 events; counted anew 9 of 5",)


@pytest.mark.parametrize(("model", "amount_minor"), [(MATRIX, 900), (PERCENTAGE, 260), (CAPACITY, 2000)])
def test_what_was_counted_is_proven_for_every_model(model: Json, amount_minor: int) -> None:
    """An event that is gone, and one of another meter that does not count."""
    told = Told(model, amount_minor)
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders
    told.events[0]["meter"] = "disk" if model is not CAPACITY else "other"
    assert not told.verified(COUNTED).holds


def test_a_quantity_that_is_money_is_counted_by_its_meter() -> None:
    """Without anything around the share, an event is no transaction: the meter says what there is a share of."""
    for model in ({"model": "PERCENTAGE", "percent": "10"}, {"model": "DYNAMIC", "multiplier": "0.1"}):
        told = Told(model, 40, aggregation="MAX", quantity="4")
        assert told.verified(AMOUNTS).holds, told.verified(AMOUNTS).offenders
        told.events[1]["value"] = Decimal(5)
        assert told.verified(AMOUNTS).offenders == ("line_1 is 40 EUR, rated anew 50 EUR",)


def test_an_older_database_has_fewer_columns() -> None:
    """What no service wrote down yet is not asked for."""
    told = Told({"model": "PER_UNIT", "unit_price": "2"}, 1800)
    for column in ("operators", "customer_id"):
        del told.price[column]
    for row in told.events:
        del row["dimensions"]
    assert told.verified(AMOUNTS).holds
    assert told.verified(NEGOTIATED).holds
    assert told.verified(COUNTED).holds


@pytest.mark.parametrize("model", ["TIERED", "MATRIX"])
def test_a_price_that_cannot_be_read_is_named(model: str) -> None:
    """It must not end the check of everything else."""
    told = Told({"model": "DYNAMIC"}, 900)
    told.price["model"] = json.dumps({"model": model})
    assert not told.verified(AMOUNTS).holds


@pytest.mark.parametrize(
    ("aggregation", "quantity"),
    # Two have the latest time: the one with the greater id is the last. One names no region.
    [("SUM", "9"), ("COUNT", "3"), ("MAX", "4"), ("LATEST", "2"), ("UNIQUE_COUNT", "2")],
)
def test_quantities_are_counted_anew(aggregation: str, quantity: str) -> None:
    """In every way that a meter counts, up to the position of the line."""
    told = Told({"model": "PER_UNIT", "unit_price": "1"}, 0, aggregation=aggregation, quantity=quantity)
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders
    told.line["usage_quantity"] += 1
    (offender,) = told.verified(COUNTED).offenders
    assert offender.endswith(f"counted anew {quantity} of 3")


@pytest.mark.parametrize("aggregation", ["SUM", "COUNT", "MAX", "LATEST", "UNIQUE_COUNT"])
def test_nothing_is_counted_without_events(aggregation: str) -> None:
    """No event, no quantity, whatever the meter does."""
    told = Told({"model": "PER_UNIT", "unit_price": "1"}, 0, aggregation=aggregation, quantity="0")
    told.events.clear()
    told.prove()
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders


def test_groups_are_aggregated_each_for_itself() -> None:
    """The most of each region is priced, not the most of all."""
    told = Told(MATRIX, 900, aggregation="MAX", quantity="4")
    assert told.verified(AMOUNTS).holds, told.verified(AMOUNTS).offenders
    told.events[0]["value"] = Decimal(2)
    assert told.verified(AMOUNTS).offenders == ("line_1 is 900 EUR, rated anew 700 EUR",)


def test_an_unknown_aggregation_is_named() -> None:
    """A meter that counts in a way that nobody knows has no quantity."""
    assert not Told(MATRIX, 900, aggregation="MEDIAN").verified(COUNTED).holds


@pytest.mark.parametrize(
    ("model", "amount_minor", "late"), [(MATRIX, 900, "f"), (PERCENTAGE, 260, "f"), (CAPACITY, 2000, "fg")]
)
def test_what_was_not_billed_in_time_is_named(model: Json, amount_minor: int, late: str) -> None:
    """A late usage event is nobody's fault unless it was there before the bill; those of every meter count."""
    told = Told(model, amount_minor)
    assert told.verified(BILLED).holds, told.verified(BILLED).offenders
    told.invoice["bill_time"] = datetime(2026, 2, 2, tzinfo=UTC)
    assert told.verified(BILLED).offenders == tuple(f"api {event_id} is not billed by line_1" for event_id in late)


def voided(event_id: str, *, corrects: int, position: int) -> dict[str, Any]:  # Any: columns
    return {**event(event_id, 5, "3", position=position, region="eu"), "corrects": corrects}


def test_what_was_voided_before_a_line_is_not_on_it() -> None:
    """What counts is decided by the position through which the line was counted."""
    told = Told({"model": "PER_UNIT", "unit_price": "1"}, 600, quantity="6")
    told.events[0]["position"] = 2
    told.events.append(voided("c", corrects=2, position=4))
    told.prove()
    assert told.line["usage_event_count"] == 2
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders
    assert told.verified(AMOUNTS).holds, told.verified(AMOUNTS).offenders
    told.events[-1]["position"] = 6
    assert not told.verified(COUNTED).holds


def test_what_was_voided_and_is_still_billed_is_named() -> None:
    """As with a late usage event: if the customer got another bill since, it should have been corrected there."""
    told = Told({"model": "PER_UNIT", "unit_price": "1"}, 900)
    told.events[0]["position"] = 2
    told.events[5:] = [voided("c", corrects=2, position=6)]
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders
    assert told.verified(BILLED).holds, told.verified(BILLED).offenders
    told.invoice["bill_time"] = datetime(2026, 2, 2, tzinfo=UTC)
    assert told.verified(BILLED).offenders == ("api c is not billed by line_1",)


def test_an_amended_event_is_told_by_its_version() -> None:
    """Though source, id and value are the same: what else it says may have changed what is billed."""
    told = Told({"model": "PER_UNIT", "unit_price": "1"}, 900)
    told.events[0]["version"] = 1
    assert not told.verified(COUNTED).holds
    told.prove()
    assert told.verified(COUNTED).holds, told.verified(COUNTED).offenders


STEP_FAULTS: dict[str, tuple[Json, Json]] = {
    "units": ({"kind": "UNITS", "quantity": "9", "unit_price": "1", "amount": "9"}, {"quantity": "8"}),
    "packages": (
        {"kind": "PACKAGES", "quantity": "2", "package_size": "5", "unit_price": "4.5", "amount": "9"},
        {"unit_price": "4"},
    ),
    "fixed fee": ({"kind": "FIXED_FEE", "quantity": "3", "unit_price": "3", "amount": "9"}, {"quantity": "2"}),
    "percent": ({"kind": "PERCENT", "quantity": "90", "percent": "10", "amount": "9"}, {"percent": "11"}),
}


@pytest.mark.parametrize(("step", "change"), STEP_FAULTS.values(), ids=STEP_FAULTS)
def test_a_step_multiplies_out(step: Json, change: Json) -> None:
    """Whoever follows a step with a pencil gets its amount."""
    told = Told({"model": "DYNAMIC"}, 900)
    told.line["rating_steps"] = json.dumps([step])
    assert told.verified(STEPS).holds, told.verified(STEPS).offenders
    told.line["rating_steps"] = json.dumps([{**step, **change}])
    assert told.verified(STEPS).offenders == ("line_1: step 0 is not 9",)


@pytest.mark.parametrize("kind", ["CONVERSION", "FREE", "REMARK"])
def test_a_step_of_no_amount_has_none(kind: str) -> None:
    """What only tells something neither adds nor takes."""
    told = Told({"model": "DYNAMIC"}, 900)
    flat = {"kind": "FLAT", "quantity": "1", "amount": "9"}
    told.line["rating_steps"] = json.dumps([{"kind": kind, "quantity": "5", "amount": "0"}, flat])
    assert told.verified(STEPS).holds, told.verified(STEPS).offenders
    told.line["rating_steps"] = json.dumps([{"kind": kind, "amount": "1"}, {**flat, "amount": "8"}])
    assert told.verified(STEPS).offenders == ("line_1: step 0 is not 1",)


def test_a_negotiated_price_is_its_customers() -> None:
    """What one of them pays is nobody else's business."""
    told = Told({"model": "DYNAMIC"}, 900)
    told.price["customer_id"] = CUSTOMER
    assert told.verified(NEGOTIATED).holds
    assert told.verified(AMOUNTS).holds
    told.price["customer_id"] = "cus_2"
    assert told.verified(NEGOTIATED).offenders == ("line_1 of cus_1 is at the price of cus_2",)
