"""Knows which meters there are, and how old usage of theirs may be: from memory, as far as that goes."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from common import clock
from common.caller import Caller
from common.db import Database
from common.period import EARLIEST
from metering import store
from metering.domain.meter import Meter

KNOWN_FOR: Final = timedelta(seconds=1)
"""So long a replica may not have heard that a meter was changed."""


@dataclass(slots=True)
class KnownMeters:
    """What is at hand of one seller's."""

    codes: set[str] = field(default_factory=set)
    """None ever goes away."""
    limited: dict[str, Meter] = field(default_factory=dict)
    """Those that set a limit in any of their versions."""
    version_count: int = 0
    """Of all meters of the seller: it grows with every change."""
    since: datetime = EARLIEST
    """When that was looked up."""

    def limits(self, asked: Set[str], at: datetime) -> dict[str, int]:
        """How many days usage may lie back that comes at an instant, of those that set a limit then."""
        found = {code: self.limited[code].in_effect(at).accepts_days for code in asked & self.limited.keys()}
        return {code: days for code, days in found.items() if days}

    def learn(self, code: str, meter: Meter) -> None:
        self.codes.add(code)
        self.limited.pop(code, None)
        if any(version.accepts_days for version in meter.versions):
            self.limited[code] = meter


class Meters:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sellers: dict[str, KnownMeters] = {}

    async def of(self, caller: Caller, asked: Set[str]) -> KnownMeters:
        """Those of the seller, with all of the codes asked for that there are. What is not at hand is looked up every
        time: a meter counts, and sets its limit, from the moment on at which it is there.
        """
        seller = self._sellers.get(caller.seller_id) or self._sellers.setdefault(caller.seller_id, KnownMeters())
        now = clock.wall()
        wanted = asked - seller.codes
        if not wanted and now - seller.since < KNOWN_FOR:
            return seller
        async with self._database.transaction(caller) as tx:
            version_count = await store.version_count(tx)
            if version_count != seller.version_count:
                wanted |= seller.codes
            found = await store.meters_by_code(tx, wanted) if wanted else {}
        for code, meter in found.items():
            seller.learn(code, meter)
        seller.version_count, seller.since = version_count, now
        return seller
