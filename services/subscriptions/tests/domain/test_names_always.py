"""Whatever is merged into whatever: usage is one customer's, and each item counts it in one of its periods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SaldoError
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, CustomerId, State
from subscriptions.domain.customer_name import CustomerName
from subscriptions.domain.merge import check_merge_of_two, merge

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 12
LONG_AGO = START - 1_000 * DAY
LENGTH = 4
"""Of a period, in days."""

IDS = [CustomerId(f"cus_{n}") for n in range(5)]
KEYS = ["a", "b", "c", *(f"key of {each}" for each in IDS)]
PROFILE = BillingProfile(
    currency="EUR",
    time_zone="UTC",
    language_code="en",
    net_terms_days=0,
    collection_method=CollectionMethod.SEND_INVOICE,
)


@dataclass
class Item:
    """One metered item of a customer, with whom it has had in turn: who is billed its periods."""

    offset: timedelta
    owners: list[tuple[datetime, CustomerId]]

    def periods(self) -> Iterator[tuple[datetime, datetime, CustomerId]]:
        ends = {START + (n + 1) * LENGTH * DAY for n in range(-4, DAYS // LENGTH + 4)}
        cuts = sorted({each + self.offset for each in ends} | {since for since, _ in self.owners[1:]})
        for first, last in pairwise(cuts):
            *_, owner = (each for since, each in self.owners if since <= first)
            yield first, last, owner


@dataclass
class World:
    """All customers of a seller, each with an item, changed as the use cases do; and whose each key is."""

    customers: dict[CustomerId, Customer] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    holders: dict[str, list[tuple[datetime | None, CustomerId | None]]] = field(default_factory=dict)
    """By key: from when on which customer is meant; an alias that is given counts for all the time that is free."""

    def __post_init__(self) -> None:
        for n, each in enumerate(IDS):
            external_id = f"key of {each}"
            self.customers[each] = Customer(
                id=each,
                external_id=external_id,
                contact=Contact(display_name=each, email="", address=b""),
                billing_profile=PROFILE,
                revision=1,
                create_time=START,
                update_time=START,
                names=(CustomerName(key=external_id),),
            )
            # Not all on the same days.
            self.items.append(Item(offset=n * DAY, owners=[(LONG_AGO, each)]))
            self.holders[external_id] = [(None, each)]
            self.holders[each] = [(None, each)]

    def add(self, customer_id: CustomerId, key: str, at: datetime) -> None:
        history = self.holders.get(key, [])
        if history and history[-1][1] is not None:
            return
        since = max(
            (
                each.until
                for customer in self.customers.values()
                for each in customer.names
                if each.key == key and each.until
            ),
            default=None,
        )
        self.customers[customer_id] = self.customers[customer_id].with_alias(key, since=since, at=at)
        self.holders[key] = [*history[:-1], (history[-1][0] if history else None, customer_id)]

    def remove(self, customer_id: CustomerId, key: str, at: datetime) -> None:
        self.customers[customer_id] = self.customers[customer_id].without_alias(key, at=at)
        self.holders[key][-1] = (self.holders[key][-1][0], None)

    def merge(self, source_id: CustomerId, target_id: CustomerId, at: datetime) -> None:
        check_merge_of_two(source_id, target_id)
        found = merge(
            self.customers[source_id], target=self.customers[target_id], dependents=(), is_target_below=False, at=at
        )
        self.customers[source_id], self.customers[target_id] = found.source, found.target
        for item in self.items:
            if item.owners[-1][1] == source_id:
                item.owners.append((at, target_id))
        for history in self.holders.values():
            if history[-1][1] == source_id:
                history.append((at, target_id))

    def holder(self, key: str, at: datetime) -> CustomerId | None:
        found = None
        for since, customer_id in self.holders.get(key, []):
            if since is None or since <= at:
                found = customer_id
        return found

    def counted(self, key: str, at: datetime) -> Iterator[tuple[int, CustomerId]]:
        """The items that count usage under a key, and for whom."""
        for n, first, last, owner in self.periods:
            if first <= at < last and self.is_called(owner, key, first):
                yield n, owner

    @cached_property
    def periods(self) -> list[tuple[int, datetime, datetime, CustomerId]]:
        """Of all items, once nothing happens any more."""
        return [(n, *period) for n, item in enumerate(self.items) for period in item.periods()]

    def is_called(self, customer_id: CustomerId, key: str, start: datetime) -> bool:
        return key == customer_id or any(
            name.key == key
            and (name.since is None or name.since <= start)
            and (name.until is None or start < name.until)
            for name in self.customers[customer_id].names
        )


deeds = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "merge", "merge"]),
        st.sampled_from(IDS),
        st.sampled_from(IDS),
        st.sampled_from(KEYS),
        st.integers(0, 1),
    ),
    max_size=DAYS,
)


def lived(deeds: list[tuple[str, CustomerId, CustomerId, str, int]], *, removes: bool) -> World:
    world = World()
    now = START
    for verb, one, other, key, later in deeds:
        now += later * DAY
        with suppress(SaldoError):
            if verb == "merge":
                world.merge(one, other, now)
            elif verb == "add":
                world.add(one, key, now)
            elif removes:
                world.remove(one, key, now)
    return world


def moments() -> Iterator[datetime]:
    """Each day from before the first merge to after the last; at its beginning, when merges are, and within it."""
    for n in range(2 * (DAYS + 3)):
        yield START - DAY + n * DAY / 2


@settings(max_examples=100)
@given(deeds)
def test_usage_counts_for_whose_it_is_and_nobody_else(
    deeds: list[tuple[str, CustomerId, CustomerId, str, int]],
) -> None:
    """Where every customer has an item, all usage counts: for the one customer that its name means at its time."""
    world = lived(deeds, removes=False)
    for key in [*IDS, *KEYS, "nobody's"]:
        for at in moments():
            counted = list(world.counted(key, at))
            assert {owner for _, owner in counted} == {world.holder(key, at)} - {None}
            assert len({n for n, _ in counted}) == len(counted), "an item counts it in two periods"


@settings(max_examples=100)
@given(deeds)
def test_no_usage_counts_for_two_customers_though_keys_move(
    deeds: list[tuple[str, CustomerId, CustomerId, str, int]],
) -> None:
    """An alias that is taken away may come to another customer; what it counted for a merged one stays there."""
    world = lived(deeds, removes=True)
    for key in [*IDS, *KEYS]:
        for at in moments():
            counted = list(world.counted(key, at))
            assert {owner for _, owner in counted} <= {world.holder(key, at)}
            assert len({n for n, _ in counted}) == len(counted), "an item counts it in two periods"


def test_the_world_of_these_properties_has_merges_in_it() -> None:
    """They would hold of one in which nothing happens."""
    first, second, third, *_ = IDS
    world = lived(
        [("add", first, first, "a", 0), ("merge", first, second, "", 2), ("merge", second, third, "", 1)], removes=True
    )
    told = [[owner for _, owner in world.counted("a", START + n * DAY / 2)] for n in (3, 4, 5)]
    assert told == [[first], [second], [second]]
    assert set(world.counted("a", START + 3 * DAY)) == {(0, third), (1, third)}
    assert world.customers[first].state is State.MERGED
    world.remove(third, "a", START + 4 * DAY)
    world.add(IDS[3], "a", START + 5 * DAY)
    assert [name for name in world.customers[IDS[3]].names if name.key == "a"] == [
        CustomerName(key="a", since=START + 3 * DAY)
    ]
