"""Definitions of prices that went wrong on the way, sent: each is refused by name, or sound after all.

Ten thousand of them, without a service, are in `tests/convert`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from common.neighbours import error_info
from common.testing import Suite
from saldo.catalog.v1 import catalog_service_pb2 as pb
from saldo.catalog.v1 import plan_pb2, price_pb2, product_pb2
from tests.support.definitions import definitions, leads_somewhere, rule
from tests.support.prices import sound_prices
from tests.support.soundness import complaints

DEFINITIONS: Final = 1_000
PLANS: Final = 150
PLANS_THOROUGH: Final = 400
IN_FLIGHT_MAX: Final = 32
RULES_MIN: Final = 90
"""Field by field, so many different things must have been refused, or the definitions are not wrong in enough ways."""


async def test_a_definition_is_refused_by_field_and_reason_or_is_sound(
    catalog: Any, seats: product_pb2.Product
) -> None:
    """Whoever writes prices, by hand or by program, is told what is wrong with them, and never that we are."""
    rules: Counter[str] = Counter()

    async def check(definition: price_pb2.Price) -> bool:
        request = pb.CheckPriceRequest(price=definition)
        wrong = complaints(definition)
        try:
            answer = await catalog.CheckPrice(request)
        except grpc.aio.AioRpcError as error:
            rules[check_refusal(error, request, wrong)] += 1
            return False
        assert wrong == set(), definition
        assert complaints(answer) == set(), definition
        assert await catalog.CheckPrice(pb.CheckPriceRequest(price=answer)) == answer
        return True

    sound = await answered(check, definitions(seats.id, count=DEFINITIONS, seed=1))
    assert DEFINITIONS // 4 < sound < DEFINITIONS - DEFINITIONS // 4
    assert len(rules) > RULES_MIN, rules


async def test_a_plan_is_refused_by_field_and_reason_or_its_prices_are_sound(
    suite: Suite, catalog: Any, seats: product_pb2.Product, request: pytest.FixtureRequest
) -> None:
    """What is stored is what was checked: it comes back as the check would answer it."""

    async def write(definition: price_pb2.Price, code: str) -> bool:
        first = sound_prices()[0]
        first.MergeFrom(price_pb2.Price(product_id=seats.id, code="first"))
        creating = pb.CreatePlanRequest(code=code, display_name="Team", prices=[first, definition])
        wrong = complaints(definition, path="prices[1]", in_plan=True)
        try:
            plan: plan_pb2.Plan = await catalog.CreatePlan(creating)
        except grpc.aio.AioRpcError as error:
            check_refusal(error, creating, wrong)
            return False
        assert wrong == set(), definition
        stored = (await catalog.GetPlan(pb.GetPlanRequest(id=plan.id))).prices[1]
        assert stored == plan.prices[1]
        for name in ("id", "plan_id", "create_time"):
            stored.ClearField(name)
        assert await catalog.CheckPrice(pb.CheckPriceRequest(price=definition)) == stored
        return True

    count = PLANS_THOROUGH if request.config.getoption("--thorough") else PLANS
    codes = iter(range(count))
    sound = await answered(
        lambda definition: write(definition, f"plan-{next(codes)}"),
        definitions(seats.id, count=count, seed=10_001),
    )
    assert count // 4 < sound < count - count // 4


async def answered(ask: Callable[[price_pb2.Price], Awaitable[bool]], definitions: Iterable[price_pb2.Price]) -> int:
    """How many were sound; a few are under way at a time."""
    waiting = iter(definitions)

    async def one_after_the_other() -> int:
        return sum([await ask(definition) for definition in waiting])

    return sum(await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT_MAX))))


def check_refusal(error: grpc.aio.AioRpcError, request: Message, wrong: set[str]) -> str:
    """The rule that was told: the caller's fault, with a reason, at a place that is there and is wrong."""
    info = error_info(error)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (error, request)
    assert info is not None
    violations = _violations(error)
    assert violations, error
    for violation in violations:
        assert violation.field in wrong, (violation, wrong, request)
        assert leads_somewhere(request, violation.field), violation
        assert violation.description
        assert info.reason == ("UNKNOWN_CURRENCY" if violation.field.endswith(".currency") else "INVALID_ARGUMENT")
    return rule(violations[0].field, violations[0].description)


def _violations(error: grpc.aio.AioRpcError) -> list[error_details_pb2.BadRequest.FieldViolation]:
    found: list[error_details_pb2.BadRequest.FieldViolation] = []
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the synchronous call only
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
            found.extend(bad.field_violations)
    return found
