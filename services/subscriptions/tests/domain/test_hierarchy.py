"""The shape that customers may form, against a model that knows nothing but parents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import HierarchyLoop, HierarchyTooDeep, HierarchyTooLarge
from subscriptions.domain.hierarchy import HIERARCHY_CUSTOMERS_MAX, LEVELS_MAX, Branch, check_merge, check_parent

CUSTOMERS = 12
moves = st.lists(st.tuples(st.integers(0, CUSTOMERS - 1), st.integers(0, CUSTOMERS - 1)), max_size=60)


class Forest:
    """The model: who is whose parent."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}

    def above(self, customer: int) -> list[int]:
        """From the parent up; ends though there were a loop."""
        found: list[int] = []
        while customer in self.parents and len(found) <= CUSTOMERS:
            customer = self.parents[customer]
            found.append(customer)
        return found

    def within(self, customer: int) -> list[int]:
        return [each for each in range(CUSTOMERS) if each == customer or customer in self.above(each)]

    def branch(self, customer: int) -> Branch:
        return Branch(
            customer_id=_id(customer),
            ancestors=tuple(_id(each) for each in self.above(customer)),
            levels=max(len(self.above(each)) for each in self.within(customer)) - len(self.above(customer)) + 1,
            size=len(self.within(customer)),
        )

    def is_sound(self) -> bool:
        """No loop, and nobody too deep."""
        return all(each not in self.above(each) and len(self.above(each)) < LEVELS_MAX for each in range(CUSTOMERS))

    def put(self, customer: int, parent: int) -> None:
        above = [parent, *self.above(parent)]
        check_parent(self.branch(customer), parent=self.branch(parent), hierarchy_size=len(self.within(above[-1])))
        self.parents[customer] = parent


@given(moves)
def test_no_sequence_of_moves_makes_a_loop_or_a_ninth_level(moves: list[tuple[int, int]]) -> None:
    """Invoices are addressed by walking up: the walk has an end, and a near one."""
    forest = Forest()
    for customer, parent in moves:
        tried = Forest()
        tried.parents = forest.parents | {customer: parent}
        try:
            forest.put(customer, parent)
        except (HierarchyLoop, HierarchyTooDeep):
            # Nothing is refused that would have been sound.
            assert not tried.is_sound()
        assert forest.is_sound()


def test_nobody_is_under_itself_or_one_below_it() -> None:
    """The smallest loops."""
    forest = Forest()
    forest.put(1, 0)
    forest.put(2, 1)
    for parent in (0, 1, 2):
        with pytest.raises(HierarchyLoop) as refusal:
            forest.put(0, parent)
        assert refusal.value.metadata == {"customer": _id(0), "parent": _id(parent)}


def test_the_eighth_level_is_the_last() -> None:
    """Both ways of getting deeper: a long way up, and a long way down."""
    forest = Forest()
    for n in range(1, LEVELS_MAX):
        forest.put(n, n - 1)
    with pytest.raises(HierarchyTooDeep) as refusal:
        forest.put(LEVELS_MAX, LEVELS_MAX - 1)
    assert refusal.value.metadata == {"parent": _id(LEVELS_MAX - 1), "levels": "9", "maximum": "8"}
    with pytest.raises(HierarchyTooDeep):
        forest.put(0, LEVELS_MAX)


def test_so_many_hang_together_and_no_more() -> None:
    """A tree can be walked within a call. Moving inside of one makes it no larger."""
    leaf, root = _branch("leaf"), _branch("root")
    check_parent(leaf, parent=root, hierarchy_size=HIERARCHY_CUSTOMERS_MAX - 1)
    with pytest.raises(HierarchyTooLarge) as refusal:
        check_parent(leaf, parent=root, hierarchy_size=HIERARCHY_CUSTOMERS_MAX)
    assert refusal.value.metadata == {"parent": "root", "customers": "10001", "maximum": "10000"}
    check_parent(_branch("leaf", "a", "root"), parent=root, hierarchy_size=HIERARCHY_CUSTOMERS_MAX)


def test_what_is_below_the_source_of_a_merge_fits_below_the_target() -> None:
    """The source itself goes: it takes no room."""
    source = _branch("source", levels=3, size=5)
    deep = _branch("target", *(f"above{n}" for n in range(5)))
    check_merge(source, target=deep, hierarchy_size=HIERARCHY_CUSTOMERS_MAX - 4)
    with pytest.raises(HierarchyTooDeep):
        check_merge(_branch("source", levels=4), target=deep, hierarchy_size=10)
    with pytest.raises(HierarchyTooLarge):
        check_merge(source, target=deep, hierarchy_size=HIERARCHY_CUSTOMERS_MAX - 3)


def test_a_merge_along_a_line_makes_nothing_deeper() -> None:
    """The target takes the source's place, or was above it already: nobody goes down, so nobody can be too deep."""
    line = [f"above{n}" for n in range(6)]
    check_merge(
        _branch("source", *line, levels=2, size=HIERARCHY_CUSTOMERS_MAX),
        target=_branch("target", "source", *line),
        hierarchy_size=HIERARCHY_CUSTOMERS_MAX,
    )
    check_merge(
        _branch("source", "target", *line, levels=1),
        target=_branch("target", *line, levels=2, size=HIERARCHY_CUSTOMERS_MAX),
        hierarchy_size=HIERARCHY_CUSTOMERS_MAX,
    )


def _branch(customer_id: str, *ancestors: str, levels: int = 1, size: int = 1) -> Branch:
    return Branch(
        customer_id=CustomerId(customer_id),
        ancestors=tuple(CustomerId(each) for each in ancestors),
        levels=levels,
        size=size,
    )


def _id(customer: int) -> CustomerId:
    return CustomerId(f"cus_{customer}")
