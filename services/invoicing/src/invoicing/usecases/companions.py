"""Finds who is billed together: whoever pays for several customers gets one invoice for all of them that are due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from common.errors import SaldoError, Unavailable
from common.rpc import Desk
from invoicing import store
from invoicing.clients import paying
from invoicing.clients.paying import Paid
from invoicing.usecases import facts

COMPANIONS_MAX: Final = 1_000
"""How many are billed beside those whose turn it is. Whoever is beyond that is billed when its own turn comes: into the
draft that there may be, else on an invoice of its own.
"""

PAIRS_MAX: Final = 10_000
STEPS_MAX: Final = 10
"""From one customer to another by way of a payer that they have in common, and on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Who is billed beside some customers, because somebody pays for both."""

    companion_ids: tuple[str, ...] = ()
    circles: tuple[frozenset[str], ...] = ()
    """All who have payers in common, directly or by way of others: their bills are written together or not at all."""
    payer_ids: frozenset[str] = frozenset()

    def only(self, companion_ids: Collection[str], *, beside: Collection[str]) -> Company:
        """With fewer companions."""
        members = {*companion_ids, *beside}
        return Company(
            companion_ids=tuple(each for each in self.companion_ids if each in companion_ids),
            circles=tuple(circle & members for circle in self.circles),
            payer_ids=self.payer_ids,
        )

    def broken_by(self, absent: Collection[str]) -> frozenset[str]:
        """Everybody in a circle of which somebody is absent."""
        return frozenset[str]().union(*(circle for circle in self.circles if not circle.isdisjoint(absent)))


async def of(desk: Desk, customer_ids: Collection[str]) -> Company:
    """Who is to be billed together with these."""
    pairs = await _pairs(desk, customer_ids)
    if not pairs:
        return Company()
    others = {each for pair in pairs for each in pair}.difference(customer_ids)
    async with desk.transaction() as tx:
        billings = await store.find_billings(tx, others)
        now = tx.now
    # Of who is not due, what waits to be taken off may be taken off what the others owe.
    coming = sorted(each for each, found in billings.items() if found.is_due(now) or found.credit_since is not None)
    companion_ids = coming[:COMPANIONS_MAX]
    members = {*companion_ids, *customer_ids}
    return Company(
        companion_ids=tuple(companion_ids),
        circles=tuple(circle & members for circle in circles(pairs)),
        payer_ids=frozenset(pair.payer_id for pair in pairs),
    )


async def sound(desk: Desk, company: Company, *, beside: Collection[str]) -> Company:
    """Without those who cannot even be looked at: whoever cannot be billed keeps nobody else from it."""
    async with desk.transaction() as tx:
        billings = await store.find_billings(tx, company.companion_ids)
        now = tx.now
    found: list[str] = []
    for customer_id, billing in billings.items():
        since = {customer_id: facts.corrections_since(billing)}
        try:
            await facts.gather(desk, since, through=now, as_of=now, proven=True)
        except Unavailable:
            raise
        except SaldoError:
            continue  # its own turn tells of it
        found.append(customer_id)
    return company.only(found, beside=beside)


def circles(pairs: Iterable[Paid]) -> Iterator[frozenset[str]]:
    """Who hangs together, by any number of steps."""
    beside: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        beside[pair.customer_id].add(pair.payer_id)
        beside[pair.payer_id].add(pair.customer_id)
    while beside:
        reached, new = set[str](), {next(iter(beside))}
        while new:
            reached |= new
            new = {other for each in new for other in beside.pop(each)} - reached
        yield frozenset(reached)


async def _pairs(desk: Desk, customer_ids: Collection[str]) -> set[Paid]:
    """As far as anybody hangs together with these."""
    pairs: set[Paid] = set()
    asked: set[str] = set()
    asking = set(customer_ids)
    for _ in range(STEPS_MAX):
        pairs |= await paying.pairs_of(desk, payer_ids=asking, customer_ids=asking, limit=PAIRS_MAX)
        asked |= asking
        asking = {each for pair in pairs for each in pair} - asked
        if not asking or len(pairs) > PAIRS_MAX:
            break
    return pairs
