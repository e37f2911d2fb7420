"""The reasons of refusals are the ones that were pinned, and the ones that the contracts speak of."""

from __future__ import annotations

import re

import pytest

from common.errors import FailedPrecondition, Kind
from tests.architecture.sources import SERVICES
from tests.contracts.descriptors import enums, files
from tests.contracts.reasons import pinned, reasons
from tools.protos import PROTOS

REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")


def test_reasons_are_pinned() -> None:
    """Programs branch on them. After adding one: `python -m tests.contracts.reasons`; never remove or rename."""
    assert reasons() == pinned()


def test_a_new_reason_is_noticed() -> None:
    """Otherwise the test above would prove nothing."""
    made = type("PlanHasNoName", (FailedPrecondition,), {"__module__": "catalog.domain.errors"})
    assert reasons()["catalog"].get("PLAN_HAS_NO_NAME") == Kind.FAILED_PRECONDITION.name
    assert "PLAN_HAS_NO_NAME" not in pinned()["catalog"]
    made.__module__ = "nowhere"  # or the other tests would find it


@pytest.mark.parametrize("service", SERVICES)
def test_every_reason_in_a_contract_exists(service: str) -> None:
    """`Fails with PLAN_NOT_DRAFT` is a promise."""
    known = reasons()
    real = {*known[service], *known["common"], *(kind.name for kind in Kind)}
    promised: set[str] = set()
    for path in (PROTOS / "saldo" / service / "v1").glob("*_service.proto"):
        comments = " ".join(line.strip().removeprefix("//") for line in path.read_text().splitlines() if "//" in line)
        for sentence in re.findall(r"[Ff]ails? with [^.;]*", comments):
            promised |= set(REASON.findall(sentence))
    states = {value.name for file in files() for enum in enums(file) for value in enum.values}
    assert promised - real - states == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_rule_of_a_service_has_a_reason_of_its_own(service: str) -> None:
    """Two services that give one reason for two things would confuse whoever reads a log."""
    known = pinned()
    others = {reason for package, each in known.items() if package != service for reason in each}
    shared = {
        "INVOICE_NOT_FOUND",
        "CUSTOMER_NOT_FOUND",
        "SUBSCRIPTION_NOT_FOUND",
        "PLAN_NOT_FOUND",
        "PRICE_NOT_FOUND",
        "METER_NOT_FOUND",
        "FEATURE_NOT_FOUND",
        "TAX_CODE_NOT_FOUND",
        "COUPON_EXPIRED",
        "COUPON_NOT_ACTIVE",
        "COUPON_NOT_FOUND",
        "COUPON_NOT_YET_VALID",
        "COUPON_USED_UP",
    }  # the same thing, told by two
    assert set(known[service]) & others <= shared
