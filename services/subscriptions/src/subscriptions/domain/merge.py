"""Knows what becomes of two customers that turn out to be one, and of those who depend on the one that goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from common.errors import InvalidArgument
from subscriptions.domain.customer import Customer, CustomerId, State
from subscriptions.domain.customer_name import CustomerName, ended, names_of, ordered
from subscriptions.domain.errors import MergeTooLarge, PayerHasPayer, TooManyAliases

NAMES_MAX: Final = 100
DEPENDENTS_MAX: Final = 1_000
"""How many customers may be directly below the source or paid for by it: each is changed and announced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    source: Customer
    target: Customer
    dependents: tuple[Customer, ...]
    """Those of them who changed."""

    def forgotten_keys(self, source: Customer) -> set[str]:
        """What the source was called for no time at all."""
        return {name.key for name in source.names} - {name.key for name in self.source.names}


def check_merge_of_two(source_id: CustomerId, target_id: CustomerId) -> None:
    if source_id == target_id:
        raise InvalidArgument("must be another customer than the source", field="target_id")


def merge(
    source: Customer, *, target: Customer, dependents: Sequence[Customer], is_target_below: bool, at: datetime
) -> Merged:
    """The source goes; its names are the target's, and so are the `dependents`: its children, and whom it pays for.

    Until now the names have been the source's: for the usage of its own periods it keeps them.
    """
    source.check_active()
    target.check_active()
    target.check_not_erased()
    others = [each for each in dependents if each.id != target.id]
    if len(others) > DEPENDENTS_MAX:
        raise MergeTooLarge(
            f"more than {DEPENDENTS_MAX} customers are directly below {source.id} or paid for by it",
            customer=source.id,
            maximum=DEPENDENTS_MAX,
        )
    remaining = _with_names_of(source, target, at=at)
    if is_target_below:
        remaining = remaining.under(source.parent_id, at=at)
    if target.payer_id == source.id:
        remaining = remaining.paid_by("", at=at)
    if remaining.payer_id and any(each.payer_id == source.id for each in others):
        raise PayerHasPayer(
            f"customer {source.id} pays for others, and the invoices of {target.id} go to {target.payer_id}",
            customer=target.id,
            payer=target.payer_id,
        )
    gone = replace(
        source,
        state=State.MERGED,
        merged_into_id=target.id,
        external_id="",
        aliases=(),
        merged_ids=(),
        names=ended(_names(source), at=at),
        parent_id="",
        payer_id="",
        revision=source.revision + 1,
        update_time=at,
    )
    moved = tuple(_following(each, source.id, target.id, at=at) for each in others)
    # However many of its parts changed, it is one change.
    remaining = replace(remaining, revision=target.revision + 1, update_time=at)
    return Merged(source=gone, target=remaining, dependents=moved)


def _names(customer: Customer) -> tuple[CustomerName, ...]:
    return names_of([customer.external_id, *customer.aliases, *customer.merged_ids], customer.names)


def _with_names_of(source: Customer, target: Customer, *, at: datetime) -> Customer:
    aliases = {*target.aliases, *source.aliases}
    if source.external_id:
        aliases.add(source.external_id)
    merged_ids = {*target.merged_ids, *source.merged_ids, source.id}
    if (count := len(aliases) + len(merged_ids)) > NAMES_MAX:
        raise TooManyAliases(
            f"customer {target.id} would have {count} names beside its own, at most {NAMES_MAX} may be",
            customer=target.id,
            maximum=NAMES_MAX,
        )
    came = [CustomerName(key=key, since=at) for key in (source.id, *(name.key for name in _names(source)))]
    names = ordered((*_names(target), *came))
    return replace(target, aliases=tuple(sorted(aliases)), merged_ids=tuple(sorted(merged_ids)), names=names)


def _following(customer: Customer, source_id: CustomerId, target_id: CustomerId, *, at: datetime) -> Customer:
    return replace(
        customer,
        parent_id=target_id if customer.parent_id == source_id else customer.parent_id,
        payer_id=target_id if customer.payer_id == source_id else customer.payer_id,
        revision=customer.revision + 1,
        update_time=at,
    )
