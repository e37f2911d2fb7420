"""Figures of minor units, rounding and allocation that others published, computed by `common.money`."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from google.type import money_pb2

from common import wire
from common.errors import InvalidArgument
from common.money import Money, UnknownCurrency, minor_units, round_half_up, sum_money

Json = dict[str, Any]  # the cases are JSON of many shapes; cases/README.md describes them

CASES: list[Json] = [
    json.loads(line) for line in (Path(__file__).parent / "cases" / "money.jsonl").read_text("utf-8").splitlines()
]

# Cases that describe what Saldo deliberately does not do, by prefix of their id.
OTHER_RULES = {
    "money-om-up-": "there is one way of rounding, halves away from zero; none that always rounds up",
    "money-om-down-": "nor one that always rounds down",
    "money-mode-half_even-": "nor the bankers' one",
    "money-mode-half_down-": "nor halves towards zero",
    "money-om-alloc-zero-weight": "weights that are all zero mean equal shares",
}


def is_ours(case: Json) -> bool:
    return not case["id"].startswith(tuple(OTHER_RULES))


def minor_units_of(given: Json) -> Json:
    try:
        return {"decimals": {code: minor_units(code) for code in given["currencies"]}}
    except UnknownCurrency as error:
        return {"error": error.reason.lower()}


def rounded(given: Json) -> Json:
    amount = Decimal(given["amount"])
    if "currency" not in given:
        return {"amount": round_half_up(amount, int(given["decimals"]))}
    return {"amount": Money.rounded(amount, given["currency"]).amount}


def rounded_minor(given: Json) -> Json:
    return {"amount": round_half_up(Decimal(given["amount"]))}


def sum_of_lines(given: Json) -> Json:
    lines, currency = [Fraction(line) for line in given["lines"]], given["currency"]
    return {
        "sum_of_rounded": sum_money((Money.rounded(line, currency) for line in lines), currency).amount,
        "rounded_sum": Money.rounded(sum(lines, Fraction(0)), currency).amount,
    }


def allocated(given: Json) -> Json:
    units, _, decimals = given["amount"].partition(".")
    pb = money_pb2.Money(currency_code=given["currency"], units=int(units), nanos=int(decimals.ljust(9, "0") or 0))
    try:
        whole = wire.parse_money(pb, field="amount")
    except InvalidArgument:
        return {"error": "amount_not_in_minor_units"}
    return {"parts": [share.amount for share in whole.allocate([Decimal(w) for w in given["weights"]])]}


def allocated_minor(given: Json) -> Json:
    whole = Money(int(given["amount"]), "EUR")
    return {"parts": [share.minor for share in whole.allocate([Decimal(w) for w in given["weights"]])]}


def split_minor(given: Json) -> Json:
    whole = Money(int(given["amount"]), "EUR")
    return {"parts": [share.minor for share in whole.allocate([1] * int(given["parts"]))]}


def to_minor(given: Json) -> Json:
    return {"minor": Money.rounded(Decimal(given["amount"]), given["currency"]).minor}


ANSWERS: dict[str, Callable[[Json], Json]] = {
    "minor_units": minor_units_of,
    "round": rounded,
    "round_minor": rounded_minor,
    "sum_of_lines": sum_of_lines,
    "allocate": allocated,
    "allocate_minor": allocated_minor,
    "split_minor": split_minor,
    "to_minor": to_minor,
}


def wanted(case: Json) -> Json:
    """What a new system should answer: the peer's figure, or the better one that the case recommends."""
    if case["recommended"] == "expected":
        return dict(case["expected"])
    return dict(case["alternatives"][case["recommended"]])


def as_numbers(value: Any) -> Any:  # any JSON, with its numbers as strings
    """Numbers are compared, not their spelling: 5 is 5.00."""
    if isinstance(value, dict):
        return {key: as_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_numbers(each) for each in value]
    if isinstance(value, str):
        return Fraction(value) if value.lstrip("-").replace(".", "").isdigit() else value
    return Fraction(value)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES if is_ours(case)])
def test_the_published_figure(case: Json) -> None:
    """Whoever moves to us from another system, or checks us by the standard, finds the same cents."""
    answer = ANSWERS[case["input"]["kind"]](case["input"])
    assert as_numbers(answer) == as_numbers(wanted(case)), case["situation"]


def test_no_case_is_left_out_by_accident() -> None:
    """Every case is either computed or named above with the reason."""
    assert len(CASES) == len({case["id"] for case in CASES}) == 49
    assert sum(is_ours(case) for case in CASES) == 43
    for prefix in OTHER_RULES:
        assert any(case["id"].startswith(prefix) for case in CASES), prefix
