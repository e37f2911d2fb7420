"""What a customer has to its credit: which grant is used first, and that nothing done in any order loses a cent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.money import Money
from common.period import Period
from invoicing.domain.consolidation import Bill
from invoicing.domain.covering import assigned
from invoicing.domain.credit import (
    EVERYTHING,
    Applied,
    Grant,
    GrantId,
    GrantKind,
    GrantState,
    Holding,
    HoldingKey,
    MovementKind,
    Scope,
    Source,
    Use,
    Wallet,
    taken_up,
)
from invoicing.domain.errors import CreditGrantEnded, InsufficientCredit
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line
from invoicing.domain.party import CollectionMethod, Customer, Party
from invoicing.domain.steps import flat_step

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = HoldingKey("cus_1", "EUR")
ANYTHING = Use()
CUSTOMER = Customer(
    party=Party(id="cus_1", display_name="Customer"),
    external_id="",
    currency="EUR",
    time_zone="UTC",
    net_terms_days=14,
    collection_method=CollectionMethod.SEND_INVOICE,
)


def eur(cents: int) -> Money:
    return Money(cents, "EUR")


def grant(name: str, cents: int, **told: Any) -> Grant:  # Any: fields of the grant
    known = {
        "id": GrantId(name),
        "customer_id": "cus_1",
        "amount": eur(cents),
        "kind": GrantKind.PAID,
        "priority": 100,
        "effective_time": NOW,
        "expire_time": None,
        "scope": EVERYTHING,
        "source": Source.MANUAL,
        "document_id": "",
        "note": "",
        "remaining": eur(cents),
        "reserved": eur(0),
        "expired_time": None,
        "expire_count": 0,
        "revoked_time": None,
        "revision": 1,
        "create_time": NOW,
    }
    return Grant(**{**known, **told})


def wallet(*grants: Grant, at: datetime = NOW, **told: Any) -> Wallet:  # Any: fields of the holding
    return Wallet.open(Holding(id="chol_1", key=KEY, **told), grants, at=at)


def line(cents: int, *, product_id: str = "", price_id: str = "price_1") -> Line:
    month = Period(NOW, NOW + 31 * DAY)
    return Line(
        id="line_1",
        description="Seats",
        subscription_id="sub_1",
        item_id="subi_1",
        price_id=price_id,
        period=month,
        full_period=month,
        quantity=Decimal(1),
        unit_label="",
        amount=eur(cents),
        steps=(flat_step("Fixed price", eur(cents).amount),),
        exact_amount=eur(cents).amount,
        proration=Fraction(1),
        usage=None,
        correction=0,
        product_id=product_id,
    )


def invoice(*lines: Line) -> Invoice:
    bill = Bill(currency="EUR", bill_time=NOW, lines=lines)
    return Invoice.draft(id=InvoiceId("inv_1"), customer=CUSTOMER, bill=bill, at=NOW, grace=timedelta())


def used(found: Sequence[tuple[GrantId, Money]]) -> dict[str, int]:
    return {grant_id: amount.minor for grant_id, amount in found}


# Which is used first


def test_the_order_in_which_grants_are_used() -> None:
    """Priority, then what expires sooner, then promotional before paid, then the older."""
    first_by_priority = grant("e", 1, priority=1)
    expiring = grant("d", 1, expire_time=NOW + DAY)
    expiring_later = grant("c", 1, expire_time=NOW + 2 * DAY)
    promotional = grant("b", 1, kind=GrantKind.PROMOTIONAL)
    older = grant("z", 1, create_time=NOW - DAY)
    younger = grant("a", 1)
    last_by_priority = grant("0", 1, priority=101, expire_time=NOW + DAY, kind=GrantKind.PROMOTIONAL)
    expected = [first_by_priority, expiring, expiring_later, promotional, older, younger, last_by_priority]
    for shuffled in itertools.islice(itertools.permutations(expected), 0, 5_040, 101):
        assert wallet(*shuffled).usable(NOW) == expected


def test_an_invoice_uses_grants_up_in_that_order() -> None:
    """And leaves the rest of the last one alone."""
    found, applied = wallet(grant("a", 500), grant("b", 300, kind=GrantKind.PROMOTIONAL)).apply(
        invoice(line(600)), at=NOW
    )
    assert applied == eur(600)
    assert [(each.grant.id, each.kind, each.amount) for each in found.movements] == [
        ("b", MovementKind.APPLIED, eur(300)),
        ("a", MovementKind.APPLIED, eur(300)),
    ]
    assert found.available(NOW) == eur(200)


def test_credit_covers_what_is_owed_with_tax_and_no_more() -> None:
    """What is left of it is for the next invoice."""
    assert wallet(grant("a", 3900)).apply(invoice(line(1772)), at=NOW)[0].available(NOW) == eur(2128)
    assert wallet(grant("a", 100)).apply(invoice(line(1772)), at=NOW)[1] == eur(100)


@pytest.mark.parametrize("lines", [(), (line(0),), (line(500), line(-500))])
def test_what_owes_nothing_takes_nothing(lines: tuple[Line, ...]) -> None:
    """Nor does an invoice of less than nothing, which nobody can finalize."""
    assert taken_up(invoice(*lines), [grant("a", 100)]) == []
    assert taken_up(invoice(line(1), line(-2)), [grant("a", 100)]) == []


def test_credit_does_not_buy_credit() -> None:
    """A top-up that was paid with credit would be a circle."""
    assert taken_up(replace(invoice(line(100)), top_up_rule_id="topup_1"), [grant("a", 100)]) == []


@pytest.mark.parametrize(
    "kept", [{"effective_time": NOW + DAY}, {"expire_time": NOW}, {"remaining": eur(0)}, {"reserved": eur(100)}]
)
def test_what_cannot_be_used_is_not(kept: dict[str, object]) -> None:
    """Not yet, no longer, used up, or set aside for something else."""
    effective = {"effective_time": NOW - DAY, **kept}
    assert wallet(grant("a", 100, **effective)).apply(invoice(line(100)), at=NOW)[1] == eur(0)


# Scopes


def test_a_scope_names_what_it_covers() -> None:
    """One of each that is named; nothing named is everything."""
    meant = Use(product_id="prod_1", price_id="price_1", meter="kwh", subscription_id="sub_1")
    assert EVERYTHING.covers(meant)
    assert EVERYTHING.covers(ANYTHING)
    assert Scope(product_ids=frozenset({"prod_1", "prod_2"}), meters=frozenset({"kwh"})).covers(meant)
    for other in (
        Scope(product_ids=frozenset({"prod_2"})),
        Scope(price_ids=frozenset({"price_2"})),
        Scope(meters=frozenset({"m3"})),
        Scope(subscription_ids=frozenset({"sub_2"})),
        Scope(product_ids=frozenset({"prod_1"}), meters=frozenset({"m3"})),
    ):
        assert not other.covers(meant)
        assert not other.covers(ANYTHING)


def test_a_grant_covers_only_its_lines() -> None:
    """However much of it there is."""
    only = grant("a", 1000, scope=Scope(product_ids=frozenset({"prod_1"})))
    found = taken_up(invoice(line(300, product_id="prod_1"), line(700, product_id="prod_2")), [only])
    assert used(found) == {"a": 300}


def test_grants_share_the_lines_so_that_together_they_cover_most() -> None:
    """The one that comes first can go elsewhere; the one that cannot is not kept out by it."""
    first = grant("any", 300)
    second = grant("some", 300, scope=Scope(product_ids=frozenset({"prod_1"})))
    owed = invoice(line(300, product_id="prod_1"), line(300, product_id="prod_2"))
    assert used(taken_up(owed, [first, second])) == {"any": 300, "some": 300}


def test_a_credit_line_lowers_what_the_others_are_worth() -> None:
    """A line is worth its share of the total, so that nobody covers more than is owed."""
    owed = invoice(line(300, product_id="prod_1"), line(300, product_id="prod_2"), line(-200))
    only = grant("a", 1000, scope=Scope(product_ids=frozenset({"prod_1"})))
    assert used(taken_up(owed, [only])) == {"a": 200}


amounts = st.lists(st.integers(0, 50), min_size=1, max_size=4)


@given(amounts, st.lists(st.tuples(st.integers(0, 15), st.integers(0, 60)), max_size=6))
def test_no_assignment_covers_more(given_amounts: list[int], told: list[tuple[int, int]]) -> None:
    """The most that is possible is the least cut: amounts of some, and the rooms that only these have no part in."""
    places = range(len(given_amounts))
    rooms: dict[tuple[int, ...], int] = {}
    for mask, room in told:
        key = tuple(n for n in places if mask >> n & 1)
        rooms[key] = rooms.get(key, 0) + room

    def most(of: Sequence[int]) -> int:
        """Of the first so many amounts, by the theorem of flows and cuts."""
        return min(
            sum(given_amounts[n] for n in of if n not in out)
            + sum(room for key, room in rooms.items() if any(n in out for n in key))
            for size in range(len(of) + 1)
            for out in itertools.combinations(of, size)
        )

    found = assigned(given_amounts, rooms)
    assert all(0 <= part <= amount for part, amount in zip(found, given_amounts, strict=True))
    for count in range(1, len(given_amounts) + 1):
        assert sum(found[:count]) == most(range(count))


# Whatever is done, in whatever order


class Doings:
    """A wallet to which anything is done that can be, and what must be true of it whatever that was."""

    def __init__(self) -> None:
        self.at = NOW
        self.wallet = wallet()
        self.count = itertools.count(1)
        self.reserved: dict[str, list[tuple[GrantId, Money]]] = {}
        self.applied: dict[str, list[Applied]] = {}
        self.covered = 0
        self.committed = 0

    def do(self, what: str, cents: int) -> None:
        number = next(self.count)
        match what:
            case "grant":
                told = {"expire_time": self.at + 3 * DAY} if cents % 2 else {}
                self.wallet = self.wallet.grant(grant(f"g{number}", cents, effective_time=self.at, **told))
            case "apply":
                before = len(self.wallet.movements)
                self.wallet, amount = self.wallet.apply(invoice(line(cents)), at=self.at)
                self.covered += amount.minor
                moves = self.wallet.movements[before:]
                self.applied[f"i{number}"] = [Applied(each.grant.id, each.amount, self.at) for each in moves]
            case "take back" if self.applied:
                _, parts = self.applied.popitem()
                self.wallet = self.wallet.take_back(parts, document_id="inv_1", at=self.at)
                self.covered -= sum(part.amount.minor for part in parts)
            case "reserve" if cents <= self.wallet.available(self.at).minor:
                before = len(self.wallet.movements)
                self.wallet = self.wallet.reserve(eur(cents), use=ANYTHING, document_id=f"r{number}", at=self.at)
                moves = self.wallet.movements[before:]
                self.reserved[f"r{number}"] = [(each.grant.id, each.amount) for each in moves]
            case "commit" if self.reserved:
                name, aside = self.reserved.popitem()
                used_of_it = min(cents, sum(part.minor for _, part in aside))
                # What is let go of after its time is over at once.
                self.wallet = self.wallet.commit(aside, eur(used_of_it), document_id=name).expire(at=self.at)
                self.committed += used_of_it
            case "revoke" if self.wallet.usable(self.at):
                self.wallet = self.wallet.revoke(self.wallet.usable(self.at)[0].id, at=self.at)
            case "expire":
                self.at += DAY
                self.wallet = self.wallet.expire(at=self.at)
            case _:
                pass

    def total(self, *kinds: MovementKind) -> int:
        return sum(each.amount.minor for each in self.wallet.movements if each.kind in kinds)

    def check(self) -> None:
        kind = MovementKind
        for each in self.wallet.grants:
            assert 0 <= each.reserved.minor <= each.remaining.minor <= each.amount.minor
            assert not each.is_over(self.at)
        gone = self.total(kind.EXPIRED, kind.REVOKED)
        left = sum(each.remaining.minor for each in self.wallet.grants)
        assert self.total(kind.GRANTED) == left + self.covered + self.committed + gone
        aside = sum(part.minor for parts in self.reserved.values() for _, part in parts)
        assert sum(each.reserved.minor for each in self.wallet.grants) == aside
        by_grant: dict[str, int] = {}
        for movement in self.wallet.movements:
            by_grant[movement.grant.id] = by_grant.get(movement.grant.id, 0) + 1
            assert movement.ordinal == by_grant[movement.grant.id]


doings = st.lists(
    st.tuples(
        st.sampled_from(["grant", "apply", "take back", "reserve", "commit", "revoke", "expire"]), st.integers(1, 40)
    ),
    max_size=40,
)


@example([("grant", 5), ("reserve", 3), ("expire", 1), ("expire", 1), ("expire", 1), ("commit", 1)])
@given(doings)
def test_no_order_of_doings_loses_a_cent_or_makes_one(told: list[tuple[str, int]]) -> None:
    """Whatever is granted is left, used, expired or revoked, at every moment, and never less than nothing."""
    world = Doings()
    for what, cents in told:
        world.do(what, cents)
        world.check()


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 700))
def test_what_is_reserved_is_all_or_nothing(cents: list[int], wanted: int) -> None:
    """Of several grants together, in their order; and nothing is left of one before the last that is touched."""
    having = wallet(*(grant(f"g{n}", each) for n, each in enumerate(cents)))
    if wanted > sum(cents):
        with pytest.raises(InsufficientCredit):
            having.reserve(eur(wanted), use=ANYTHING, document_id="r", at=NOW)
        return
    found = having.reserve(eur(wanted), use=ANYTHING, document_id="r", at=NOW)
    parts = [each.amount.minor for each in found.movements]
    assert sum(parts) == wanted
    assert parts[:-1] == cents[: len(parts) - 1]
    assert found.available(NOW) == eur(sum(cents) - wanted)


# Endings


def test_what_is_reserved_outlives_its_grant() -> None:
    """Whoever set it aside in time may use it; what is let go of has expired."""
    ending = wallet(grant("a", 100, expire_time=NOW + DAY))
    over = ending.reserve(eur(60), use=ANYTHING, document_id="r", at=NOW).expire(at=NOW + DAY)
    assert over.grants[0].remaining == eur(60)
    used_of_it = over.commit([(GrantId("a"), eur(60))], eur(20), document_id="r")
    assert used_of_it.available(NOW + DAY) == eur(0)
    assert used_of_it.grants[0].is_over(NOW + DAY)
    [gone] = used_of_it.expire(at=NOW + DAY).grants
    assert (gone.remaining, gone.state(NOW + DAY), gone.expire_count) == (eur(0), GrantState.EXPIRED, 2)


def test_what_comes_back_after_its_time_has_the_time_that_it_had() -> None:
    """It was used a day before it would have expired: a day is what the customer lost with a wrong invoice."""
    spent, _ = wallet(grant("a", 100, expire_time=NOW + 2 * DAY)).apply(invoice(line(100)), at=NOW + DAY)
    applied = [Applied(GrantId("a"), eur(100), NOW + DAY)]
    later = NOW + 10 * DAY
    [back] = spent.take_back(applied, document_id="inv_1", at=later).grants
    assert (back.remaining, back.expire_time) == (eur(100), later + DAY)
    [in_time] = spent.take_back(applied, document_id="inv_1", at=NOW + DAY).grants
    assert in_time.expire_time == NOW + 2 * DAY


def test_what_is_gone_cannot_be_taken_away() -> None:
    """What is reserved stays reserved."""
    with pytest.raises(CreditGrantEnded):
        wallet(grant("a", 100, reserved=eur(100))).revoke(GrantId("a"), at=NOW)
    with pytest.raises(CreditGrantEnded):
        wallet().revoke(GrantId("a"), at=NOW)
    [left] = wallet(grant("a", 100, reserved=eur(40))).revoke(GrantId("a"), at=NOW).grants
    assert (left.remaining, left.state(NOW)) == (eur(40), GrantState.ACTIVE)


def test_the_state_follows_from_the_rest() -> None:
    """Nobody stores it, so nobody can store it wrong."""
    states: dict[GrantState, dict[str, Any]] = {  # Any: fields of the grant
        GrantState.ACTIVE: {},
        GrantState.PENDING: {"effective_time": NOW + DAY},
        GrantState.DEPLETED: {"remaining": eur(0)},
        GrantState.EXPIRED: {"remaining": eur(0), "expired_time": NOW},
        GrantState.REVOKED: {"remaining": eur(0), "revoked_time": NOW, "expired_time": NOW},
    }
    assert {state: grant("a", 1, **told).state(NOW) for state, told in states.items()} == {
        state: state for state in states
    }


# Low


def test_a_balance_falls_once_until_it_has_been_back() -> None:
    """Nobody is told ten times of one thing; and each fall is one."""
    holding = Holding(id="chol_1", key=KEY, low_threshold=eur(100))
    fell = holding.moved(eur(100), eur(99))
    assert (fell.is_low, fell.low_count) == (True, 1)
    assert fell.moved(eur(99), eur(10)) == fell
    back = fell.moved(eur(10), eur(100))
    assert (back.is_low, back.low_count) == (False, 1)
    assert back.moved(eur(100), eur(0)).low_count == 2
    # What became usable with time was never seen above the threshold, and has fallen below it all the same.
    assert fell.moved(eur(500), eur(0)).low_count == 2


def test_nobody_is_told_who_does_not_want_to_know() -> None:
    """Also one that is low as soon as somebody does."""
    holding = Holding(id="chol_1", key=KEY)
    assert holding.moved(eur(100), eur(0)) == holding
    assert holding.watching(eur(50)).moved(eur(0), eur(0)).low_count == 1
    assert holding.watching(eur(50)).moved(eur(50), eur(50)).low_count == 0


def test_a_balance_says_what_there_is_of_what() -> None:
    """What can be used now, whose it was, what is set aside, what comes later, and what ends next."""
    found = wallet(
        grant("a", 100, reserved=eur(30)),
        grant("b", 50, kind=GrantKind.PROMOTIONAL, expire_time=NOW + DAY),
        grant("c", 70, effective_time=NOW + DAY, expire_time=NOW + 2 * DAY),
        grant("d", 90, effective_time=NOW - DAY, expire_time=NOW),
    ).balance(NOW)
    assert (found.available, found.paid, found.promotional) == (eur(120), eur(70), eur(50))
    assert (found.reserved, found.pending, found.next_expire_time) == (eur(30), eur(70), NOW + DAY)
