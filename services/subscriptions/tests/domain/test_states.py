"""Which verb is legal in which state: every pair, and the table in the docs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from common.errors import FailedPrecondition
from services.subscriptions.tests.agreed import (
    agree,
    at,
    cancelled,
    change,
    next_change,
    paused,
    reactivated,
    resumed,
    scheduled,
)
from subscriptions.domain import verbs
from subscriptions.domain.change import SetQuantity
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.states import LEGAL, REFUSALS, State, Verb
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import ItemId
from subscriptions.domain.timeline import Activation

ON = "01-15"
BY_HAND = agree(activation=Activation.BY_HAND, deadline="01-20")
IN: dict[State, Subscription] = {
    State.PENDING: BY_HAND,
    State.TRIALING: agree(trial_days=30),
    State.ACTIVE: agree(),
    State.PAST_DUE: agree().followed_up(True, at=at("01-10")),
    State.PAUSED: paused(agree(), on="01-10"),
    State.CANCELLED: cancelled(agree(), on="01-10"),
}
"""One subscription in every state, as it is on 15 January."""
DO: dict[Verb, Callable[[Subscription], Subscription]] = {
    Verb.ACTIVATE: lambda it: verbs.activate(it, change_id=next_change(it), at=at(ON)),
    Verb.CHANGE: lambda it: change(it, SetQuantity(ItemId("item-0"), Decimal(2)), on=ON),
    Verb.EXTEND_TRIAL: lambda it: verbs.move_trial_end(it, at("03-15"), change_id=next_change(it), at=at(ON)),
    Verb.END_TRIAL: lambda it: verbs.move_trial_end(it, at(ON), change_id=next_change(it), at=at(ON)),
    Verb.PAUSE: lambda it: paused(it, on=ON, service=it.state_at(at(ON)) is not State.PAUSED),
    Verb.RESUME: lambda it: resumed(it, on=ON),
    Verb.TRANSFER: lambda it: verbs.transfer(it, CustomerId("bob"), change_id=next_change(it), at=at(ON)),
    Verb.CANCEL: lambda it: cancelled(it, on=ON),
    Verb.REVOKE_CANCELLATION: lambda it: verbs.revoke_cancellation(it, new_id=lambda: next_change(it), at=at(ON)),
    Verb.REACTIVATE: lambda it: reactivated(it, on=ON),
}
BECOMES: dict[Verb, dict[State, State]] = {
    Verb.ACTIVATE: {State.PENDING: State.ACTIVE},
    Verb.END_TRIAL: {State.TRIALING: State.ACTIVE},
    Verb.PAUSE: {State.ACTIVE: State.PAUSED, State.PAST_DUE: State.PAUSED},
    Verb.RESUME: {State.PAUSED: State.ACTIVE},
    Verb.CANCEL: dict.fromkeys(State, State.CANCELLED),
    Verb.REACTIVATE: {State.CANCELLED: State.ACTIVE},
}
"""Where a verb leads; to where it was, if nothing is said."""
WHEN_READY: dict[Verb, Callable[[Subscription], Subscription]] = {
    # Served and not billed, there is something to resume.
    Verb.RESUME: lambda it: it if it.state_at(at(ON)) is State.PAUSED else paused(it, on="01-12", service=False),
    Verb.REVOKE_CANCELLATION: lambda it: cancelled(it, on="01-12", decision=scheduled("02-10")),
    # Where only service is paused, billing can be.
    Verb.PAUSE: lambda it: (
        it if it.state_at(at(ON)) is not State.PAUSED else paused(agree(), on="01-10", billing=False)
    ),
}
"""What must be decided before a verb has something to work on."""


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", Verb)
def test_every_verb_moves_or_names_the_rule(verb: Verb, state: State) -> None:
    """No pair of state and verb is left to chance; what moves is a new revision, what does not is untouched."""
    before = IN[state]
    assert before.state_at(at(ON)) is state
    if state in LEGAL[verb]:
        before = WHEN_READY[verb](before) if verb in WHEN_READY else before
        after = DO[verb](before)
        assert after.state_at(at(ON)) is BECOMES.get(verb, {}).get(state, state)
        assert (after.revision, after.update_time) == (before.revision + 1, at(ON))
    else:
        with pytest.raises(REFUSALS[verb]) as refusal:
            DO[verb](before)
        assert type(refusal.value) is REFUSALS[verb]
        assert refusal.value.metadata["subscription"] == "sub"


@pytest.mark.parametrize("verb", Verb)
def test_the_rules_cover_every_verb(verb: Verb) -> None:
    """A verb that is legal nowhere or everywhere needs no rule, and there is none."""
    assert frozenset() < LEGAL[verb] < frozenset(State)
    assert issubclass(REFUSALS[verb], FailedPrecondition)
