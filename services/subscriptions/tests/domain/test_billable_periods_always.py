"""What is to be billed and when, whatever happened: properties over random lives of subscriptions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from common.errors import SaldoError
from common.period import EARLIEST, Period, day_fraction
from services.subscriptions.tests.lives import DAY, EVERYTHING, MICROSECOND, Life, Style, lives
from subscriptions.domain.billable_periods import BillablePeriod, Kind, full_periods, schedule
from subscriptions.domain.change import Proration, SetQuantity, Unused
from subscriptions.domain.commitments import committed_periods
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.states import Verb
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import BillingTiming, ChangeId, ItemId, PriceId
from subscriptions.domain.track import Segment

BY_SECOND = Style(unused=(Unused.CREDIT, Unused.REFUND), prorations=(Proration.BY_SECOND,), has_once=False)
"""Everything that is taken back is given back, and no part is too short to speak of."""
BY_DAY = replace(
    BY_SECOND,
    prorations=(Proration.BY_DAY, Proration.NONE),
    steps=tuple(step for step in EVERYTHING.steps if step not in ("interval", "billing day", "reactivate")),
)
"""Periods stay where they are, so that shares of one are shares of the same."""
KEPT = replace(
    BY_SECOND,
    unused=(Unused.KEEP,),
    steps=tuple(step for step in EVERYTHING.steps if step not in ("transfer", "trial")),
)
IN_ARREARS = replace(EVERYTHING, timings=(BillingTiming.IN_ARREARS,), has_once=False)

Share = tuple[ItemId, PriceId, CustomerId]


def due(subscription: Subscription, *, through: datetime, after: datetime = EARLIEST) -> list[BillablePeriod]:
    return list(schedule([subscription], after=after, through=through).periods)


def net(billables: Iterable[BillablePeriod]) -> dict[Share, Fraction]:
    """What is owed less what is given back, in full periods of one unit."""
    sums: dict[Share, Fraction] = defaultdict(Fraction)
    for each in billables:
        sign = 1 if each.kind is Kind.OWED else -1
        sums[each.item_id, each.terms.price_id, each.customer_id] += sign * each.proration * _units(each.terms.quantity)
    return {key: value for key, value in sums.items() if value}


def _units(quantity: Decimal | None) -> Fraction:
    return Fraction(1 if quantity is None else quantity)


def everything_has_happened(life: Life) -> datetime:
    """When the last change has taken effect that is decided."""
    return max([life.end, *(change.effective_time for change in life.subscription.changes)]) + DAY


def in_advance(subscription: Subscription) -> list[tuple[ItemId, Segment]]:
    return [
        (track.item_id, segment)
        for track in subscription.tracks
        for segment in track.segments
        if segment.terms is not None and segment.terms.timing is BillingTiming.IN_ADVANCE
    ]


@given(lives())
def test_what_was_due_stays_due_as_it_was(life: Life) -> None:
    """At every moment, what could have been billed until then is in every later answer, and nothing joins it there."""
    for (now, before), (_, after) in pairwise(life.moments):
        could_be_billed = due(before, through=now)
        later = due(after, through=now)
        assert [each for each in could_be_billed if each not in later] == []
        assert [each for each in later if each not in could_be_billed and each.bill_time < now] == []
        could_be_due = committed_periods([before], after=EARLIEST, through=now)
        later_due = committed_periods([after], after=EARLIEST, through=now)
        assert [each for each in could_be_due if each not in later_due] == []
        assert [each for each in later_due if each not in could_be_due and each.bill_time < now] == []


@given(lives())
def test_what_was_known_then_answers_as_it_did(life: Life) -> None:
    """The log of today, read as of a moment, is the log of that moment."""
    for (now, then), (following, _) in pairwise(life.moments):
        if following == now:
            continue
        known = life.subscription.as_known(now)
        assert known is not None
        assert known.tracks == then.tracks
        assert due(known, through=life.end) == due(then, through=life.end)


@given(lives())
def test_a_part_has_a_key_of_its_own(life: Life) -> None:
    """Under which it is billed once for ever."""
    found = due(life.subscription, through=everything_has_happened(life))
    keys = [(each.item_id, each.terms.price_id, each.period.start, each.kind, each.change_id) for each in found]
    assert len(set(keys)) == len(found)
    assert [each.bill_time for each in found] == sorted(each.bill_time for each in found)


@given(lives(), st.lists(st.integers(0, 1_000), min_size=1, max_size=4), st.booleans())
def test_windows_add_up_to_the_whole(life: Life, days: list[int], at_moments: bool) -> None:
    """However time is cut, each period is in one piece of it; and the next bill time is where the next piece begins."""
    first = life.moments[0][0]
    cuts = sorted({now for now, _ in life.moments} if at_moments else {first + timedelta(days=each) for each in days})
    whole = due(life.subscription, through=cuts[-1])
    committed = committed_periods([life.subscription], after=EARLIEST, through=cuts[-1])
    after = EARLIEST
    pieces: list[BillablePeriod] = []
    for cut in cuts:
        found = schedule([life.subscription], after=after, through=cut)
        pieces += found.periods
        following = [part.bill_time for part in whole if part.bill_time > cut]
        if following:
            assert found.next_bill_time == min(following)
        elif found.next_bill_time is not None:
            assert found.next_bill_time > cuts[-1]
        assert committed_periods([life.subscription], after=after, through=cut) == [
            each for each in committed if after <= each.bill_time <= cut
        ]
        assert due(life.subscription, after=cut, through=cuts[-1]) == [each for each in whole if each.bill_time >= cut]
        after = cut + MICROSECOND
    assert pieces == whole


@given(lives(), st.sampled_from(["ada", "bob", "cyd"]))
def test_customers_share_the_whole(life: Life, name: str) -> None:
    """Whoever a subscription belonged to, each is told what is theirs, and when they will be billed next."""
    customer_id = CustomerId(name)
    through = life.end
    theirs = schedule([life.subscription], after=EARLIEST, through=through, customer_id=customer_id)
    later = everything_has_happened(life) + 400 * DAY
    all_of_theirs = [each for each in due(life.subscription, through=later) if each.customer_id == customer_id]
    assert list(theirs.periods) == [each for each in all_of_theirs if each.bill_time <= through]
    following = [each.bill_time for each in all_of_theirs if each.bill_time > through]
    if following:
        assert theirs.next_bill_time == min(following)
    else:
        assert theirs.next_bill_time is None or theirs.next_bill_time > later


@given(lives(BY_SECOND))
def test_every_instant_is_billed_as_it_was_agreed_in_the_end(life: Life) -> None:
    """Of every item, price and customer: what is owed less what is given back is what is wanted, always."""
    through = everything_has_happened(life)
    found = [each for each in due(life.subscription, through=through) if each.terms.timing is BillingTiming.IN_ADVANCE]
    wanted = in_advance(life.subscription)
    marks = {mark for each in found for mark in (each.period.start, each.period.end)}
    marks |= {mark for _, segment in wanted for mark in (segment.start, segment.end) if mark is not None}
    for instant in sorted(marks):
        if instant > through:
            break
        sums: dict[Share, Decimal] = defaultdict(Decimal)
        for each in found:
            if each.period.contains(instant):
                sign = 1 if each.kind is Kind.OWED else -1
                sums[each.item_id, each.terms.price_id, each.customer_id] += sign * (each.terms.quantity or 0)
        for item_id, segment in wanted:
            if segment.terms and segment.start <= instant and (segment.end is None or instant < segment.end):
                sums[item_id, segment.terms.price_id, segment.customer_id] -= segment.terms.quantity or 0
        assert [key for key, value in sums.items() if value] == []


@given(lives(BY_DAY))
def test_shares_of_days_add_up_to_what_was_agreed_in_the_end(life: Life) -> None:
    """Whatever was billed and taken back in between: nothing lost and nothing doubled, to the last fraction."""
    through = everything_has_happened(life)
    zone = life.subscription.opening.time_zone
    wanted: dict[Share, Fraction] = defaultdict(Fraction)
    for item_id, segment in in_advance(life.subscription):
        assert segment.terms is not None
        assert segment.terms.interval is not None
        for full in full_periods(segment.anchor, zone, segment.terms.interval, since=segment.start):
            if full.start > through or (segment.end is not None and segment.end <= full.start):
                break
            part = Period(max(full.start, segment.start), min(full.end, segment.end or full.end))
            if part.start <= through:
                share = day_fraction(part, full, zone) * _units(segment.terms.quantity)
                wanted[item_id, segment.terms.price_id, segment.customer_id] += share
    found = [
        each
        for each in due(life.subscription, through=through)
        # What is billed ahead may begin later than all that is wanted until then.
        if each.terms.timing is BillingTiming.IN_ADVANCE and each.period.start <= through
    ]
    assert net(found) == {key: value for key, value in wanted.items() if value}


@given(lives(KEPT))
def test_what_is_kept_covers_as_much_and_no_more_than_was_wanted(life: Life) -> None:
    """Nobody gets what is not billed, and nothing is billed twice while it is kept."""
    through = everything_has_happened(life)
    found = [each for each in due(life.subscription, through=through) if each.terms.timing is BillingTiming.IN_ADVANCE]
    known = [in_advance(subscription) for _, subscription in life.moments]
    marks = sorted({mark for each in found for mark in (each.period.start, each.period.end)})
    for instant in marks:
        if instant > through:
            break
        sums: dict[tuple[ItemId, PriceId], Decimal] = defaultdict(Decimal)
        for each in found:
            if each.period.contains(instant):
                sign = 1 if each.kind is Kind.OWED else -1
                sums[each.item_id, each.terms.price_id] += sign * (each.terms.quantity or 0)
        for key, billed in sums.items():
            ever = [_wanted(segments, key, instant) for segments in known]
            assert ever[-1] <= billed <= max(ever)


def _wanted(segments: list[tuple[ItemId, Segment]], key: tuple[ItemId, PriceId], instant: datetime) -> Decimal:
    """How many of an item and a price, by what was known at some time."""
    found = [
        segment.terms.quantity or Decimal(0)
        for item_id, segment in segments
        if segment.terms is not None
        and (item_id, segment.terms.price_id) == key
        and segment.start <= instant
        and (segment.end is None or instant < segment.end)
    ]
    return sum(found, Decimal(0))


@given(lives(IN_ARREARS))
def test_every_instant_with_terms_is_in_exactly_one_part_in_arrears(life: Life) -> None:
    """Nothing used is forgotten or billed twice, nothing is billed that was not had, and all of it in time."""
    through = life.end
    found = due(life.subscription, through=through)
    for track in life.subscription.tracks:
        parts = sorted((each.period.start, each.period.end) for each in found if each.item_id == track.item_id)
        assert all(one[1] <= other[0] for one, other in pairwise(parts))
        for segment in track.segments:
            if segment.terms is None or segment.terms.interval is None:
                assert not [part for part in parts if part[0] < (segment.end or through) and part[1] > segment.start]
                continue
            billed = sum(
                (p[1] - p[0] for p in parts if p[0] >= segment.start and p[0] < (segment.end or p[1])), 0 * DAY
            )
            zone = life.subscription.opening.time_zone
            under_way = next(
                full_periods(segment.anchor, zone, segment.terms.interval, since=max(segment.start, through))
            )
            until = min(segment.end or under_way.start, under_way.start)
            assert billed >= max(0 * DAY, until - segment.start)


@given(
    lives(replace(EVERYTHING, unused=(Unused.CREDIT, Unused.REFUND), prorations=(Proration.BY_DAY,))),
    st.integers(0, 9),
    st.sampled_from([Proration.BY_DAY, Proration.NONE]),
    st.booleans(),
)
def test_a_change_and_its_reverse_are_nothing(life: Life, quantity: int, proration: Proration, then: bool) -> None:
    """Two clicks at one moment, or a correction of what was to be: no money comes of it."""
    subscription, now = life.subscription, life.end
    try:
        there = subscription.as_of(now)
        found = [(item_id, terms) for item_id, terms in there.items.items() if terms.quantity is not None]
        assume(found)
        item_id, terms = found[0]
        decision = Decision(proration=proration, unused=Unused.CREDIT)
        changed = subscription
        for n, each in enumerate([Decimal(quantity), terms.quantity or Decimal(0)]):
            changed = changed.decide(
                [SetQuantity(item_id, each)],
                change_id=ChangeId(f"click-{n}"),
                at=now,
                verb=Verb.CHANGE,
                decision=decision,
            )
    except SaldoError:
        assume(False)
        raise
    through = everything_has_happened(life) + (100 * DAY if then else 0 * DAY)
    assert net(due(changed, through=through)) == net(due(subscription, through=through))


@given(lives())
def test_a_part_lies_in_its_full_period(life: Life) -> None:
    """And is no more of it than it says; what is billed before its time is billed as nothing else is."""
    for each in due(life.subscription, through=life.end):
        period, full = each.period, each.full_period
        assert full.start <= period.start < period.end <= full.end
        assert Fraction(0) <= each.proration <= 1
        assert each.proration == 1 or period != full
        if each.terms.timing is BillingTiming.IN_ADVANCE:
            # Ahead by civil days, one of which a clock change makes an hour longer.
            days = life.subscription.opening.bill_ahead_days
            assert each.bill_time >= period.start - days * DAY - timedelta(hours=bool(days))
        else:
            assert period.end <= each.bill_time
