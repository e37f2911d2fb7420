"""Knows the shape that customers may form: trees of few levels, without a loop, of a size that can be walked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import HierarchyLoop, HierarchyTooDeep, HierarchyTooLarge

LEVELS_MAX: Final = 8
HIERARCHY_CUSTOMERS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A customer with all below it: `levels` and `size` count itself too, `ancestors` go from its parent up."""

    customer_id: CustomerId
    ancestors: tuple[CustomerId, ...]
    levels: int
    size: int

    @property
    def root_id(self) -> CustomerId:
        return self.ancestors[-1] if self.ancestors else self.customer_id

    def is_below(self, other: Branch) -> bool:
        return other.customer_id in self.ancestors


def check_parent(branch: Branch, *, parent: Branch, hierarchy_size: int) -> None:
    """Raise unless the branch may be put under the parent, whose tree has so many customers."""
    if parent.customer_id == branch.customer_id or parent.is_below(branch):
        raise HierarchyLoop(
            f"customer {parent.customer_id} is {branch.customer_id} or below it",
            customer=branch.customer_id,
            parent=parent.customer_id,
        )
    _check_levels(parent, branch.levels)
    if parent.root_id != branch.root_id:
        _check_size(parent, hierarchy_size + branch.size)


def check_merge(source: Branch, *, target: Branch, hierarchy_size: int) -> None:
    """Raise unless what is below the source may be put under the target, whose tree has so many customers.

    Between a customer and one below it nobody goes down: the target takes the source's place, or was above all along.
    """
    if source.is_below(target) or target.is_below(source):
        return
    _check_levels(target, source.levels - 1)
    if target.root_id != source.root_id:
        _check_size(target, hierarchy_size + source.size - 1)


def _check_levels(parent: Branch, levels: int) -> None:
    found = len(parent.ancestors) + 1 + levels
    if found > LEVELS_MAX:
        raise HierarchyTooDeep(
            f"there would be {found} levels, at most {LEVELS_MAX} may be",
            parent=parent.customer_id,
            levels=found,
            maximum=LEVELS_MAX,
        )


def _check_size(parent: Branch, size: int) -> None:
    if size > HIERARCHY_CUSTOMERS_MAX:
        raise HierarchyTooLarge(
            f"{size} customers would hang together, at most {HIERARCHY_CUSTOMERS_MAX} may",
            parent=parent.customer_id,
            customers=size,
            maximum=HIERARCHY_CUSTOMERS_MAX,
        )
