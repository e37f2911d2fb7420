"""Knows who is asking: every call, message and job is carried out on behalf of a caller."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Final

from common.ids import SellerId

EVERY_SELLER: Final = SellerId("*")
"""Rows of all sellers: what the loops of the chassis and platform callers may see. No token ever carries it."""


class Role(Enum):
    """What a caller may do; `common.auth` says which RPCs that means."""

    PLATFORM = "platform"
    OWNER = "owner"
    INTEGRATOR = "integrator"
    VIEWER = "viewer"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking, and for which seller."""

    seller_id: SellerId
    actor: str
    role: Role


def service_caller(service: str, seller_id: SellerId) -> Caller:
    """A service acting by itself: for a message or a job of this seller."""
    return Caller(seller_id=seller_id, actor=service_actor(service), role=Role.SERVICE)


def service_actor(service: str) -> str:
    return f"service:{service}"


# Which caller the current task acts for. Doors set it; the client channel reads it to sign calls to a neighbour.
current_caller: ContextVar[Caller] = ContextVar("current_caller")
