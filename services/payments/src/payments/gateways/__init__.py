"""Knows what a gateway is to payments: it captures an amount once per attempt id, and can be asked what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from common.ids import SellerId
from common.money import Money
from payments.domain.payment import AttemptId


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOrder:
    """What is to be captured. The same attempt always makes the same order."""

    attempt_id: AttemptId
    seller_id: SellerId
    invoice_id: str
    token: str
    amount: Money
    record_time: datetime
    """Wall time, before which the gateway cannot have heard of the attempt."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The money moves; `reference` is the gateway's own id of that."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """No money moves, ever, for this attempt."""

    code: str
    retryable: bool


Outcome = Captured | Declined


class GatewayUnknown(Exception):
    """The answer was lost, or is none yet: the gateway may or may not have captured."""


class GatewayUnavailable(Exception):
    """The gateway would not look at it, so nothing has happened: try the same again."""


class Gateway(Protocol):
    """The external system that moves money."""

    @property
    def name(self) -> str: ...

    @property
    def processing_max(self) -> timedelta:
        """How long after a call the gateway may still be at work without `find` showing it."""

    @property
    def key_lifetime(self) -> timedelta:
        """How long after the first call a second one with the same attempt id is sure to capture nothing more."""

    @property
    def simulated(self) -> bool:
        """Whether it is part of the sandbox: the two durations then pass by the sandbox's clock, not the wall's."""

    @property
    def moves_real_money(self) -> bool: ...

    def check_token(self, token: str) -> None:
        """Raise InvalidArgument for a token that can never be one of this gateway's."""

    async def capture(self, order: CaptureOrder) -> Outcome:
        """Capture the amount once, however often this is called with the attempt id.

        Raises GatewayUnknown or GatewayUnavailable.
        """

    async def find(self, order: CaptureOrder) -> Outcome | None:
        """What became of an attempt; None when the gateway has captured nothing for it and is not about to.

        Raises GatewayUnknown when it cannot tell, and GatewayUnavailable when it would not look.
        """


Gateways = Mapping[str, Gateway]
