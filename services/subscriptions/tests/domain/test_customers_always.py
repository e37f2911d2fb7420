"""What holds of all customers of a seller, whatever is done to them in whatever order."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import FailedPrecondition, InvalidArgument
from subscriptions.domain import hierarchy
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, CustomerId, State
from subscriptions.domain.hierarchy import LEVELS_MAX, Branch
from subscriptions.domain.merge import check_merge_of_two, merge
from subscriptions.domain.payer import check_payer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"cus_{n}" for n in range(10)]
PROFILE = BillingProfile(
    currency="EUR",
    time_zone="UTC",
    language_code="en",
    net_terms_days=0,
    collection_method=CollectionMethod.SEND_INVOICE,
)
one = st.sampled_from(NAMES)
verbs = st.sampled_from(["put", "put", "put", "pay", "pay", "merge"])
deeds = st.lists(st.tuples(verbs, one, one), max_size=60)


class Customers:
    """All customers of a seller, in memory, changed as the use cases do."""

    def __init__(self) -> None:
        self.all = {name: _customer(name) for name in NAMES}

    def put(self, name: str, parent_name: str) -> None:
        changed = self.all[name].under(parent_name, at=NOW)
        self.all[parent_name].check_active()
        parent = self.branch(parent_name)
        size = self.branch(parent.root_id).size
        hierarchy.check_parent(self.branch(name), parent=parent, hierarchy_size=size)
        self.all[name] = changed

    def pay(self, name: str, payer_name: str) -> None:
        changed = self.all[name].paid_by(payer_name, at=NOW)
        pays_for_others = any(each.payer_id == name for each in self.all.values())
        check_payer(self.all[name], self.all[payer_name], pays_for_others=pays_for_others)
        self.all[name] = changed

    def merge(self, source_name: str, target_name: str) -> None:
        check_merge_of_two(CustomerId(source_name), CustomerId(target_name))
        source, target = self.branch(source_name), self.branch(target_name)
        merged = merge(
            self.all[source_name],
            target=self.all[target_name],
            dependents=[each for each in self.all.values() if source_name in (each.parent_id, each.payer_id)],
            is_target_below=target.is_below(source),
            at=NOW,
        )
        hierarchy.check_merge(source, target=target, hierarchy_size=self.branch(target.root_id).size)
        for each in (merged.source, merged.target, *merged.dependents):
            self.all[each.id] = each

    def above(self, name: str) -> list[str]:
        """From the parent up; ends though there were a loop."""
        found: list[str] = []
        while (name := self.all[name].parent_id) and len(found) <= len(NAMES):
            found.append(name)
        return found

    def branch(self, name: str) -> Branch:
        within = [each for each in NAMES if each == name or name in self.above(each)]
        return Branch(
            customer_id=CustomerId(name),
            ancestors=tuple(CustomerId(each) for each in self.above(name)),
            levels=1 + max(len(self.above(each)) for each in within) - len(self.above(name)),
            size=len(within),
        )


@settings(max_examples=300)
@given(deeds)
def test_customers_stay_sound(deeds: list[tuple[str, str, str]]) -> None:
    """No loop, no ninth level, no payer with a payer, nobody who depends on one that is gone, each name somebody's."""
    customers = Customers()
    for verb, name, other in deeds:
        with suppress(FailedPrecondition, InvalidArgument):
            getattr(customers, verb)(name, other)
        names: list[str] = []
        for each in customers.all.values():
            above = customers.above(each.id)
            assert each.id not in above
            assert len(above) < LEVELS_MAX
            for leaned_on in (each.parent_id, each.payer_id):
                assert not leaned_on or customers.all[leaned_on].state is State.ACTIVE
            assert not each.payer_id or not customers.all[each.payer_id].payer_id
            names += [each.external_id, *each.aliases] if each.state is State.ACTIVE else each.aliases
            assert set(each.merged_ids) == {gone for gone in NAMES if _ends_at(customers, gone) == each.id} - {each.id}
        assert sorted(names) == sorted(f"key of {each}" for each in NAMES)


def _ends_at(customers: Customers, name: str) -> str:
    """Whom a customer is part of by now: merges make a chain, and no ring."""
    for _ in NAMES:
        if customers.all[name].state is State.ACTIVE:
            return name
        name = customers.all[name].merged_into_id
    raise AssertionError("merged in a ring")


def _customer(name: str) -> Customer:
    return Customer(
        id=CustomerId(name),
        external_id=f"key of {name}",
        contact=Contact(display_name=name, email="", address=b""),
        billing_profile=PROFILE,
        revision=1,
        create_time=NOW,
        update_time=NOW,
    )
