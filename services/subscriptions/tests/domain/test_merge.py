"""Two customers that turn out to be one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.errors import InvalidArgument
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, CustomerId, State
from subscriptions.domain.customer_name import CustomerName
from subscriptions.domain.errors import CustomerMerged, MergeTooLarge, PayerHasPayer, TooManyAliases
from subscriptions.domain.merge import DEPENDENTS_MAX, NAMES_MAX, Merged, check_merge_of_two, merge

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LATER = NOW + DAY


def customer(name: str, **changes: object) -> Customer:
    plain = Customer(
        id=CustomerId(name),
        external_id="",
        contact=Contact(display_name=name, email="", address=b""),
        billing_profile=BillingProfile(
            currency="EUR",
            time_zone="UTC",
            language_code="en",
            net_terms_days=0,
            collection_method=CollectionMethod.SEND_INVOICE,
        ),
        revision=1,
        create_time=NOW,
        update_time=NOW,
    )
    return replace(plain, **changes)  # type: ignore[arg-type] # fields by name, of any type


def merged(source: Customer, target: Customer, *dependents: Customer, is_target_below: bool = False) -> Merged:
    return merge(source, target=target, dependents=dependents, is_target_below=is_target_below, at=LATER)


def test_all_that_the_source_was_called_names_the_target() -> None:
    """Usage and callers go on using the old names."""
    source = customer("s", external_id="old-1", aliases=("old-2",), merged_ids=("older",), parent_id="p", payer_id="q")
    target = customer("t", external_id="new", aliases=("a", "z"))
    found = merged(source, target)
    assert found.target == replace(
        target,
        aliases=("a", "old-1", "old-2", "z"),
        merged_ids=("older", "s"),
        names=(
            *(CustomerName(key=key) for key in ("a", "new")),
            *(CustomerName(key=key, since=LATER) for key in ("old-1", "old-2", "older", "s")),
            CustomerName(key="z"),
        ),
        revision=2,
        update_time=LATER,
    )
    assert found.source == replace(
        source,
        state=State.MERGED,
        merged_into_id="t",
        external_id="",
        aliases=(),
        merged_ids=(),
        names=tuple(CustomerName(key=key, until=LATER) for key in ("old-1", "old-2", "older")),
        parent_id="",
        payer_id="",
        revision=2,
        update_time=LATER,
    )


def test_a_name_that_is_handed_on_counts_for_each_in_turn() -> None:
    """Of what came by a merge before, the beginning stays; what came at this very moment has counted for nothing."""
    source = customer("s", aliases=("old",), names=(CustomerName(key="old"),))
    between = merged(source, customer("t")).target
    last = merge(between, target=customer("u"), dependents=(), is_target_below=False, at=LATER + DAY)
    assert last.source.names == (
        CustomerName(key="old", since=LATER, until=LATER + DAY),
        CustomerName(key="s", since=LATER, until=LATER + DAY),
    )
    assert last.target.names == tuple(CustomerName(key=key, since=LATER + DAY) for key in ("old", "s", "t"))
    at_once = merged(between, customer("u"))
    assert at_once.source.names == ()
    assert at_once.target.names == tuple(CustomerName(key=key, since=LATER) for key in ("old", "s", "t"))
    assert at_once.forgotten_keys(between) == {"old", "s"}
    assert last.forgotten_keys(between) == set()


def test_those_who_depend_on_the_source_follow_the_target() -> None:
    """Each in what it depended on it for, and in nothing else."""
    child = customer("child", parent_id="s", payer_id="q")
    paid = customer("paid", parent_id="p", payer_id="s")
    both = customer("both", parent_id="s", payer_id="s")
    found = merged(customer("s"), customer("t"), child, paid, both)
    assert [(each.id, each.parent_id, each.payer_id, each.revision) for each in found.dependents] == [
        ("child", "t", "q", 2),
        ("paid", "p", "t", 2),
        ("both", "t", "t", 2),
    ]


def test_a_target_below_the_source_takes_its_place() -> None:
    """Otherwise it would be below itself."""
    target = customer("t", parent_id="s", payer_id="s")
    sibling = customer("sibling", parent_id="s")
    found = merged(customer("s", parent_id="p"), target, sibling, target, is_target_below=True)
    assert (found.target.parent_id, found.target.payer_id, found.target.revision) == ("p", "", 2)
    assert [(each.id, each.parent_id) for each in found.dependents] == [("sibling", "t")]


def test_a_target_keeps_its_own_place_and_payer() -> None:
    """The merge is about the source."""
    found = merged(customer("s", parent_id="p", payer_id="t"), customer("t", parent_id="o", payer_id="x"))
    assert (found.target.parent_id, found.target.payer_id) == ("o", "x")


def test_nobody_gets_a_payer_that_has_one() -> None:
    """Whom the source paid for would have to ask twice."""
    source, target = customer("s"), customer("t", payer_id="x")
    with pytest.raises(PayerHasPayer) as refusal:
        merged(source, target, customer("paid", payer_id="s"))
    assert refusal.value.metadata == {"customer": "t", "payer": "x"}
    found = merged(source, target, customer("child", parent_id="s"))
    assert found.target.payer_id == "x"


@pytest.mark.parametrize("gone", ["s", "t"])
def test_what_was_merged_takes_no_part_in_a_merge(gone: str) -> None:
    """It is not there any more, and the answer says where it went."""
    customers = {name: customer(name) for name in ("s", "t")}
    customers[gone] = replace(customers[gone], state=State.MERGED, merged_into_id="x")
    with pytest.raises(CustomerMerged) as refusal:
        merged(customers["s"], customers["t"])
    assert refusal.value.metadata == {"customer": gone, "merged_into": "x"}


def test_a_customer_is_not_merged_into_itself() -> None:
    """It would be nowhere."""
    with pytest.raises(InvalidArgument) as refusal:
        check_merge_of_two(CustomerId("s"), CustomerId("s"))
    assert refusal.value.field == "target_id"


def test_a_customer_has_so_many_names_and_no_more() -> None:
    """Each is looked for in usage; merges must not make that endless."""
    target = customer("t", aliases=tuple(f"a{n:02}" for n in range(NAMES_MAX - 2)))
    assert len(merged(customer("s", external_id="x"), target).target.aliases) == NAMES_MAX - 1
    with pytest.raises(TooManyAliases) as refusal:
        merged(customer("s", external_id="x", aliases=("y",)), target)
    assert refusal.value.metadata == {"customer": "t", "maximum": "100"}


def test_so_many_follow_in_one_merge_and_no_more() -> None:
    """All in one transaction; the target itself is none of them."""
    target = customer("t", parent_id="s")
    children = [customer(f"c{n}", parent_id="s") for n in range(DEPENDENTS_MAX + 1)]
    found = merged(customer("s"), target, *children[:-1], target, is_target_below=True)
    assert len(found.dependents) == DEPENDENTS_MAX
    with pytest.raises(MergeTooLarge):
        merged(customer("s"), customer("t"), *children)
