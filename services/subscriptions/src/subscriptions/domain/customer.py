"""Knows the customer: who is billed, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from common.errors import InvalidArgument
from common.money import minor_units
from common.period import check_time_zone
from subscriptions.domain.contact_person import CONTACTS_MAX, ContactId, ContactPerson
from subscriptions.domain.custom_fields import check_custom_fields
from subscriptions.domain.customer_name import CustomerName, ordered
from subscriptions.domain.errors import (
    AliasNotFound,
    ContactNotFound,
    CustomerMerged,
    PersonalDataErased,
    TaxExemptionNotFound,
    TooManyAliases,
    TooManyContacts,
    TooManyTaxExemptions,
)
from subscriptions.domain.tax_exemption import TAX_EXEMPTIONS_MAX, TaxExemption, TaxExemptionId

CustomerId = NewType("CustomerId", str)

NET_TERMS_DAYS_MAX: Final = 365
LANGUAGE_CODE_LENGTH_MAX: Final = 35
BILLING_DAY_MAX: Final = 31
ALIASES_MAX: Final = 20


class State(Enum):
    ACTIVE = "ACTIVE"
    MERGED = "MERGED"


class CollectionMethod(Enum):
    CHARGE_AUTOMATICALLY = "CHARGE_AUTOMATICALLY"
    SEND_INVOICE = "SEND_INVOICE"


class Delivery(Enum):
    EMAIL = "EMAIL"
    NONE = "NONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The personal data. `address` is a serialized google.type.PostalAddress, empty when there is none."""

    display_name: str
    email: str
    address: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingProfile:
    """`billing_day` is 0 when there is none."""

    currency: str
    time_zone: str
    language_code: str
    net_terms_days: int
    collection_method: CollectionMethod
    billing_day: int = 0
    delivery: Delivery = Delivery.EMAIL
    purchase_order: str = ""

    def __post_init__(self) -> None:
        minor_units(self.currency, field="billing_profile.currency")
        check_time_zone(self.time_zone, field="billing_profile.time_zone")
        if len(self.language_code) > LANGUAGE_CODE_LENGTH_MAX or not _LANGUAGE_TAG.fullmatch(self.language_code):
            raise InvalidArgument(
                "must be a BCP 47 language tag, such as en or pt-BR", field="billing_profile.language_code"
            )
        if not 0 <= self.net_terms_days <= NET_TERMS_DAYS_MAX:
            raise InvalidArgument(f"must be 0 to {NET_TERMS_DAYS_MAX}", field="billing_profile.net_terms_days")
        if not 0 <= self.billing_day <= BILLING_DAY_MAX:
            raise InvalidArgument(f"must be 0 to {BILLING_DAY_MAX}", field="billing_profile.billing_day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """`external_id` is the seller's own key. It and the ids of other customers are empty where there is none.

    `names` are all that usage may call it beside its id; of one that was merged, all that it was called.
    Every change gives a new customer of the next revision, or the same one if it says nothing new.
    """

    id: CustomerId
    external_id: str
    contact: Contact
    billing_profile: BillingProfile
    revision: int
    create_time: datetime
    update_time: datetime
    state: State = State.ACTIVE
    merged_into_id: str = ""
    aliases: tuple[str, ...] = ()
    merged_ids: tuple[str, ...] = ()
    names: tuple[CustomerName, ...] = ()
    parent_id: str = ""
    payer_id: str = ""
    contacts: tuple[ContactPerson, ...] = ()
    tax_exemptions: tuple[TaxExemption, ...] = ()
    custom_fields: Mapping[str, str] = field(default_factory=dict)
    erase_time: datetime | None = None

    def check_active(self) -> None:
        if self.state is State.MERGED:
            raise CustomerMerged(
                f"customer {self.id} was merged into {self.merged_into_id}",
                customer=self.id,
                merged_into=self.merged_into_id,
            )

    def updated(self, *, contact: Contact | None, billing_profile: BillingProfile | None, at: datetime) -> Customer:
        """With the parts that are given."""
        changed = replace(
            self, contact=contact or self.contact, billing_profile=billing_profile or self.billing_profile
        )
        return self._become(changed, at=at)

    def under(self, parent_id: str, *, at: datetime) -> Customer:
        return self._become(replace(self, parent_id=parent_id), at=at)

    def paid_by(self, payer_id: str, *, at: datetime) -> Customer:
        if payer_id == self.id:
            raise InvalidArgument("must be another customer; empty is the customer itself", field="payer_id")
        return self._become(replace(self, payer_id=payer_id), at=at)

    def with_alias(self, alias: str, *, since: datetime | None = None, at: datetime) -> Customer:
        """`since`: usage under it has not always been free to count."""
        if alias in self.aliases:
            return self._become(self, at=at)
        if len(self.aliases) >= ALIASES_MAX:
            raise TooManyAliases(
                f"customer {self.id} has {len(self.aliases)} aliases already", customer=self.id, maximum=ALIASES_MAX
            )
        names = ordered((*self.names, CustomerName(key=alias, since=since)))
        return self._become(replace(self, aliases=tuple(sorted((*self.aliases, alias))), names=names), at=at)

    def without_alias(self, alias: str, *, at: datetime) -> Customer:
        self.check_active()
        if alias not in self.aliases:
            raise AliasNotFound(f"customer {self.id} has no alias {alias}", customer=self.id, alias=alias)
        aliases = tuple(each for each in self.aliases if each != alias)
        names = tuple(name for name in self.names if name.key != alias)
        return self._become(replace(self, aliases=aliases, names=names), at=at)

    def with_contact(self, contact: ContactPerson, *, at: datetime) -> Customer:
        self.check_active()
        if len(self.contacts) >= CONTACTS_MAX:
            raise TooManyContacts(
                f"customer {self.id} has {CONTACTS_MAX} contacts already", customer=self.id, maximum=CONTACTS_MAX
            )
        return self._become(replace(self, contacts=(*self.contacts, contact)), at=at)

    def with_contact_updated(self, contact: ContactPerson, *, at: datetime) -> Customer:
        self._check_contact(contact.id)
        contacts = tuple(contact if each.id == contact.id else each for each in self.contacts)
        return self._become(replace(self, contacts=contacts), at=at)

    def without_contact(self, contact_id: ContactId, *, at: datetime) -> Customer:
        self._check_contact(contact_id)
        contacts = tuple(each for each in self.contacts if each.id != contact_id)
        return self._become(replace(self, contacts=contacts), at=at)

    def with_tax_exemption(self, exemption: TaxExemption, *, at: datetime) -> Customer:
        self.check_active()
        if len(self.tax_exemptions) >= TAX_EXEMPTIONS_MAX:
            raise TooManyTaxExemptions(
                f"customer {self.id} has {TAX_EXEMPTIONS_MAX} tax exemptions already",
                customer=self.id,
                maximum=TAX_EXEMPTIONS_MAX,
            )
        return self._become(replace(self, tax_exemptions=(*self.tax_exemptions, exemption)), at=at)

    def without_tax_exemption(self, exemption_id: TaxExemptionId, *, at: datetime) -> Customer:
        self.check_active()
        left = tuple(each for each in self.tax_exemptions if each.id != exemption_id)
        if len(left) == len(self.tax_exemptions):
            raise TaxExemptionNotFound(
                f"customer {self.id} has no tax exemption {exemption_id}", customer=self.id, tax_exemption=exemption_id
            )
        return self._become(replace(self, tax_exemptions=left), at=at)

    def with_custom_fields(self, fields: Mapping[str, str], *, at: datetime) -> Customer:
        check_custom_fields(fields)
        return self._become(replace(self, custom_fields=fields), at=at)

    def _check_contact(self, contact_id: ContactId) -> None:
        self.check_active()
        if all(each.id != contact_id for each in self.contacts):
            raise ContactNotFound(
                f"customer {self.id} has no contact {contact_id}", customer=self.id, contact=contact_id
            )

    def check_not_erased(self) -> None:
        if self.erase_time is not None:
            raise PersonalDataErased(f"the personal data of customer {self.id} was erased", customer=self.id)

    def erased(self, *, remaining: Contact, at: datetime) -> Customer:
        """Without personal data, for good; also of a customer that was merged into another."""
        self.check_not_erased()
        return replace(
            self,
            contact=remaining,
            contacts=(),
            custom_fields={},
            tax_exemptions=tuple(each.without_certificate for each in self.tax_exemptions),
            erase_time=at,
            revision=self.revision + 1,
            update_time=at,
        )

    @property
    def _personal(self) -> tuple[Contact, tuple[ContactPerson, ...], Mapping[str, str], tuple[str, ...]]:
        certificates = tuple(each.certificate_number for each in self.tax_exemptions if each.certificate_number)
        return self.contact, self.contacts, self.custom_fields, certificates

    def _become(self, changed: Customer, *, at: datetime) -> Customer:
        self.check_active()
        if changed._personal != self._personal:
            self.check_not_erased()
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
