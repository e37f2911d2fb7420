"""The life of a plan's versions: every state meets every verb, and one version gives way to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from catalog.domain.errors import (
    PlanEffectiveTooEarly,
    PlanEmpty,
    PlanHasDraft,
    PlanNotActive,
    PlanNotDraft,
    PriceCodeTaken,
    TooManyPrices,
)
from catalog.domain.plan import PRICES_MAX, Kind, Plan, PlanId, State, Terms, check_trial_days, draft
from catalog.domain.price import BillingTiming, Price, PriceId
from catalog.domain.product import ProductId
from catalog.domain.tariff import PerUnit
from common.errors import InvalidArgument, SaldoError
from common.period import Interval, Unit

JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
FEB_1 = datetime(2026, 2, 1, tzinfo=UTC)
MAR_1 = datetime(2026, 3, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


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


def terms(*prices: Price) -> Terms:
    return Terms(display_name="Team", prices=prices)


def plan(state: State = State.DRAFT, *prices: Price) -> Plan:
    published = None if state is State.DRAFT else JAN_1
    return Plan(
        id=PlanId("plan_team"),
        code="team",
        version=1,
        terms=terms(*prices),
        state=state,
        revision=1,
        create_time=JAN_1,
        publish_time=published,
        effective_time=published,
    )


def second() -> Plan:
    return draft(PlanId("plan_second"), "team", terms(price()), version=2, at=JAN_1)


def test_publishing_opens_a_draft() -> None:
    """The instant is kept: it is when the promise was made."""
    published = plan(State.DRAFT, price()).publish(at=JAN_1, effective_time=None, before=None)
    assert (published.state, published.publish_time, published.revision) == (State.ACTIVE, JAN_1, 2)
    assert (published.effective_time, published.superseded_time) == (JAN_1, None)


@pytest.mark.parametrize(
    ("state", "verb", "refusal"),
    [
        (State.ACTIVE, "publish", PlanNotDraft),
        (State.ARCHIVED, "publish", PlanNotDraft),
        (State.ACTIVE, "add", PlanNotDraft),
        (State.ARCHIVED, "add", PlanNotDraft),
        (State.ACTIVE, "rewrite", PlanNotDraft),
        (State.ARCHIVED, "rewrite", PlanNotDraft),
        (State.DRAFT, "archive", PlanNotActive),
        (State.ARCHIVED, "archive", PlanNotActive),
        (State.DRAFT, "next_version", PlanHasDraft),
    ],
)
def test_a_forbidden_transition_names_its_rule(state: State, verb: str, refusal: type[SaldoError]) -> None:
    """Nothing is silently ignored."""
    before = plan(state, price())
    verbs: dict[str, Callable[[], Plan]] = {
        "publish": lambda: before.publish(at=JAN_1, effective_time=None, before=None),
        "archive": before.archive,
        "add": lambda: before.add(price("more")),
        "rewrite": lambda: before.rewrite(terms()),
        "next_version": lambda: before.next_version(PlanId("plan_next"), [PriceId("price_next")], at=FEB_1),
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
        plan().publish(at=JAN_1, effective_time=None, before=None)


def test_codes_of_prices_are_unique_and_bounded() -> None:
    """A code names one price; a plan has an end."""
    with pytest.raises(PriceCodeTaken):
        plan(State.DRAFT, price()).add(price())
    with pytest.raises(PriceCodeTaken):
        draft(PlanId("plan_team"), "team", terms(price(), price("other"), price()), at=JAN_1)
    full = plan(State.DRAFT, *(price(f"p{n}") for n in range(PRICES_MAX)))
    with pytest.raises(TooManyPrices):
        full.add(price("one-more"))


@pytest.mark.parametrize("state", [State.ACTIVE, State.ARCHIVED])
def test_the_next_version_says_the_same_with_prices_of_its_own(state: State) -> None:
    """A price belongs to one version, for ever; everything else is to be edited from what was said last."""
    first = replace(
        plan(state, price("seat"), price("support")),
        terms=Terms(display_name="Team", kind=Kind.ADD_ON, prices=(price("seat"), price("support")), trial_days=14),
    )
    following = first.next_version(PlanId("plan_next"), [PriceId("price_a"), PriceId("price_b")], at=FEB_1)
    assert (following.id, following.code, following.version, following.state) == ("plan_next", "team", 2, State.DRAFT)
    assert (following.revision, following.create_time, following.publish_time) == (1, FEB_1, None)
    assert [(each.id, each.code, each.create_time) for each in following.prices] == [
        ("price_a", "seat", FEB_1),
        ("price_b", "support", FEB_1),
    ]
    assert replace(following.terms, prices=()) == replace(first.terms, prices=())


@pytest.mark.parametrize(
    ("effective_time", "refusal"),
    [
        (FEB_1, None),
        (JAN_1, PlanEffectiveTooEarly),
        (JAN_1 + MOMENT, None),
        (JAN_1 - MOMENT, InvalidArgument),
        (None, None),
    ],
)
def test_a_version_takes_effect_after_the_one_before(
    effective_time: datetime | None, refusal: type[SaldoError] | None
) -> None:
    """Never two at the same instant. At once is after all that happened, though a sandbox's time stands still."""
    before = plan(State.ACTIVE, price())
    if refusal is not None:
        with pytest.raises(refusal):
            second().publish(at=JAN_1, effective_time=effective_time, before=before)
    else:
        published = second().publish(at=JAN_1, effective_time=effective_time, before=before)
        assert (published.effective_time, published.publish_time) == (effective_time or JAN_1, JAN_1)


@pytest.mark.parametrize("effective_time", [None, JAN_1, FEB_1])
def test_nothing_takes_effect_before_what_is_scheduled(effective_time: datetime | None) -> None:
    """Versions are sold in the order in which they were written."""
    scheduled = plan(State.DRAFT, price()).publish(at=JAN_1, effective_time=FEB_1, before=None)
    with pytest.raises(PlanEffectiveTooEarly):
        second().publish(at=JAN_1, effective_time=effective_time, before=scheduled)
    assert second().publish(at=JAN_1, effective_time=MAR_1, before=scheduled).effective_time == MAR_1


def test_a_version_makes_way_when_the_next_takes_effect() -> None:
    """At once if that is now; else it stays open, and knows until when."""
    first = plan(State.ACTIVE, price())
    assert first.supersede(from_time=JAN_1, at=JAN_1).state is State.ARCHIVED
    waiting = first.supersede(from_time=FEB_1, at=JAN_1)
    assert (waiting.state, waiting.superseded_time, waiting.revision) == (State.ACTIVE, FEB_1, first.revision)
    assert [waiting.is_superseded(at) for at in (JAN_1, FEB_1 - MOMENT, FEB_1)] == [False, False, True]


def test_a_version_whose_successor_is_withdrawn_stays_open() -> None:
    """Otherwise nothing would be sold from then on. Once it was superseded, it stays closed."""
    waiting = plan(State.ACTIVE, price()).supersede(from_time=FEB_1, at=JAN_1)
    assert waiting.supersede(from_time=None, at=JAN_1) == plan(State.ACTIVE, price())
    over = waiting.supersede(from_time=MAR_1, at=FEB_1)
    assert (over.state, over.superseded_time) == (State.ARCHIVED, FEB_1)


@pytest.mark.parametrize(("days", "sound"), [(-1, False), (0, True), (730, True), (731, False)])
def test_a_trial_is_bounded(days: int, sound: bool) -> None:
    """Two years free are a promise; more is a typing error."""
    if sound:
        assert check_trial_days(days) == days
    else:
        with pytest.raises(InvalidArgument):
            check_trial_days(days)
