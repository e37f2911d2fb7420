"""Ten thousand definitions of prices that went wrong on the way: each is refused by name, or sound after all."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Final

from catalog.convert.price import checked_price
from common import ids
from common.errors import InvalidArgument
from saldo.catalog.v1 import catalog_service_pb2 as pb
from tests.support.definitions import definitions, leads_somewhere, rule
from tests.support.soundness import complaints

DEFINITIONS: Final = 10_000
RULES_MIN: Final = 150
"""Field by field, so many different things must have been refused, or the definitions are not wrong in enough ways."""
PRODUCT: Final = ids.mint("prod", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_definition_is_refused_by_field_and_reason_or_is_sound() -> None:
    """Whoever writes prices, by hand or by program, is told what is wrong with them, and never that we are."""
    rules: Counter[str] = Counter()
    sound = 0
    for definition in definitions(PRODUCT, count=DEFINITIONS, seed=1):
        wrong = complaints(definition)
        try:
            answer = checked_price(definition, field="price")
        except InvalidArgument as error:
            rules[_check_refusal(error, pb.CheckPriceRequest(price=definition), wrong)] += 1
            continue
        sound += 1
        assert wrong == set(), definition
        assert complaints(answer) == set(), definition
        assert checked_price(answer, field="price") == answer
    assert DEFINITIONS // 4 < sound < DEFINITIONS - DEFINITIONS // 4
    assert len(rules) > RULES_MIN, rules


def _check_refusal(error: InvalidArgument, request: pb.CheckPriceRequest, wrong: set[str]) -> str:
    """The rule that was told: the caller's fault, with a reason, at a place that is there and is wrong."""
    assert error.violations, error
    for violation in error.violations:
        assert violation.field in wrong, (violation, wrong, request)
        assert leads_somewhere(request, violation.field), violation
        assert violation.description
        assert error.reason == ("UNKNOWN_CURRENCY" if violation.field.endswith(".currency") else "INVALID_ARGUMENT")
    return rule(error.violations[0].field, error.violations[0].description)
