"""Knows the people to talk to about a customer's billing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument

ContactId = NewType("ContactId", str)

CONTACTS_MAX: Final = 20
PHONE_LENGTH_MAX: Final = 40


class Role(Enum):
    BILLING = "BILLING"
    TECHNICAL = "TECHNICAL"
    LEGAL = "LEGAL"
    PURCHASING = "PURCHASING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPerson:
    """Personal data throughout. Mail and phone are empty when they are not known."""

    id: ContactId
    display_name: str
    email: str
    phone: str
    roles: tuple[Role, ...]

    def __post_init__(self) -> None:
        if self.phone and (len(self.phone) > PHONE_LENGTH_MAX or not _PHONE.fullmatch(self.phone)):
            raise InvalidArgument(
                f"must be digits, grouped by spaces and ().-/, at most {PHONE_LENGTH_MAX} characters",
                field="contact.phone",
            )
        if len(set(self.roles)) < len(self.roles):
            raise InvalidArgument("must name each role once", field="contact.roles")


_PHONE: Final = re.compile(r"\+?[(]?[0-9](?:[ ().\-/]{0,2}[0-9])*")
