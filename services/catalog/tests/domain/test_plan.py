"""The life of a plan: every state meets every verb."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from catalog.domain.errors import PlanEmpty, PlanNotActive, PlanNotDraft, PriceCodeTaken, TooManyPrices
from catalog.domain.plan import PRICES_MAX, Plan, PlanId, State
from catalog.domain.price import BillingTiming, PerUnit, Price, PriceId
from catalog.domain.product import ProductId
from common.errors import SaldoError
from common.period import Interval, Unit

JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)


def price(code: str = "seat") -> Price:
    return Price(
        id=PriceId(f"price_{code}"),
        code=code,
        product_id=ProductId("prod_seats"),
        currency="EUR",
        interval=Interval(Unit.MONTH, 1),
        timing=BillingTiming.IN_ADVANCE,
        meter="",
        model=PerUnit(unit_price=Decimal("12.50")),
    )


def plan(state: State = State.DRAFT, *prices: Price) -> Plan:
    return Plan(
        id=PlanId("plan_team"),
        code="team",
        display_name="Team",
        state=state,
        prices=prices,
        revision=1,
        create_time=JAN_1,
        publish_time=None if state is State.DRAFT else JAN_1,
    )


def test_publishing_opens_a_draft() -> None:
    """The instant is kept: it is when the promise was made."""
    published = plan(State.DRAFT, price()).publish(at=JAN_1)
    assert (published.state, published.publish_time, published.revision) == (State.ACTIVE, JAN_1, 2)


@pytest.mark.parametrize(
    ("state", "verb", "refusal"),
    [
        (State.ACTIVE, "publish", PlanNotDraft),
        (State.ARCHIVED, "publish", PlanNotDraft),
        (State.ACTIVE, "add", PlanNotDraft),
        (State.ARCHIVED, "add", PlanNotDraft),
        (State.DRAFT, "archive", PlanNotActive),
        (State.ARCHIVED, "archive", PlanNotActive),
    ],
)
def test_a_forbidden_transition_names_its_rule(state: State, verb: str, refusal: type[SaldoError]) -> None:
    """Nothing is silently ignored."""
    verbs = {
        "publish": lambda: plan(state, price()).publish(at=JAN_1),
        "archive": lambda: plan(state, price()).archive(),
        "add": lambda: plan(state, price()).add(price("more")),
    }
    with pytest.raises(refusal):
        verbs[verb]()


def test_archiving_closes_an_active_plan() -> None:
    """And keeps its prices, which subscribers still pay."""
    archived = plan(State.ACTIVE, price()).archive()
    assert (archived.state, archived.prices) == (State.ARCHIVED, (price(),))


def test_an_empty_plan_is_not_published() -> None:
    """It would sell nothing."""
    with pytest.raises(PlanEmpty):
        plan().publish(at=JAN_1)


def test_codes_of_prices_are_unique_and_bounded() -> None:
    """A code names one price; a plan has an end."""
    with pytest.raises(PriceCodeTaken):
        plan(State.DRAFT, price()).add(price())
    full = plan(State.DRAFT, *(price(f"p{n}") for n in range(PRICES_MAX)))
    with pytest.raises(TooManyPrices):
        full.add(price("one-more"))
