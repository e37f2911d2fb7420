"""Knows the customer: who is billed, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from common.money import minor_units
from common.period import check_time_zone

CustomerId = NewType("CustomerId", str)

NET_TERMS_DAYS_MAX: Final = 365
LANGUAGE_CODE_LENGTH_MAX: Final = 35


class CollectionMethod(Enum):
    CHARGE_AUTOMATICALLY = "CHARGE_AUTOMATICALLY"
    SEND_INVOICE = "SEND_INVOICE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The personal data. `address` is a serialized google.type.PostalAddress, empty when there is none."""

    display_name: str
    email: str
    address: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingProfile:
    currency: str
    time_zone: str
    language_code: str
    net_terms_days: int
    collection_method: CollectionMethod

    def __post_init__(self) -> None:
        minor_units(self.currency, field="billing_profile.currency")
        check_time_zone(self.time_zone, field="billing_profile.time_zone")
        if len(self.language_code) > LANGUAGE_CODE_LENGTH_MAX or not _LANGUAGE_TAG.fullmatch(self.language_code):
            raise InvalidArgument(
                "must be a BCP 47 language tag, such as en or pt-BR", field="billing_profile.language_code"
            )
        if not 0 <= self.net_terms_days <= NET_TERMS_DAYS_MAX:
            raise InvalidArgument(f"must be 0 to {NET_TERMS_DAYS_MAX}", field="billing_profile.net_terms_days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """`external_id` is the seller's own key, empty when there is none."""

    id: CustomerId
    external_id: str
    contact: Contact
    billing_profile: BillingProfile
    revision: int
    create_time: datetime
    update_time: datetime

    def updated(self, *, contact: Contact | None, billing_profile: BillingProfile | None, at: datetime) -> Customer:
        """With the parts that are given; the same customer if they say nothing new."""
        changed = replace(
            self, contact=contact or self.contact, billing_profile=billing_profile or self.billing_profile
        )
        return self if changed == self else replace(changed, revision=self.revision + 1, update_time=at)


# The shape of a tag, by the grammar of RFC 5646; whether the words in it are registered is not checked.
_LANGUAGE_TAG: Final = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})"  # language
    r"(?:-[a-z]{4})?"  # script
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"  # region
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"  # variants
    r"(?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*"  # extensions
    r"(?:-x(?:-[a-z0-9]{1,8})+)?",  # private use
    re.IGNORECASE | re.ASCII,
)
