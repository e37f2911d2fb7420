"""Who has got whose invoices since when, and who does after a merge."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from services.subscriptions.tests.agreed import agree, at, change
from subscriptions.domain import verbs
from subscriptions.domain.billable_periods import schedule
from subscriptions.domain.change import SetPayer, SetQuantity, Timing
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.payer import Named, PayerLog, addressed, named_payers
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import ChangeId, ItemId

ADA, EVE, BOB = (CustomerId(name) for name in ("ada", "eve", "bob"))
DAY = timedelta(days=1)


def later(time: str) -> Decision:
    return Decision(timing=Timing.AT_TIME, effective_time=at(time))


def readdressed(subscription: Subscription, source: CustomerId, target: CustomerId, *, on: str) -> Subscription:
    new: Iterator[int] = count(1)
    return verbs.readdress(subscription, source, target, new_id=lambda: ChangeId(f"new-{next(new)}"), at=at(on))


def test_before_anybody_was_named_it_is_the_customer_itself() -> None:
    """And again after that was taken back."""
    log = PayerLog(((at("02-01"), EVE), (at("03-01"), None)))
    assert [log.at(at(time)) for time in ("01-31", "02-01", "02-28", "03-01")] == [None, EVE, EVE, None]
    assert (log.latest, PayerLog().latest, PayerLog().at(at("01-01"))) == (None, None, None)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([None, EVE, BOB]), st.booleans()), min_size=1, max_size=12)
)
def test_what_was_told_is_told_again(said: list[tuple[int, CustomerId | None, bool]]) -> None:
    """Whatever is said later: of a moment that has come, once something of the customer could be due in it."""
    log, now, is_billed = PayerLog(), at("01-01"), False
    told: dict[datetime, CustomerId | None] = {}
    for days, payer, begins in said:
        now += days * DAY
        is_billed = is_billed or begins
        if is_billed:
            told |= {each: log.at(each) for each in [*told, now]}
        since = log.next_since(now, is_billed=is_billed)
        assert since in (now, now + timedelta(microseconds=1))
        log = PayerLog((*(each for each in log.entries if each[0] < since), (since, payer)))
        assert log.at(now + DAY) == payer
        assert {each: log.at(each) for each in told} == told


def test_two_who_took_their_time_before_their_turn_stay_in_order() -> None:
    """The clock of the second was behind: what it says comes after what was said."""
    log = PayerLog(((at("02-01"), EVE),))
    assert log.next_since(at("01-31"), is_billed=False) == at("02-01")


def test_each_period_goes_to_who_pays_at_its_bill_time() -> None:
    """Named by the subscription first, then by its customer, of whom others may have none."""
    subscription = change(agree(start="01-01"), SetPayer(BOB), on="01-10", decision=later("03-15"))
    periods = schedule([subscription], after=at("01-01"), through=at("04-01")).periods
    log = PayerLog(((at("02-01"), EVE),))
    assert [each.payer_id for each in addressed(periods, {ADA: log})] == [None, EVE, EVE, BOB]
    assert list(addressed(periods, {EVE: log})) == list(periods)
    assert addressed(periods, {}) is periods


def test_whom_a_subscription_names_when() -> None:
    """From what it began with, which counts for its first bill too; of what is said for one moment the last."""
    assert named_payers(agree()) == []
    first = at("01-01")
    named = agree(payer="eve")
    assert named_payers(named) == [Named(first, None, EVE)]
    named = change(named, SetPayer(None), on="01-10", decision=later("03-01"))
    named = change(named, SetPayer(BOB), on="01-11", decision=later("03-01"))
    assert named_payers(named) == [Named(first, at("03-01"), EVE), Named(at("03-01"), None, BOB)]
    ahead = agree(start="03-01", known="01-01", payer="eve")
    assert named_payers(change(ahead, SetPayer(None), on="01-10")) == [
        Named(at("01-01"), at("01-10"), EVE),
        Named(at("01-10"), None, None),
    ]


def test_the_target_is_named_wherever_the_source_was_to_be() -> None:
    """Now, and by what is scheduled, with whatever else that does; what was stays."""
    before = agree(payer="eve")
    before = change(before, SetPayer(BOB), on="01-05", decision=later("02-05"))
    before = change(
        before, SetPayer(EVE), SetQuantity(ItemId("item-0"), Decimal(9)), on="01-06", decision=later("03-05")
    )
    after = readdressed(before, EVE, CustomerId("tom"), on="01-20")
    assert [each.payer_id for each in named_payers(after)] == ["eve", "tom", "bob", "tom"]
    assert after.revision == before.revision + 1
    assert after.as_of(at("03-05")).items[ItemId("item-0")].quantity == 9
    [revoked] = [each for each in after.changes if each.revoked_time is not None]
    assert revoked.id == before.changes[-1].id
    undone = verbs.revoke(after, after.changes[-1].id, at=at("01-21"))
    assert [each.payer_id for each in named_payers(undone)] == ["eve", "tom", "bob"]
    through = at("01-20")
    known = [schedule([each], after=at("01-01"), through=through).periods for each in (before, after)]
    assert known[0] == known[1]


def test_nobody_is_named_to_pay_for_itself() -> None:
    """The target's own, whether it was named or comes to be; and what names neither is as it was."""
    for payer in ("eve", "ada"):
        after = readdressed(agree(payer=payer), EVE, ADA, on="01-20")
        assert [each.payer_id for each in named_payers(after)] == [payer, None]
    for untouched in (agree(), agree(payer="bob")):
        assert readdressed(untouched, EVE, ADA, on="01-20") is untouched
