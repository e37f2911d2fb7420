"""Knows what a tax authority is to subscriptions: it says whether a number is in force, or nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from common import ids
from common.ids import SellerId
from subscriptions.domain.tax_id import TaxNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """`tries` is how often the authority was asked before by schedule, without an answer."""

    tax_id: str
    number: TaxNumber
    tries: int


class AuthorityUnavailable(Exception):
    """The authority could not be asked, or gave no answer. That says nothing about the number."""


class TaxAuthority(Protocol):
    """Who gave out a number, or speaks for those who did."""

    @property
    def name(self) -> str: ...

    async def is_valid(self, inquiry: Inquiry) -> bool:
        """Whether the number is in force today. Raises AuthorityUnavailable."""


class NoAuthority:
    """Where no address is configured, nobody answers."""

    name = "none"

    async def is_valid(self, inquiry: Inquiry) -> bool:
        raise AuthorityUnavailable(f"there is nobody to ask about {inquiry.number.kind}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxAuthorities:
    """Who is asked on behalf of whom."""

    live: TaxAuthority
    sandbox: TaxAuthority

    def of(self, seller_id: SellerId) -> TaxAuthority:
        return self.sandbox if ids.is_sandbox(seller_id) else self.live
