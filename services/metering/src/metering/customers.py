"""Knows which customers have been heard of, from memory as far as it goes: senders name the same ones all day long."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Final

from common.caller import Caller
from common.db import Database
from metering import store

KNOWN_SECONDS: Final = 60
"""How long a name is taken for somebody's once it was: aliases may be removed."""
UNKNOWN_SECONDS: Final = 1
"""How long one is taken for nobody's: so that those who send nothing else do not ask with every batch."""
NAMES_MAX: Final = 1_000_000
"""How many are kept at hand, about 150 bytes each."""


@dataclass(slots=True)
class _Seller:
    """What is at hand of one."""

    has_customers: bool = False
    known: set[str] = field(default_factory=set)
    known_until: float = 0
    unknown: set[str] = field(default_factory=set)
    unknown_until: float = 0


class Customers:
    def __init__(self, database: Database, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._seconds = seconds
        self._sellers: dict[str, _Seller] = {}

    async def unknown(self, caller: Caller, names: Callable[[], Set[str]]) -> Set[str]:
        """Those of the names that are nobody's; none as long as none of the seller's customers has been heard of."""
        seller = self._sellers.get(caller.seller_id) or self._sellers.setdefault(caller.seller_id, _Seller())
        now = self._seconds()
        if now >= seller.known_until:
            seller.known, seller.known_until = set(), now + KNOWN_SECONDS
        if now >= seller.unknown_until:
            seller.unknown, seller.unknown_until = set(), now + UNKNOWN_SECONDS
            if not seller.has_customers:
                async with self._database.transaction(caller) as tx:
                    seller.has_customers = await store.has_customers(tx)
        if not seller.has_customers:
            return frozenset()
        # Taken together: another request may put new sets there meanwhile.
        known, unknown = seller.known, seller.unknown
        missing = names() - known
        if asked := missing - unknown:
            async with self._database.transaction(caller) as tx:
                found = await store.known_names(tx, asked)
            known |= found
            unknown |= asked - found
            missing -= found
            self._forget()
        return missing

    def _forget(self) -> None:
        """Everything, when it is too much: what is needed of it will show at once."""
        if sum(len(each.known) + len(each.unknown) for each in self._sellers.values()) > NAMES_MAX:
            self._sellers.clear()
