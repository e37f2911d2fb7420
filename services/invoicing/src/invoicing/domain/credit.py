"""Knows what a customer has to its credit: grants, the order in which they are used, and every movement of them.

    GRANTED  +remaining        RESERVED   +reserved                 EXPIRED  -remaining
    APPLIED  -remaining        RELEASED   -reserved                 REVOKED  -remaining
    RETURNED +remaining        COMMITTED  -remaining -reserved      MOVED    -remaining

What is used first: the lower priority, then what expires sooner, then promotional before paid, then the older. What is
reserved of a grant can be committed whatever becomes of the grant meanwhile; everything else of it ends with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Final, NamedTuple, NewType

from common.money import Money, sum_money
from invoicing.domain.covering import assigned
from invoicing.domain.errors import CreditGrantEnded, CreditGrantNotFound, InsufficientCredit
from invoicing.domain.invoice import Invoice
from invoicing.domain.line import Line

GrantId = NewType("GrantId", str)

NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""When something expires that does not."""


class GrantKind(Enum):
    """Whose money it was: the customer's own, or a present of the seller."""

    PAID = "PAID"
    PROMOTIONAL = "PROMOTIONAL"


class Source(Enum):
    """Where a grant comes from."""

    MANUAL = "MANUAL"
    CREDIT_NOTE = "CREDIT_NOTE"
    OVERPAYMENT = "OVERPAYMENT"
    TOP_UP = "TOP_UP"
    MERGE = "MERGE"
    """What a customer had that was merged into this one."""


class GrantState(Enum):
    """Whether a grant can be used. It follows from the rest, and is not stored."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    DEPLETED = "DEPLETED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class MovementKind(Enum):
    """What happened to a grant."""

    GRANTED = "GRANTED"
    APPLIED = "APPLIED"
    """An invoice took it up when it was finalized."""
    RETURNED = "RETURNED"
    """It came back from an invoice that was annulled."""
    RESERVED = "RESERVED"
    RELEASED = "RELEASED"
    COMMITTED = "COMMITTED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    MOVED = "MOVED"
    """It went to the customer that its own was merged into."""


# What each does with what is left of a grant, and with how much of that is reserved.
_EFFECTS: Final = {
    MovementKind.GRANTED: (1, 0),
    MovementKind.APPLIED: (-1, 0),
    MovementKind.RETURNED: (1, 0),
    MovementKind.RESERVED: (0, 1),
    MovementKind.RELEASED: (0, -1),
    MovementKind.COMMITTED: (-1, -1),
    MovementKind.EXPIRED: (-1, 0),
    MovementKind.REVOKED: (-1, 0),
    MovementKind.MOVED: (-1, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What credit is used for, as far as scopes care."""

    product_id: str = ""
    price_id: str = ""
    meter: str = ""
    subscription_id: str = ""

    @classmethod
    def of(cls, line: Line) -> Use:
        return cls(
            product_id=line.product_id,
            price_id=line.price_id,
            meter="" if line.usage is None else line.usage.meter,
            subscription_id=line.subscription_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a grant can be used for: what is one of each that is named. Nothing named is everything."""

    product_ids: frozenset[str] = frozenset()
    price_ids: frozenset[str] = frozenset()
    meters: frozenset[str] = frozenset()
    subscription_ids: frozenset[str] = frozenset()

    def covers(self, use: Use) -> bool:
        return (
            (not self.product_ids or use.product_id in self.product_ids)
            and (not self.price_ids or use.price_id in self.price_ids)
            and (not self.meters or use.meter in self.meters)
            and (not self.subscription_ids or use.subscription_id in self.subscription_ids)
        )


EVERYTHING: Final = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An amount that a customer has to its credit, and what is left of it."""

    id: GrantId
    customer_id: str
    amount: Money
    kind: GrantKind
    priority: int
    effective_time: datetime
    expire_time: datetime | None
    scope: Scope
    source: Source
    document_id: str
    note: str
    remaining: Money
    reserved: Money
    expired_time: datetime | None
    expire_count: int
    """What comes back to it may expire once more."""
    revoked_time: datetime | None
    revision: int
    """Counts its movements."""
    create_time: datetime

    @property
    def free(self) -> Money:
        """What is left and not reserved."""
        return self.remaining - self.reserved

    @property
    def rank(self) -> tuple[int, datetime, bool, datetime, str]:
        """What is used first has the smallest."""
        expiry = self.expire_time or NEVER
        return self.priority, expiry, self.kind is GrantKind.PAID, self.create_time, self.id

    def is_usable(self, at: datetime) -> bool:
        return self.effective_time <= at < (self.expire_time or NEVER) and self.free.minor > 0

    def is_over(self, at: datetime) -> bool:
        """Whether something is left that has to go."""
        return at >= (self.expire_time or NEVER) and self.free.minor > 0

    def moved_to(self, customer_id: str, *, id: GrantId, at: datetime) -> Grant:  # noqa: A002
        """What another customer gets for what is free of it, to be used as this could be."""
        return replace(
            self,
            id=id,
            customer_id=customer_id,
            amount=self.free,
            source=Source.MERGE,
            document_id=self.id,
            expired_time=None,
            expire_count=0,
            revoked_time=None,
            create_time=at,
        )

    def state(self, at: datetime) -> GrantState:
        if self.remaining.minor:
            return GrantState.ACTIVE if self.effective_time <= at else GrantState.PENDING
        if self.revoked_time is not None:
            return GrantState.REVOKED
        return GrantState.DEPLETED if self.expired_time is None else GrantState.EXPIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One thing that happened to a grant, and what was left afterwards."""

    grant: Grant
    """As it was afterwards."""
    kind: MovementKind
    amount: Money
    document_id: str

    @property
    def ordinal(self) -> int:
        """Counts the movements of the grant, from 1."""
        return self.grant.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A movement as it stands in the records."""

    id: str
    grant_id: GrantId
    customer_id: str
    kind: MovementKind
    amount: Money
    remaining: Money
    reserved: Money
    document_id: str
    ordinal: int
    create_time: datetime


class HoldingKey(NamedTuple):
    """Credit is of one customer in one currency."""

    customer_id: str
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Who has to wait for whom, and who is to be told of what."""

    id: str
    key: HoldingKey
    low_threshold: Money | None = None
    is_low: bool = False
    low_count: int = 0
    """How often it fell below the threshold."""
    top_up_threshold: Money | None = None
    """That of the rule by which it is topped up; None if there is none, or it goes by the calendar."""
    merged_into_id: str = ""
    """The customer that its own was merged into, which has whatever becomes free here; empty if it was not."""
    revision: int = 1

    def watching(self, threshold: Money | None) -> Holding:
        """Tell when it is low; of the next movement on, or of how it stands."""
        return replace(self, low_threshold=threshold, is_low=False, revision=self.revision + 1)

    def merged(self, into_id: str) -> Holding:
        """Nobody is told any more that it is low: it is another's."""
        return replace(self.watching(None), merged_into_id=into_id)

    def moved(self, before: Money, after: Money) -> Holding:
        """What can be used was one thing, and is another. It falls once, until it has been back."""
        is_low = self.low_threshold is not None and after < self.low_threshold
        was_low = self.is_low and self.low_threshold is not None and before < self.low_threshold
        if is_low == self.is_low == was_low:
            return self
        fell = is_low and not was_low
        return replace(self, is_low=is_low, low_count=self.low_count + fell, revision=self.revision + 1)


class Applied(NamedTuple):
    """What an invoice took up of a grant, and when."""

    grant_id: GrantId
    amount: Money
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a customer has in one currency at some time."""

    holding: Holding
    available: Money
    reserved: Money
    paid: Money
    """Of what is available."""
    promotional: Money
    """Of what is available."""
    pending: Money
    next_expire_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """Everything that a customer has in one currency, locked, and what has been done with it since.

    `grants` are all of which something is left, and those that something is to come back to.
    """

    holding: Holding
    grants: tuple[Grant, ...]
    opening: Money
    """What could be used when it was opened."""
    movements: tuple[Movement, ...] = ()

    @classmethod
    def open(cls, holding: Holding, grants: Sequence[Grant], *, at: datetime) -> Wallet:
        opening = sum_money((grant.free for grant in grants if grant.is_usable(at)), holding.key.currency)
        return cls(holding=holding, grants=tuple(sorted(grants, key=lambda grant: grant.rank)), opening=opening)

    @property
    def currency(self) -> str:
        return self.holding.key.currency

    def usable(self, at: datetime) -> list[Grant]:
        """In the order in which they are used."""
        return [grant for grant in self.grants if grant.is_usable(at)]

    def available(self, at: datetime, *, use: Use | None = None) -> Money:
        """What can be used, for anything or for one thing."""
        usable = (grant for grant in self.usable(at) if use is None or grant.scope.covers(use))
        return sum_money((grant.free for grant in usable), self.currency)

    def balance(self, at: datetime) -> Balance:
        usable = self.usable(at)
        paid = sum_money((grant.free for grant in usable if grant.kind is GrantKind.PAID), self.currency)
        available = self.available(at)
        return Balance(
            holding=self.holding,
            available=available,
            reserved=sum_money((grant.reserved for grant in self.grants), self.currency),
            paid=paid,
            promotional=available - paid,
            pending=sum_money((grant.free for grant in self.grants if grant.effective_time > at), self.currency),
            next_expire_time=min((grant.expire_time for grant in usable if grant.expire_time), default=None),
        )

    def grant(self, grant: Grant) -> Wallet:
        """Have a new one; nothing of it has moved before."""
        blank = replace(grant, remaining=Money.zero(self.currency), reserved=Money.zero(self.currency), revision=0)
        having = replace(self, grants=tuple(sorted((*self.grants, blank), key=lambda each: each.rank)))
        return having._move(blank.id, MovementKind.GRANTED, grant.amount, grant.document_id)

    def apply(self, invoice: Invoice, *, at: datetime) -> tuple[Wallet, Money]:
        """As much of what an invoice comes to as there is credit for; how much that is."""
        used = taken_up(invoice, self.usable(at))
        wallet = self
        for grant_id, amount in used:
            wallet = wallet._move(grant_id, MovementKind.APPLIED, amount, invoice.id)
        return wallet, sum_money((amount for _, amount in used), self.currency)

    def take_back(self, applied: Iterable[Applied], *, document_id: str, at: datetime) -> Wallet:
        """What an invoice that is annulled had taken up. Of a grant that is over it can be used for as long as it could
        have been when it was applied.
        """
        wallet = self
        for grant_id, amount, time in applied:
            wallet = wallet._move(grant_id, MovementKind.RETURNED, amount, document_id)
            grant = wallet._named(grant_id)
            if grant.expire_time is not None and at >= grant.expire_time:
                wallet = wallet._put(replace(grant, expire_time=at + (grant.expire_time - time)))
        return wallet

    def reserve(self, amount: Money, *, use: Use, document_id: str, at: datetime) -> Wallet:
        """Set all of an amount aside. Fails with INSUFFICIENT_CREDIT."""
        available = self.available(at, use=use)
        if amount > available:
            raise InsufficientCredit(f"{amount} are wanted and {available} can be used", available=available.amount)
        wallet, left = self, amount
        for grant in self.usable(at):
            part = min(left, grant.free) if grant.scope.covers(use) else Money.zero(self.currency)
            if part.minor:
                wallet = wallet._move(grant.id, MovementKind.RESERVED, part, document_id)
                left = left - part
        return wallet

    def commit(self, parts: Iterable[tuple[GrantId, Money]], amount: Money, *, document_id: str) -> Wallet:
        """Use an amount of what was set aside, in the order in which it was, and let go of the rest."""
        wallet, left = self, amount
        for grant_id, part in parts:
            used = min(left, part)
            if used.minor:
                wallet = wallet._move(grant_id, MovementKind.COMMITTED, used, document_id)
            if part > used:
                wallet = wallet._move(grant_id, MovementKind.RELEASED, part - used, document_id)
            left = left - used
        return wallet

    def expire(self, *, at: datetime) -> Wallet:
        """All that is over."""
        wallet = self
        for grant in self.grants:
            if grant.is_over(at):
                ended = replace(grant, expired_time=at, expire_count=grant.expire_count + 1)
                wallet = wallet._put(ended)._move(grant.id, MovementKind.EXPIRED, grant.free, "")
        return wallet

    def revoke(self, grant_id: GrantId, *, at: datetime) -> Wallet:
        """What is left of one and not reserved. Fails with CREDIT_GRANT_ENDED when nothing is."""
        found = next((grant for grant in self.grants if grant.id == grant_id), None)
        if found is None or not found.free.minor:
            raise CreditGrantEnded(f"nothing is left of grant {grant_id} that is not reserved", grant=grant_id)
        return self._put(replace(found, revoked_time=at))._move(grant_id, MovementKind.REVOKED, found.free, "")

    def move(self, grant_id: GrantId, *, to: Grant) -> Wallet:
        """What is left of one and not reserved: another customer's from then on, by a grant of its own."""
        return self._move(grant_id, MovementKind.MOVED, self._named(grant_id).free, to.id)

    def leaving(self, at: datetime) -> list[Grant]:
        """Those of which something is the customer's into which this one was merged; not what is over."""
        if not self.holding.merged_into_id:
            return []
        return [grant for grant in self.grants if grant.free.minor and not grant.is_over(at)]

    def wants_top_up(self, at: datetime) -> bool:
        threshold = self.holding.top_up_threshold
        return threshold is not None and self.available(at) < threshold

    def moved(self, at: datetime) -> Holding:
        """The holding after all that was done."""
        return self.holding.moved(self.opening, self.available(at))

    def _move(self, grant_id: GrantId, kind: MovementKind, amount: Money, document_id: str) -> Wallet:
        remaining, reserved = _EFFECTS[kind]
        before = self._named(grant_id)
        after = replace(
            before,
            remaining=before.remaining + remaining * amount,
            reserved=before.reserved + reserved * amount,
            revision=before.revision + 1,
        )
        if not 0 <= after.reserved.minor <= after.remaining.minor <= after.amount.minor or amount.minor <= 0:
            raise ValueError(f"{kind.name} of {amount} with {before.remaining} left and {before.reserved} reserved")
        movement = Movement(grant=after, kind=kind, amount=amount, document_id=document_id)
        return replace(self._put(after), movements=(*self.movements, movement))

    def _named(self, grant_id: GrantId) -> Grant:
        found = next((grant for grant in self.grants if grant.id == grant_id), None)
        if found is None:
            raise CreditGrantNotFound(f"there is no grant {grant_id}", grant=grant_id)
        return found

    def _put(self, changed: Grant) -> Wallet:
        grants = tuple(changed if grant.id == changed.id else grant for grant in self.grants)
        return replace(self, grants=grants)


def taken_up(invoice: Invoice, usable: Sequence[Grant]) -> list[tuple[GrantId, Money]]:
    """What an invoice takes of each of some grants, in their order: as much of its total as their scopes allow.

    A line is worth the share of the total that it has before tax. An invoice that buys credit takes up none.
    """
    if invoice.total.minor <= 0 or invoice.top_up_rule_id or not usable:
        return []
    shares = invoice.total.allocate([max(line.net_amount.minor, 0) for line in invoice.lines])
    rooms: dict[tuple[int, ...], int] = {}
    for line, share in zip(invoice.lines, shares, strict=True):
        use = Use.of(line)
        covering = tuple(n for n, grant in enumerate(usable) if grant.scope.covers(use))
        rooms[covering] = rooms.get(covering, 0) + share.minor
    used = assigned([grant.free.minor for grant in usable], rooms)
    return [(grant.id, Money(minor, invoice.currency)) for grant, minor in zip(usable, used, strict=True) if minor]
