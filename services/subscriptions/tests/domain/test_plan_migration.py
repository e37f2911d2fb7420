"""Migrating a subscription from plan to plan, and undoing it as if it had never been."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SaldoError
from common.period import Interval
from services.subscriptions.tests.agreed import (
    ARREARS,
    KEEP,
    MICROSECOND,
    MONTHLY,
    YEARLY,
    agree,
    at,
    change,
    due,
    next_change,
    scheduled,
    terms,
)
from subscriptions.domain import errors, verbs
from subscriptions.domain.amendment import Amendment, SwitchPlan, plans_asked
from subscriptions.domain.change import (
    Action,
    AddItem,
    Proration,
    RemoveItem,
    SetPlan,
    SetPrice,
    SetQuantity,
    Timing,
    Unused,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.plan import ContractPrice, Plan, Price
from subscriptions.domain.plan_migration import (
    CANCELLABLE,
    Outcome,
    PlanMigration,
    PlanMigrationId,
    Result,
    State,
    check_on_plan,
    is_billed,
    moved,
    reversal,
    reversal_decision,
)
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import Item, ItemId, PlanId, PriceId, ProductId, SubscriptionId, Terms

NEW = PlanId("new")
DAY = timedelta(days=1)


def price(price_id: str, product: str, *, currency: str = "EUR") -> Price:
    return Price(
        id=PriceId(price_id),
        product_id=ProductId(product),
        currency=currency,
        interval=MONTHLY,
        timing=ARREARS,
        meter="",
    )


def plan(*prices: Price, negotiated: Sequence[tuple[str, str]] = ()) -> Plan:
    """With prices negotiated with Ada, each in the place of one."""
    return Plan(
        id=NEW,
        code="new",
        is_active=True,
        is_add_on=False,
        effective_time=None,
        trial_days=0,
        prices=prices,
        contract_prices=tuple(
            ContractPrice(price=price(own, "seats"), customer_id=CustomerId("ada"), list_price_id=PriceId(listed))
            for own, listed in negotiated
        ),
    )


def of(price_id: str, product: str, quantity: int = 1) -> Terms:
    return replace(terms(price_id, quantity, timing=ARREARS), product_id=ProductId(product))


def switched(subscription: Subscription, to: Plan, successions: dict[str, str] | None = None) -> list[Action]:
    numbers = iter(range(100))
    amendment = Amendment(
        subscription, {NEW: to}, effective=at("01-10"), at=at("01-10"), new_id=lambda: ItemId(f"new-{next(numbers)}")
    )
    named = {PriceId(old): PriceId(new) for old, new in (successions or {}).items()}
    return amendment.actions([SwitchPlan(NEW, (), named)])


def prices(actions: Sequence[Action]) -> dict[str, str]:
    """By item, what becomes of it; an item that ends has no price."""
    found: dict[str, str] = {}
    for action in actions:
        match action:
            case SetPrice(item_id, wanted):
                found[item_id] = wanted.price_id
            case AddItem(item):
                found[item.id] = item.terms.price_id
            case RemoveItem(item_id):
                found[item_id] = ""
            case _:
                assert action == SetPlan(NEW)
    return found


def test_without_a_word_products_say_what_goes_on() -> None:
    """As it is when one subscription changes its plan."""
    before = agree(of("seats", "seats", 7), of("disk", "disk"))
    actions = switched(before, plan(price("seats-2", "seats"), price("support", "support")))
    assert prices(actions) == {"item-0": "seats-2", "new-0": "support", "item-1": ""}
    kept = next(action for action in actions if isinstance(action, SetPrice))
    assert kept.terms.quantity == 7


def test_a_named_price_goes_before_its_product() -> None:
    """Where two items would go on with one price, the one that was named does; the other ends."""
    before = agree(of("seats", "seats"), of("guests", "guests"))
    to = plan(price("everybody", "seats"))
    assert prices(switched(before, to)) == {"item-0": "everybody", "item-1": ""}
    assert prices(switched(before, to, {"guests": "everybody"})) == {"item-1": "everybody", "item-0": ""}
    # What was named for something that the subscription does not have changes nothing.
    assert prices(switched(before, to, {"disk": "everybody"})) == {"item-0": "everybody", "item-1": ""}
    # Who was named goes on with that or with nothing.
    both = plan(price("everybody", "seats"), price("visitors", "guests"))
    assert prices(switched(before, both, {"seats": "visitors"})) == {
        "new-0": "everybody",
        "item-0": "visitors",
        "item-1": "",
    }


def test_what_was_negotiated_is_meant_by_the_price_of_the_list() -> None:
    """On the side that is left and on the side that is taken up."""
    before = agree(of("own disk", "disk"))
    to = plan(price("seats", "seats"), price("support", "support"), negotiated=[("own disk", "disk")])
    assert prices(switched(before, to, {"disk": "support"})) == {"new-0": "seats", "item-0": "support"}
    to = plan(price("seats", "seats"), price("support", "support"), negotiated=[("own support", "support")])
    assert prices(switched(agree(of("disk", "disk")), to, {"disk": "support"})) == {
        "new-0": "seats",
        "item-0": "own support",
    }


def test_the_plan_is_asked_about() -> None:
    """With the prices that are named for it, as for any change of plan."""
    wish = SwitchPlan(NEW, (), {PriceId("seats"): PriceId("other")})
    assert plans_asked([wish], agree(), at=at("01-10")) == {NEW: []}


def migration(state: State = State.PREVIEWING, **changes: object) -> PlanMigration:
    new = PlanMigration.previewing(
        id=PlanMigrationId("pmig"),
        from_plan_id=PlanId("plan"),
        to_plan_id=NEW,
        decision=Decision(),
        successions={},
        customer_ids=(),
        at=at("01-01"),
    )
    return replace(new, state=state, **changes)  # type: ignore[arg-type] # fields of the migration


def outcome(result: Result) -> Outcome:
    return Outcome(subscription_id=SubscriptionId("sub"), result=result, update_time=at("01-02"))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("verb", "legal", "refusal"),
    [
        (PlanMigration.started, {State.PREVIEWED}, errors.PlanMigrationNotPreviewed),
        (PlanMigration.cancelled, CANCELLABLE, errors.PlanMigrationNotCancellable),
        (PlanMigration.reverting, {State.DONE, State.CANCELLED}, errors.PlanMigrationNotRevertible),
    ],
)
def test_every_verb_in_every_state(
    state: State,
    verb: Callable[[PlanMigration, object], PlanMigration],
    legal: set[State],
    refusal: type[SaldoError],
) -> None:
    """What is legal begins at the first subscription; everything else is refused by name."""
    before = migration(state, start_time=at("01-02"), cursor="sub_x")
    if state not in legal:
        with pytest.raises(refusal):
            verb(before, at("01-03"))
        return
    after = verb(before, at("01-03"))
    assert (after.cursor, after.revision, after.update_time) == ("", before.revision + 1, at("01-03"))
    assert after.state is not state


def test_what_was_stopped_before_its_start_has_nothing_to_revert() -> None:
    """It has done nothing."""
    stopped = migration(State.PREVIEWED).cancelled(at("01-02"))
    assert (stopped.state, stopped.finish_time) == (State.CANCELLED, at("01-02"))
    with pytest.raises(errors.PlanMigrationNotRevertible):
        stopped.reverting(at("01-03"))


def test_when_a_stopped_reversal_was_done_first() -> None:
    """The time at which the migration had ended stays, and reverting can be taken up again."""
    stopped = migration(State.REVERTING, start_time=at("01-02"), finish_time=at("01-03")).cancelled(at("01-04"))
    assert stopped.finish_time == at("01-03")
    assert stopped.reverting(at("01-05")).state is State.REVERTING


def test_a_walk_counts_what_it_meets_and_ends_once() -> None:
    """The cursor is where it goes on; the figures of the preview stay while those of the migration come."""
    half = migration().walked(
        [outcome(Result.WOULD_MIGRATE), outcome(Result.WOULD_SKIP)], through="b", is_end=False, at=at("01-02")
    )
    assert (half.state, half.cursor, half.revision) == (State.PREVIEWING, "b", 1)
    previewed = half.walked([outcome(Result.WOULD_MIGRATE)], through="c", is_end=True, at=at("01-03"))
    assert (previewed.state, previewed.cursor, previewed.preview_time) == (State.PREVIEWED, "", at("01-03"))
    assert previewed.walk_time == at("01-01")
    running = previewed.started(at("01-04"))
    assert running.walk_time == at("01-04")
    done = running.walked([outcome(Result.MIGRATED)], through="a", is_end=True, at=at("01-05"))
    assert (done.state, done.finish_time) == (State.DONE, at("01-05"))
    back = done.reverting(at("01-06")).walked([outcome(Result.REVERTED)], through="a", is_end=True, at=at("01-07"))
    assert (back.state, back.revert_time, back.finish_time) == (State.REVERTED, at("01-07"), at("01-05"))
    assert dict(back.counts) == {
        Result.WOULD_MIGRATE: 2,
        Result.WOULD_SKIP: 1,
        Result.MIGRATED: 1,
        Result.REVERTED: 1,
    }


def test_the_plan_that_matters_is_that_of_the_moment() -> None:
    """A subscription that is to leave the plan before it would change is not on it."""
    leaving = change(agree(), SetPlan(PlanId("other")), on="01-05", decision=scheduled("01-20"))
    check_on_plan(leaving, PlanId("plan"), at=at("01-19"))
    with pytest.raises(errors.NotOnPlan):
        check_on_plan(leaving, PlanId("plan"), at=at("01-20"))


def test_an_outcome_counts_the_items() -> None:
    """What a preview shows of each."""
    actions: list[Action] = [
        SetPlan(NEW),
        SetPrice(ItemId("a"), terms()),
        RemoveItem(ItemId("b")),
        RemoveItem(ItemId("c")),
    ]
    made = change(agree(), SetPlan(NEW), on="01-10").changes[0]
    told = moved(SubscriptionId("sub"), Result.WOULD_MIGRATE, actions, made, at=at("01-10"))
    assert (told.items_kept, told.items_added, told.items_removed) == (1, 0, 2)
    assert (told.change_id, told.effective_time) == (None, at("01-10"))
    assert moved(SubscriptionId("sub"), Result.MIGRATED, actions, made, at=at("01-10")).change_id == made.id


def migrated(before: Subscription, *, on: str | datetime, decision: Decision | None = None) -> Subscription:
    """The first item at another price, the second one gone, and another one come."""
    first, second = (item.terms for item in before.opening.items)
    return change(
        before,
        SetPlan(NEW),
        SetPrice(ItemId("item-0"), replace(first, plan_id=NEW, price_id=PriceId("new seats"))),
        RemoveItem(ItemId("item-1")),
        AddItem(Item(id=ItemId("item-2"), terms=replace(second, plan_id=NEW, price_id=PriceId("support")))),
        on=on,
        decision=decision or Decision(),
    )


def undone(after: Subscription, *, on: str | datetime) -> Subscription:
    now = at(on) if isinstance(on, str) else on
    made = after.changes[0]
    return verbs.change(
        after,
        reversal(after, made, NEW, at=now),
        change_id=next_change(after),
        at=now,
        decision=reversal_decision(after, made, at=now),
    )


def test_in_arrears_it_can_be_undone_until_the_period_ends() -> None:
    """Then everything is billed as if it had never been: same items, same prices, same periods."""
    before = agree(terms("seats", 5, timing=ARREARS), terms("disk", 2, timing=ARREARS))
    after = migrated(before, on="01-10")
    made = after.changes[0]
    assert not is_billed(after, made, NEW, at=at("01-31"))
    assert is_billed(after, made, NEW, at=at("02-01"))
    back = undone(after, on="01-20")
    assert due(back, through="12-31").periods == due(before, through="12-31").periods
    assert dict(back.as_of(at("01-20")).items) == dict(before.as_of(at("01-20")).items)
    assert back.as_of(at("01-20")).plan_id == before.opening.plan_id
    assert back.as_of(at("01-09")).items == before.as_of(at("01-09")).items


def test_in_advance_with_proration_it_is_billed_at_once() -> None:
    """The rest of the period is credited and billed anew in the very moment; by usual timing nothing can be undone."""
    after = migrated(agree(terms("seats", 5), terms("disk", 2)), on="01-10")
    assert is_billed(after, after.changes[0], NEW, at=at("01-10"))


@pytest.mark.parametrize("interval", [MONTHLY, YEARLY])
def test_without_proration_it_can_be_undone_until_the_next_period(interval: Interval) -> None:
    """The agreement has changed, and nothing that is billed has."""
    before = agree(terms("seats", 5), terms("disk", 2), start="01-31")
    new = replace(terms("new seats", 5, plan="new"), interval=interval)
    decision = Decision(proration=Proration.NONE)
    after = change(before, SetPlan(NEW), SetPrice(ItemId("item-0"), new), on="02-10", decision=decision)
    made = after.changes[0]
    assert not is_billed(after, made, NEW, at=at("02-27"))
    assert is_billed(after, made, NEW, at=at("02-28"))
    back = undone(after, on="02-20")
    without = {(each.item_id, each.terms.price_id, each.period) for each in due(before, through="2028-12-31").periods}
    assert {
        (each.item_id, each.terms.price_id, each.period) for each in due(back, through="2028-12-31").periods
    } == without


def test_what_is_billed_by_the_new_plan_counts_even_when_the_change_is_not_named() -> None:
    """Its own part of a day is nothing to bill; what follows in the evening is billed by another change's name."""
    noon, evening = at("01-10") + DAY / 2, at("01-10") + DAY * 3 / 4
    before = change(
        agree(terms("seats", 5)), SetQuantity(ItemId("item-0"), Decimal(6)), on="01-05", decision=scheduled(evening)
    )
    new = SetPrice(ItemId("item-0"), terms("new seats", 5, plan="new"))
    after = change(before, SetPlan(NEW), new, on=noon)
    made = after.changes[-1]
    assert not is_billed(after, made, NEW, at=evening - MICROSECOND)
    assert made.id not in {each.change_id for each in due(after, through=evening).periods}
    assert is_billed(after, made, NEW, at=evening)


def test_what_is_credited_counts_as_billed() -> None:
    """An item that ends with the migration is paid for: the credit may be on an invoice, though nothing else is."""
    before = agree(terms("seats", 5, timing=ARREARS), terms("disk", 2))
    after = change(before, SetPlan(NEW), RemoveItem(ItemId("item-1")), on="01-10")
    assert is_billed(after, after.changes[0], NEW, at=at("01-10"))
    kept = change(before, SetPlan(NEW), RemoveItem(ItemId("item-1")), on="01-10", decision=KEEP)
    assert not is_billed(kept, kept.changes[0], NEW, at=at("01-31"))


def test_a_quantity_that_was_set_since_stays() -> None:
    """Undoing takes nothing away that was agreed about the same item; it takes effect after that."""
    before = agree(terms("seats", 5, timing=ARREARS), terms("disk", 2, timing=ARREARS))
    after = migrated(before, on="01-10")
    grown = change(after, SetQuantity(ItemId("item-0"), Decimal(9)), on="01-15")
    back = undone(grown, on="01-20")
    assert back.changes[-1].effective_time == at("01-15")
    now = back.as_of(at("01-20")).items
    assert now[ItemId("item-0")] == terms("seats", 9, timing=ARREARS)
    assert set(now) == {ItemId("item-0"), ItemId("item-1")}


def test_what_the_old_plan_does_not_have_stands_in_the_way() -> None:
    """Somebody took it since, and nobody asked them."""
    before = agree(terms("seats", 5, timing=ARREARS), terms("disk", 2, timing=ARREARS))
    after = migrated(before, on="01-10")
    extra = AddItem(Item(id=ItemId("item-3"), terms=terms("extra", timing=ARREARS, plan="new")))
    dearer = SetPrice(ItemId("item-0"), terms("dearer", 5, timing=ARREARS, plan="new"))
    for action in (extra, dearer):
        with pytest.raises(errors.ChangedSince):
            undone(change(after, action, on="01-15"), on="01-20")
    with pytest.raises(errors.NotOnPlan):
        undone(change(after, SetPlan(PlanId("third")), on="01-15"), on="01-20")


def test_what_went_with_somebody_else_is_left_alone() -> None:
    """An item that ended since stays ended, and one that came with the migration and ended since need not end again."""
    before = agree(
        terms("seats", 5, timing=ARREARS), terms("disk", 2, timing=ARREARS), terms("phone", 2, timing=ARREARS)
    )
    after = change(
        before,
        SetPlan(NEW),
        SetPrice(ItemId("item-0"), terms("new seats", 5, timing=ARREARS, plan="new")),
        SetPrice(ItemId("item-2"), terms("new phone", 2, timing=ARREARS, plan="new")),
        AddItem(Item(id=ItemId("item-3"), terms=terms("support", timing=ARREARS, plan="new"))),
        on="01-10",
    )
    less = change(after, RemoveItem(ItemId("item-2")), RemoveItem(ItemId("item-3")), on="01-12")
    back = undone(less, on="01-20")
    now = back.as_of(at("01-20"))
    assert {each.price_id for each in now.items.values()} == {"seats", "disk"}
    assert now.plan_id == before.opening.plan_id


def test_what_was_billed_once_is_not_billed_again() -> None:
    """An item that comes back is the same item: its setup was paid."""
    once = replace(terms("setup", 1), interval=None)
    before = agree(terms("seats", 5, timing=ARREARS), once)
    after = change(
        before,
        SetPlan(NEW),
        SetPrice(ItemId("item-0"), terms("new seats", 5, timing=ARREARS, plan="new")),
        RemoveItem(ItemId("item-1")),
        on="01-10",
        decision=Decision(unused=Unused.KEEP),
    )
    back = undone(after, on="01-20")
    assert back.as_of(at("01-20")).items[ItemId("item-1")] == once
    assert [each.bill_time for each in due(back, through="12-31").periods if each.item_id == "item-1"] == [at("01-01")]


@given(
    start=st.integers(1, 31),
    after=st.integers(0, 400),
    then=st.integers(0, 60),
    proration=st.sampled_from([Proration.BY_DAY, Proration.BY_SECOND, Proration.NONE]),
    timing=st.sampled_from([Timing.NOW, Timing.PERIOD_END]),
    zone=st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe"]),
)
def test_what_can_be_undone_leaves_no_trace_in_the_bills(
    start: int, after: int, then: int, proration: Proration, timing: Timing, zone: str
) -> None:
    """In arrears, wherever in the period, by whatever measure: as soon as a bill time has come it cannot be."""
    before = agree(
        terms("seats", 5, timing=ARREARS), terms("disk", 2, timing=ARREARS), start=f"01-{start:02}", zone=zone
    )
    moved_at = at(f"01-{start:02}", zone) + after * DAY
    migrated_then = migrated(before, on=moved_at, decision=Decision(timing=timing, proration=proration))
    made = migrated_then.changes[0]
    now = moved_at + then * DAY
    end = before.period_end(max(made.effective_time, moved_at))
    assert end is not None
    if made.effective_time > now:
        back = verbs.revoke(migrated_then, made.id, at=now)
    elif is_billed(migrated_then, made, NEW, at=now):
        assert now >= end
        return
    else:
        back = undone(migrated_then, on=now)
    far = now + 800 * DAY
    assert told(back, far) == told(before, far)


def told(subscription: Subscription, through: datetime) -> list[tuple[object, ...]]:
    """What is billed, whatever change it is that made it so."""
    return [
        (each.item_id, each.terms, each.period, each.proration, each.bill_time)
        for each in due(subscription, through=through).periods
    ]
