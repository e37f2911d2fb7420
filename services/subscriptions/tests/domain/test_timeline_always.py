"""What a timeline always says, and what is announced of it: properties over random lives."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.subscriptions.tests.lives import EVERYTHING, MOMENTS_MAX, Life, lives
from subscriptions.domain.billable_periods import schedule
from subscriptions.domain.change import Change
from subscriptions.domain.moments import Moment, PeriodEnded, TookEffect, announced, next_moment
from subscriptions.domain.states import State
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import BillingTiming


def tell(subscription: Subscription, *, through: datetime) -> tuple[list[Moment], Subscription]:
    """Announce, one job run after the other, what has happened by then."""
    told: list[Moment] = []
    for _ in range(MOMENTS_MAX):
        moment = next_moment(subscription)
        if moment is None or moment.time > through:
            return told, subscription
        told.append(moment)
        subscription = announced(subscription, moment)
    raise AssertionError("what happens by itself never comes to an end")


def along_the_way(life: Life) -> list[Moment]:
    """What a service that is never late announces."""
    told: list[Moment] = []
    told_through = life.moments[0][1].announced_through
    for (_, subscription), (following, _) in pairwise(life.moments):
        behind = replace(subscription, announced_through=max(told_through, subscription.announced_through))
        moments, ahead = tell(behind, through=following)
        told += moments
        told_through = ahead.announced_through
    return told


@given(lives())
def test_the_terms_of_an_item_cover_all_time_without_gap_or_overlap(life: Life) -> None:
    """From where its billing begins on, whatever was decided; and where nothing changes, nothing begins."""
    for _, subscription in life.moments:
        for belief in subscription.beliefs:
            for track in belief.tracks:
                assert track.segments[0].start >= belief.timeline.start_time
                assert track.segments[-1].end is None
                for one, other in pairwise(track.segments):
                    assert one.start < (one.end or one.start) == other.start
                    if one.terms is not None or one.cause.unused is other.cause.unused:
                        assert (one.terms, one.customer_id, one.anchor) != (
                            other.terms,
                            other.customer_id,
                            other.anchor,
                        )


@given(lives())
def test_what_is_agreed_is_what_is_billed(life: Life) -> None:
    """After the last change, once a period has begun: every item by its terms, unless all billing has stopped."""
    subscription = life.subscription
    at = max([life.end, *(each.effective_time for each in subscription.changes)]) + timedelta(days=1_500)
    then = subscription.as_of(at)
    billed = {track.item_id: track.segments[-1].terms for track in subscription.tracks}
    is_open = then.begins_billing and not (then.billing_breaks and then.billing_breaks[-1].end is None)
    if then.last_end is not None or not is_open or subscription.state_at(at) is State.PENDING:
        assert {terms for terms in billed.values() if terms and terms.timing is BillingTiming.IN_ARREARS} == set()
    else:
        assert {item_id: terms for item_id, terms in billed.items() if terms is not None} == then.items


@given(lives())
def test_beliefs_follow_each_other_to_what_is_known_now(life: Life) -> None:
    """Each holds until the next, and the last is what the subscription says itself."""
    beliefs = life.subscription.beliefs
    assert (beliefs[0].since, beliefs[-1].until) == (None, None)
    assert [each.until for each in beliefs[:-1]] == [each.since for each in beliefs[1:]]
    assert beliefs[-1].tracks == life.subscription.tracks


@given(lives())
def test_moments_are_announced_in_order_and_come_to_an_end(life: Life) -> None:
    """Each once: the next one is later, so a job that announces one by one always gets on."""
    told, _ = tell(life.subscription, through=life.end)
    assert all(one.time < other.time for one, other in pairwise(told))
    assert all(moment.happenings for moment in told)


@given(lives())
def test_whatever_was_decided_beforehand_is_told_when_it_takes_effect(life: Life) -> None:
    """Once, at its time, unless it was taken back before."""
    told: list[tuple[datetime, Change]] = [
        (moment.time, happening.change)
        for moment in along_the_way(life)
        for happening in moment.happenings
        if isinstance(happening, TookEffect)
    ]
    expected = Counter(
        change.id for change in life.subscription.standing if change.was_scheduled and change.effective_time <= life.end
    )
    assert Counter(change.id for _, change in told) == expected
    assert all(time == change.effective_time for time, change in told)


@given(lives(replace(EVERYTHING, has_once=False)), st.booleans())
def test_the_end_of_every_period_that_is_billed_is_told_once(life: Life, late: bool) -> None:
    """Invoicing wakes up by it: nothing that is due at the end of a period waits for another one."""
    moments = tell(life.subscription, through=life.end)[0] if late else along_the_way(life)
    told = Counter(
        (item_id, happening.period)
        for moment in moments
        for happening in moment.happenings
        if isinstance(happening, PeriodEnded)
        for item_id in happening.item_ids
    )
    assert [key for key, times in told.items() if times > 1] == []
    known = life.moments[0][0]
    expected = {
        (each.item_id, each.full_period)
        for each in schedule([life.subscription], after=known, through=life.end).periods
        if each.terms.timing is BillingTiming.IN_ARREARS and known < each.bill_time == each.full_period.end
    }
    assert expected - set(told) == set()
