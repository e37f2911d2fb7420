"""Knows which meters there are, from memory as far as it goes: none ever changes, and none ever goes away."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from common.caller import Caller
from common.db import Database
from metering import store


@dataclass(slots=True)
class KnownMeters:
    """What is at hand of one seller's."""

    codes: set[str] = field(default_factory=set)
    limits: dict[str, int] = field(default_factory=dict)
    """How many days usage may lie back, of those that set a limit."""


class Meters:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sellers: dict[str, KnownMeters] = {}

    async def of(self, caller: Caller, asked: Set[str]) -> KnownMeters:
        """Those of the seller, with all of the codes asked for that there are. What is not at hand is looked up every
        time: a meter counts, and sets its limit, from the moment on at which it is there.
        """
        seller = self._sellers.get(caller.seller_id) or self._sellers.setdefault(caller.seller_id, KnownMeters())
        if not asked <= seller.codes:
            async with self._database.transaction(caller) as tx:
                found = await store.accepted_days(tx, asked - seller.codes)
            seller.limits |= _limits(found)
            seller.codes |= found.keys()
        return seller


def _limits(found: Mapping[str, int]) -> dict[str, int]:
    return {code: days for code, days in found.items() if days}
