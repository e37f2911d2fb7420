"""What comes of several grants, and which plans entitle when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument
from common.period import Interval, Unit
from subscriptions.domain import verbs
from subscriptions.domain.change import EndReason, SetAddOn, SetPlan
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import (
    Enabled,
    FeatureKind,
    Grant,
    Limit,
    Origin,
    OriginKind,
    Override,
    OverrideId,
    PlanEntitlement,
    Quota,
    Source,
    Unlimited,
    check_fit,
    effective_set,
    merged,
    plans_of,
    plans_taken,
    sources,
)
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import (
    BillingTiming,
    ChangeId,
    Item,
    ItemId,
    PlanId,
    PriceId,
    ProductId,
    SubscriptionId,
    Terms,
)
from subscriptions.domain.timeline import Activation

JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BOB = CustomerId("ada"), CustomerId("bob")
TEAM, BIG, MORE = PlanId("team"), PlanId("big"), PlanId("more")
MONTH, DAY = Interval(Unit.MONTH, 1), Interval(Unit.DAY, 1)


def day(n: int) -> datetime:
    return JAN_1 + timedelta(days=n)


def of_plan(grant: Grant, plan_id: PlanId = TEAM) -> Origin:
    source = Source(kind=OriginKind.BASE, subscription_id=SubscriptionId("sub"), plan_id=plan_id, start_time=JAN_1)
    return Origin(source=source, grant=grant)


def override(grant: Grant, *, feature: str = "projects", end: datetime | None = None) -> Override:
    return Override(
        id=OverrideId("eov"),
        customer_id=ADA,
        feature=feature,
        grant=grant,
        reason="agreed",
        start_time=JAN_1,
        end_time=end,
    )


def agree(
    *, start: datetime = JAN_1, trial_days: int = 0, activation: Activation = Activation.ON_START
) -> Subscription:
    terms = Terms(
        plan_id=TEAM,
        price_id=PriceId("price"),
        product_id=ProductId("product"),
        interval=MONTH,
        timing=BillingTiming.IN_ADVANCE,
        meter="",
        quantity=Decimal(1),
    )
    return Subscription.agree(
        id=SubscriptionId("sub"),
        customer_id=ADA,
        plan_id=TEAM,
        items=(Item(id=ItemId("seats"), terms=terms),),
        currency="EUR",
        time_zone="UTC",
        start_time=start,
        billing_day=0,
        trial_days=trial_days,
        at=JAN_1,
        activation=activation,
        activation_deadline=None if activation is Activation.ON_START else day(90),
    )


def found(subscription: Subscription, at: datetime, customer_id: CustomerId = ADA) -> list[tuple[PlanId, datetime]]:
    return [(each.plan_id, each.start_time) for each in sources(subscription, customer_id, at=at)]


def change(n: int) -> ChangeId:
    return ChangeId(f"chg{n}")


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ([Enabled(False), Enabled(True)], [Enabled(True)]),
        ([Enabled(False), Enabled(False)], [Enabled(False)]),
        ([Limit(Decimal("0.1")), Limit(Decimal("0.2"))], [Limit(Decimal("0.3"))]),
        ([Limit(Decimal(1)), Unlimited()], [Unlimited()]),
        ([Quota(Decimal(1), DAY), Unlimited()], [Unlimited()]),
        ([Quota(Decimal(1), MONTH), Quota(Decimal(2), MONTH)], [Quota(Decimal(3), MONTH)]),
        ([Quota(Decimal(1), MONTH), Quota(Decimal(2), DAY)], [Quota(Decimal(2), DAY), Quota(Decimal(1), MONTH)]),
        (
            [Quota(Decimal(1), Interval(Unit.YEAR, 1)), Quota(Decimal(2), Interval(Unit.MONTH, 12))],
            [Quota(Decimal(3), Interval(Unit.YEAR, 1))],
        ),
        (
            [Quota(Decimal(1), Interval(Unit.WEEK, 2)), Quota(Decimal(2), Interval(Unit.DAY, 14))],
            [Quota(Decimal(3), Interval(Unit.WEEK, 2))],
        ),
        # Thirty days are not a month.
        (
            [Quota(Decimal(1), MONTH), Quota(Decimal(2), Interval(Unit.DAY, 30))],
            [Quota(Decimal(2), Interval(Unit.DAY, 30)), Quota(Decimal(1), MONTH)],
        ),
        ([], []),
    ],
)
def test_grants_of_one_feature_come_together(grants: Sequence[Grant], expected: Sequence[Grant]) -> None:
    """By the convention that the contract states."""
    assert merged([of_plan(grant) for grant in grants]) == tuple(expected)


def test_large_and_small_limits_add_up_exactly() -> None:
    """A limit has up to 38 digits; none of them may be lost beside another."""
    large, small = Decimal("9" * 26 + "." + "9" * 12), Decimal("0.000000000001")
    assert merged([of_plan(Limit(large)), of_plan(Limit(small))]) == (Limit(Decimal(10**26)),)


grants_of_a_quota = st.lists(
    st.builds(
        Quota,
        st.decimals(0, 10**6, places=3),
        st.builds(Interval, st.sampled_from(list(Unit)), st.integers(1, 10)),
    ),
    max_size=8,
)


@given(grants_of_a_quota, st.randoms(use_true_random=False))
def test_the_order_of_origins_never_matters(grants: list[Quota], random: object) -> None:
    """A customer does not have more for having subscribed in another order; and nothing is lost on the way."""
    shuffled = list(grants)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis has no type for it
    one, other = (merged([of_plan(each) for each in order]) for order in (grants, shuffled))
    amounts = [[each.quota for each in result if isinstance(each, Quota)] for result in (one, other)]
    assert amounts[0] == amounts[1]
    assert sum(amounts[0]) == sum(each.quota for each in grants)


@given(st.lists(st.builds(Limit, st.decimals(0, 1000, places=2)), max_size=5), st.decimals(0, 1000, places=2))
def test_an_override_is_all_there_is(of_plans: list[Limit], limit: Decimal) -> None:
    """Whatever plans grant, more or less, or without limit."""
    decided = override(Limit(limit))
    origins = [Origin(source=decided, grant=decided.grant), *(of_plan(each) for each in of_plans)]
    assert merged(origins) == (Limit(limit),)
    assert merged([*origins, of_plan(Unlimited())]) == (Limit(limit),)


def test_the_set_names_every_feature_once_with_all_its_origins() -> None:
    """Sorted by code, an override first; also of features that only one of them has."""
    base = Source(kind=OriginKind.BASE, subscription_id=SubscriptionId("sub"), plan_id=TEAM, start_time=JAN_1)
    more = replace(base, kind=OriginKind.ADD_ON, plan_id=MORE)
    plans = {
        TEAM: [PlanEntitlement("sso", Enabled(True)), PlanEntitlement("projects", Limit(Decimal(5)))],
        MORE: [PlanEntitlement("projects", Limit(Decimal(2)))],
    }
    decided = override(Unlimited(), feature="calls")
    entitlements = effective_set([base, more], [decided], plans)
    assert [(each.feature, each.grants, [origin.source for origin in each.origins]) for each in entitlements] == [
        ("calls", (Unlimited(),), [decided]),
        ("projects", (Limit(Decimal(7)),), [base, more]),
        ("sso", (Enabled(True),), [base]),
    ]


@pytest.mark.parametrize("kind", FeatureKind)
@pytest.mark.parametrize("grant", [Enabled(True), Limit(Decimal(1)), Quota(Decimal(1), MONTH), Unlimited()])
def test_a_feature_is_granted_in_its_own_way(kind: FeatureKind, grant: Grant) -> None:
    """A limit of a switch would be nothing that anybody could check."""
    fits = {
        FeatureKind.SWITCH: (Enabled,),
        FeatureKind.LIMIT: (Limit, Unlimited),
        FeatureKind.QUOTA: (Quota, Unlimited),
    }
    if isinstance(grant, fits[kind]):
        check_fit(kind, grant, field="grant")
        return
    with pytest.raises(InvalidArgument) as refusal:
        check_fit(kind, grant, field="grant")
    assert [each.field for each in refusal.value.violations] == ["grant"]


def test_an_override_holds_from_its_start_up_to_its_end() -> None:
    """Half-open, like all times here."""
    decided = override(Unlimited(), end=day(3))
    assert [decided.is_in_force(at) for at in (day(-1), JAN_1, day(2), day(3))] == [False, True, True, False]


def test_a_subscription_entitles_while_it_is_served() -> None:
    """Trial, activity and delay of payment; neither before, nor in a pause of service, nor after the end."""
    subscription = agree(start=day(5), trial_days=10)
    assert found(subscription, day(4)) == []
    assert found(subscription, day(5)) == found(subscription, day(16)) == [(TEAM, day(5))]
    late = replace(subscription, is_followed_up=True)
    assert found(late, day(16)) == [(TEAM, day(5))]
    paused = verbs.pause(late, change_id=change(1), at=day(20))
    resumed = verbs.resume(paused, change_id=change(2), at=day(22))
    ended = verbs.cancel(resumed, change_id=change(3), at=day(30), reason=EndReason.REQUESTED)
    again = verbs.reactivate(ended, change_id=change(4), at=day(33))
    assert [found(again, day(n)) for n in (19, 20, 22, 29, 30, 33)] == [
        [(TEAM, day(5))],
        [],
        [(TEAM, day(22))],
        [(TEAM, day(22))],
        [],
        [(TEAM, day(33))],
    ]


def test_a_pause_of_billing_alone_takes_nothing_away() -> None:
    """Service goes on, and has never stopped."""
    paused = verbs.pause(agree(), change_id=change(1), at=day(3), service=False)
    resumed = verbs.resume(paused, change_id=change(2), at=day(6))
    assert found(resumed, day(4)) == found(resumed, day(7)) == [(TEAM, JAN_1)]


@pytest.mark.parametrize("activation", [Activation.ON_FIRST_PAYMENT, Activation.BY_HAND])
def test_what_waits_for_activation_entitles_to_nothing(activation: Activation) -> None:
    """Otherwise nobody would pay the first time."""
    waiting = agree(activation=activation)
    assert found(waiting, day(2)) == []
    active = verbs.activate(waiting, change_id=change(1), at=day(3))
    assert (found(active, day(2)), found(active, day(4))) == ([], [(TEAM, day(3))])


def test_plans_and_add_ons_count_from_their_own_moments() -> None:
    """Of one subscription, as they were at the time that is asked about."""
    subscription = agree()
    for n, actions in ((2, SetAddOn(MORE, is_taken=True)), (4, SetPlan(BIG)), (6, SetAddOn(MORE, is_taken=False))):
        subscription = verbs.change(subscription, [actions], change_id=change(n), at=day(n), decision=Decision())
    assert [found(subscription, day(n)) for n in (1, 3, 5, 7)] == [
        [(TEAM, JAN_1)],
        [(TEAM, JAN_1), (MORE, day(2))],
        [(BIG, day(4)), (MORE, day(2))],
        [(BIG, day(4))],
    ]
    assert [each.kind for each in sources(subscription, ADA, at=day(5))] == [OriginKind.BASE, OriginKind.ADD_ON]
    assert plans_of(subscription) == {TEAM, BIG, MORE}
    assert plans_taken(subscription.changes[1].actions) == {BIG}


def test_a_transfer_entitles_somebody_else() -> None:
    """From its moment on; the time before stays the first one's."""
    moved = verbs.transfer(agree(), BOB, change_id=change(1), at=day(3))
    assert [(found(moved, day(n), ADA), found(moved, day(n), BOB)) for n in (2, 3)] == [
        ([(TEAM, JAN_1)], []),
        ([], [(TEAM, day(3))]),
    ]
