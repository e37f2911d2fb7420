"""Which lines share an invoice: by the policy that is nearest to each, and never what may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money, sum_money
from common.period import Period
from invoicing.domain.consolidation import Bill, consolidate
from invoicing.domain.consolidation_policy import (
    ALWAYS,
    KEYS_MAX,
    SOURCES_MAX,
    Arrangement,
    Consolidation,
    ConsolidationPolicy,
    Difference,
    KeyValue,
    PolicyId,
    Scope,
    checked_keys,
)
from invoicing.domain.errors import ConsolidationKeyUnknown, TooManyConsolidationKeys
from invoicing.domain.line import Line
from invoicing.domain.lines_due import Due
from invoicing.domain.party import CollectionMethod, Customer
from invoicing.domain.sections import sections

from .arrangements import customer

AUGUST = Period(datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC))
CUSTOMERS = {
    "payer": customer("payer", purchase_order="PO-1"),
    "ada": customer("ada", custom_fields={"team": "blue"}),
    "bob": customer("bob", purchase_order="PO-2", custom_fields={"team": "red"}),
    "other": customer("other", net_terms_days=30, collection_method=CollectionMethod.CHARGE_AUTOMATICALLY),
}


def due(
    subscription: str = "sub_1",
    *,
    by: str = "payer",
    payer: str = "payer",
    currency: str = "EUR",
    plan: str = "plan_1",
    minor: int = 100,
    can_wait: bool = False,
) -> Due:
    line = Line(
        id="",
        description="Seats",
        subscription_id=subscription,
        item_id=f"item of {subscription}",
        price_id="price",
        period=AUGUST,
        full_period=AUGUST,
        quantity=Decimal(1),
        unit_label="",
        amount=Money(minor, currency),
        steps=(),
        exact_amount=Decimal(minor) / 100,
        proration=Fraction(1),
        usage=None,
        correction=0,
        customer_id="" if by == payer else by,
    )
    return Due(line=line, bill_time=AUGUST.end, can_wait=can_wait, customer_id=by, payer_id=payer, plan_id=plan)


def policy(*keys: str, scope: Scope = Scope.SELLER, of: str = "") -> ConsolidationPolicy:
    return ConsolidationPolicy(
        id=PolicyId(f"cpol of {scope.name} {of}"),
        scope=scope,
        scope_id=of,
        keys=checked_keys(keys),
        revision=1,
        create_time=AUGUST.start,
        update_time=AUGUST.start,
    )


def arranged(*policies: ConsolidationPolicy, customers: Mapping[str, Customer] = CUSTOMERS) -> Arrangement:
    return Arrangement(customers=customers, policies={(each.scope, each.scope_id): each for each in policies})


def subscriptions(bills: Sequence[Bill]) -> list[list[str]]:
    return [[line.subscription_id for line in bill.lines] for bill in bills]


def test_where_nothing_is_declared_all_of_a_currency_is_together() -> None:
    """As it was before anything could be declared."""
    bills = consolidate([due("a"), due("b", currency="USD"), due("c", by="ada", plan="plan_2")], arranged())
    assert subscriptions(bills) == [["a", "c"], ["b"]]
    assert [bill.consolidation.fingerprint for bill in bills] == ["", ""]
    assert bills[0].consolidation == Consolidation(
        keys=(
            KeyValue("payer", "payer"),
            KeyValue("currency", "EUR"),
            KeyValue("collection_method", "SEND_INVOICE"),
            KeyValue("net_terms", "14"),
        )
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("customer", [["b"], ["c"], ["a", "d"]]),
        ("subscription", [["a"], ["b"], ["c"], ["d"]]),
        ("plan", [["a", "b", "c"], ["d"]]),
        ("purchase_order", [["a", "d", "b"], ["c"]]),  # ada has none: it is the payer's
        ("custom.team", [["a", "d"], ["b"], ["c"]]),
        ("custom.unknown", [["a", "d", "b", "c"]]),
        ("currency", [["a", "d", "b", "c"]]),
    ],
)
def test_each_key_keeps_apart_what_differs_by_it(key: str, expected: list[list[str]]) -> None:
    """What the payer used itself is first on each."""
    lines = [due("a"), due("b", by="ada"), due("c", by="bob"), due("d", plan="plan_2")]
    assert subscriptions(consolidate(lines, arranged(policy(key)))) == expected


def test_what_may_not_share_an_invoice_never_does() -> None:
    """Whoever pays by other terms gets an invoice of its own, whatever is declared."""
    lines = [due("a"), due("b", payer="other", by="other"), due("c", payer="other", by="ada", currency="USD")]
    for found in (arranged(), arranged(policy("plan")), arranged(policy(scope=Scope.CUSTOMER, of="other"))):
        assert sorted(subscriptions(consolidate(lines, found))) == [["a"], ["b"], ["c"]]


def test_the_nearest_policy_counts() -> None:
    """That of the subscription before that of whoever gets the invoice, and that before the seller's."""
    seller, payer = policy("subscription"), policy("plan", scope=Scope.CUSTOMER, of="payer")
    own = policy("custom.team", scope=Scope.SUBSCRIPTION, of="b")
    lines = [due("a"), due("b"), due("c"), due("d", by="other", payer="other"), due("e", by="other", payer="other")]
    bills = consolidate(lines, arranged(seller, payer, own))
    assert sorted(subscriptions(bills)) == [["a", "c"], ["b"], ["d"], ["e"]]
    told = {bill.lines[0].subscription_id: [source.scope for source in bill.consolidation.sources] for bill in bills}
    assert told == {"a": [Scope.CUSTOMER], "b": [Scope.SUBSCRIPTION], "d": [Scope.SELLER], "e": [Scope.SELLER]}


def test_what_a_child_declares_says_nothing_of_the_invoices_of_its_payer() -> None:
    """Who gets the invoices decides how they are arranged."""
    own = policy("subscription", scope=Scope.CUSTOMER, of="ada")
    assert subscriptions(consolidate([due("a", by="ada"), due("b", by="ada")], arranged(own))) == [["a", "b"]]
    alone = [due("a", by="ada", payer="ada"), due("b", by="ada", payer="ada")]
    assert subscriptions(consolidate(alone, arranged(own))) == [["a"], ["b"]]


def test_a_subscription_is_set_apart_or_brought_back() -> None:
    """By a policy of its own: with its own key it is alone, with none it is with all that nothing keeps apart."""
    seller = policy("plan")
    alone = policy("subscription", scope=Scope.SUBSCRIPTION, of="b")
    assert subscriptions(consolidate([due("a"), due("b"), due("c")], arranged(seller, alone))) == [["a", "c"], ["b"]]
    back = [policy(scope=Scope.SUBSCRIPTION, of=each) for each in ("a", "b")]
    lines = [due("a"), due("b", plan="plan_2"), due("c")]
    bills = consolidate(lines, arranged(seller, *back))
    assert subscriptions(bills) == [["a", "b"], ["c"]]
    assert [source.scope_id for source in bills[0].consolidation.sources] == ["a", "b"]


def test_as_many_policies_are_kept_as_one_invoice_needs() -> None:
    """Each of very many subscriptions may have one that says the same."""
    names = [f"sub_{n:04}" for n in range(SOURCES_MAX + 1)]
    own = [policy("plan", scope=Scope.SUBSCRIPTION, of=each) for each in names]
    [bill] = consolidate([due(each) for each in names], arranged(*own))
    assert len(bill.consolidation.sources) == SOURCES_MAX


def test_what_joins_a_draft_adds_who_declared_its_keys() -> None:
    """Lines with the same keys may have them from another policy; each is told once, the nearest first."""
    one, two = (Consolidation(sources=(policy("plan", scope=Scope.SUBSCRIPTION, of=each).source,)) for each in "ab")
    seller = Consolidation(sources=(policy("plan").source,))
    joined = seller.beside(two).beside(one).beside(two)
    assert joined.sources == (*one.sources, *two.sources, *seller.sources)


def test_what_can_wait_waits_for_company_with_the_same_keys() -> None:
    """A correction of one subscription is not sent on the invoice of another that is to be apart."""
    late = due("a", minor=5, can_wait=True)
    assert subscriptions(consolidate([late, due("b")], arranged(policy("subscription")))) == [["b"]]
    assert subscriptions(consolidate([late, due("b")], arranged())) == [["a", "b"]]


def test_differences_are_told_by_key() -> None:
    """With what either has, and nothing where it has no such key."""
    one = Consolidation(keys=(KeyValue("payer", "p"), KeyValue("currency", "EUR"), KeyValue("plan", "x")))
    two = Consolidation(keys=(KeyValue("payer", "p"), KeyValue("currency", "USD"), KeyValue("customer", "c")))
    assert one.differences(two) == [
        Difference("currency", "EUR", "USD"),
        Difference("plan", "x", None),
        Difference("customer", None, "c"),
    ]
    assert one.differences(one) == []


def test_the_fingerprint_is_that_of_what_was_declared() -> None:
    """Drafts are told apart by it; who pays and in what is told apart beside it."""
    plain = Consolidation(keys=(KeyValue("payer", "p"), KeyValue("net_terms", "14")))
    assert plain.fingerprint == ""
    first, second = (Consolidation(keys=(*plain.keys, KeyValue("plan", each))) for each in ("x", "y"))
    assert len({first.fingerprint, second.fingerprint, ""}) == 3
    moved = Consolidation(keys=(KeyValue("payer", "q"), KeyValue("plan", "x")))
    assert moved.fingerprint == first.fingerprint


def test_keys_are_those_that_lines_have() -> None:
    """In one order, each once."""
    assert checked_keys(["plan", "custom.cost_center", "customer", "plan"]) == (
        "custom.cost_center",
        "customer",
        "plan",
    )
    assert checked_keys([]) == ()
    for wrong in ("", "Plan", "custom.", "custom.UP", "custom." + "x" * 41, "price", "custom.a b", "plan "):
        with pytest.raises(ConsolidationKeyUnknown) as refusal:
            checked_keys(["plan", wrong])
        assert refusal.value.field == "keys[1]"
    with pytest.raises(TooManyConsolidationKeys):
        checked_keys([f"custom.x{n}" for n in range(KEYS_MAX + 1)])
    assert len(checked_keys([f"custom.x{n}" for n in range(KEYS_MAX)])) == KEYS_MAX


def test_sections_are_by_who_used_it_and_for_what() -> None:
    """In the order printed, with what each comes to, and as far as it is known how it is called."""
    lines = [due("a").line, due("b", minor=7).line, due("c", by="ada").line, due("a", minor=3).line]
    own, ada = sections(lines, customer_id="payer", currency="EUR", names={"ada": "Ada", "b": "Gas"})
    assert (own.customer_id, own.subtotal) == ("payer", Money(110, "EUR"))
    assert [(each.subscription_id, each.subtotal.minor) for each in own.subscriptions] == [("a", 103), ("b", 7)]
    assert (ada.customer_id, ada.subtotal) == ("ada", Money(100, "EUR"))
    assert [own.display_name, ada.display_name] == ["", "Ada"]
    assert [each.display_name for each in (*own.subscriptions, *ada.subscriptions)] == ["", "Gas", ""]
    assert [len(each.lines) for each in own.subscriptions] == [2, 1]
    assert sections([], customer_id="payer", currency="EUR", names={}) == ()


lines_owed = st.lists(
    st.builds(
        due,
        st.sampled_from(["s1", "s2", "s3"]),
        by=st.sampled_from(["payer", "ada", "bob"]),
        payer=st.sampled_from(["payer", "other"]),
        currency=st.sampled_from(["EUR", "USD"]),
        plan=st.sampled_from(["p1", "p2"]),
        minor=st.integers(0, 1000),
    ),
    max_size=12,
)
declared_keys = st.lists(
    st.sampled_from(["customer", "subscription", "plan", "purchase_order", "custom.team", *ALWAYS]), max_size=4
)
places = [
    (Scope.SELLER, ""),
    (Scope.CUSTOMER, "payer"),
    (Scope.CUSTOMER, "other"),
    (Scope.SUBSCRIPTION, "s1"),
    (Scope.SUBSCRIPTION, "s2"),
]
declared_policies = st.dictionaries(st.sampled_from(places), declared_keys)


@given(lines_owed, declared_policies)
def test_bills_are_a_partition_of_what_is_due(owed: list[Due], declared: dict[tuple[Scope, str], list[str]]) -> None:
    """Nothing twice, nothing missing, and nothing together that may not be."""
    found = arranged(*(policy(*keys, scope=scope, of=of) for (scope, of), keys in declared.items()))
    bills = consolidate(owed, found)
    lines = [line for bill in bills for line in bill.lines]
    assert sorted(map(repr, lines)) == sorted(repr(each.line) for each in owed)
    total = sum_money((each.line.amount for each in owed if each.line.amount.currency == "EUR"), "EUR")
    assert total == sum_money((each.amount for each in lines if each.amount.currency == "EUR"), "EUR")
    whose = {id(each.line): each for each in owed}
    for bill in bills:
        members = [whose[id(line)] for line in bill.lines]
        assert {(each.payer_id, each.line.amount.currency) for each in members} == {
            (bill.consolidation.payer_id, bill.currency)
        }
        assert len({found.keys_of(each, found.policy_for(each)) for each in members}) == 1
    assert len({bill.consolidation.keys for bill in bills}) == len(bills)


@given(lines_owed, declared_policies, st.randoms(use_true_random=False))
def test_what_is_together_does_not_depend_on_the_order(
    owed: list[Due], declared: dict[tuple[Scope, str], list[str]], chance: object
) -> None:
    """Whichever comes first: the same bills, in the same order."""
    found = arranged(*(policy(*keys, scope=scope, of=of) for (scope, of), keys in declared.items()))
    shuffled = sorted(owed, key=lambda _: chance.random())  # type: ignore[attr-defined] # hypothesis' own Random
    one, two = consolidate(owed, found), consolidate(shuffled, found)
    assert [bill.consolidation for bill in one] == [bill.consolidation for bill in two]
    for first, second in zip(one, two, strict=True):
        assert sorted(map(repr, first.lines)) == sorted(map(repr, second.lines))
