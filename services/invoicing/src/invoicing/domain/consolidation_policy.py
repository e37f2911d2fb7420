"""Knows consolidation policies: which keys are declared on which level, and which of them a line goes by.

    always        payer, currency, collection method, net terms    an invoice has one of each
    declared      what the nearest policy names                    of the subscription, of the payer, of the seller

Two lines share an invoice if they have the same keys and the same values of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple, NewType

from common.money import Money
from invoicing.domain.errors import ConsolidationKeyUnknown, TooManyConsolidationKeys
from invoicing.domain.lines_due import Due
from invoicing.domain.party import Customer

PolicyId = NewType("PolicyId", str)

ALWAYS: Final = ("payer", "currency", "collection_method", "net_terms")
STANDARD: Final = ("customer", "subscription", "plan", "purchase_order")
CUSTOM: Final = "custom."
KEYS_MAX: Final = 10
SOURCES_MAX: Final = 100
"""How many policies are kept with one invoice; every subscription of it may have one."""

_CUSTOM_KEY: Final = re.compile(r"custom\.[a-z0-9_]{1,40}")


class Scope(Enum):
    """For what a policy is declared; the nearest counts, which is the last of these."""

    SELLER = "SELLER"
    CUSTOMER = "CUSTOMER"
    SUBSCRIPTION = "SUBSCRIPTION"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolidationPolicy:
    """The keys declared for one seller, customer or subscription."""

    id: PolicyId
    scope: Scope
    scope_id: str
    """Empty for the seller."""
    keys: tuple[str, ...]
    revision: int
    create_time: datetime
    update_time: datetime

    @property
    def source(self) -> Source:
        return Source(policy_id=self.id, scope=self.scope, scope_id=self.scope_id, keys=self.keys)


class KeyValue(NamedTuple):
    """What a line is, by one key."""

    key: str
    value: str


class Difference(NamedTuple):
    """What keeps two invoices apart; None where it is no key of one."""

    key: str
    value: str | None
    other_value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where keys were declared, as it was then."""

    policy_id: str
    scope: Scope
    scope_id: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidation:
    """What the lines of an invoice have in common, and who said that it matters."""

    keys: tuple[KeyValue, ...] = ()
    """Those that every line has first."""
    sources: tuple[Source, ...] = ()
    """The nearest first."""

    @classmethod
    def undeclared(cls, payer_id: str, currency: str) -> Consolidation:
        """Of an invoice of before it was kept: nothing could be declared."""
        return cls(keys=(KeyValue("payer", payer_id), KeyValue("currency", currency)))

    @property
    def payer_id(self) -> str:
        return dict(self.keys).get("payer", "")

    @property
    def fingerprint(self) -> str:
        """The same for the same declared keys and values; empty without any."""
        declared = [each for each in self.keys if each.key not in ALWAYS]
        return hashlib.sha256(json.dumps(declared).encode()).hexdigest() if declared else ""

    def beside(self, other: Consolidation) -> Consolidation:
        """Of lines that are put together later, by the same keys."""
        return replace(self, sources=_nearest_first({*self.sources, *other.sources}))

    def differences(self, other: Consolidation) -> list[Difference]:
        ours, theirs = dict(self.keys), dict(other.keys)
        return [
            Difference(key, ours.get(key), theirs.get(key))
            for key in dict.fromkeys((*ours, *theirs))
            if ours.get(key) != theirs.get(key)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidated:
    """An invoice, or one that is yet to come, as far as it tells why its lines are together."""

    invoice_id: str
    number: str
    bill_time: datetime
    line_count: int
    subtotal: Money
    consolidation: Consolidation


Place = tuple[tuple[KeyValue, ...], ConsolidationPolicy | None]
"""The keys of a line, and the policy that declared them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What lines are put together by: the policies in force, and the customers that the lines are about."""

    customers: Mapping[str, Customer]
    """Who used something, and who gets the invoices."""
    policies: Mapping[tuple[Scope, str], ConsolidationPolicy] = field(default_factory=dict)

    def placed(self, due: Iterable[Due]) -> Iterator[tuple[Due, Place]]:
        """Each with its keys and what declared them. Most of very many lines have the same."""
        known: dict[tuple[str, ...], Place] = {}
        for each in due:
            about: tuple[str, ...] = (each.payer_id, each.line.amount.currency)
            if self.policies:
                about = (*about, each.customer_id, each.line.subscription_id, each.plan_id)
            if about not in known:
                policy = self.policy_for(each)
                known[about] = self.keys_of(each, policy), policy
            yield each, known[about]

    def policy_for(self, due: Due) -> ConsolidationPolicy | None:
        for place in (
            (Scope.SUBSCRIPTION, due.line.subscription_id),
            (Scope.CUSTOMER, due.payer_id),
            (Scope.SELLER, ""),
        ):
            if place in self.policies:
                return self.policies[place]
        return None

    def keys_of(self, due: Due, policy: ConsolidationPolicy | None) -> tuple[KeyValue, ...]:
        """What decides with what else the line is on an invoice."""
        payer = self.customers[due.payer_id]
        always = {
            "payer": due.payer_id,
            "currency": due.line.amount.currency,
            "collection_method": payer.collection_method.name,
            "net_terms": str(payer.net_terms_days),
        }
        declared = () if policy is None else (key for key in policy.keys if key not in ALWAYS)
        return tuple(
            KeyValue(key, value)
            for key, value in (*always.items(), *((key, self._value(due, payer, key)) for key in declared))
        )

    def _value(self, due: Due, payer: Customer, key: str) -> str:
        customer = self.customers[due.customer_id]
        match key:
            case "customer":
                return due.customer_id
            case "subscription":
                return due.line.subscription_id
            case "plan":
                return due.plan_id
            case "purchase_order":
                return customer.purchase_order or payer.purchase_order
            case _:
                return customer.custom_fields.get(key.removeprefix(CUSTOM), "")


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """In order, each once."""
    if len(keys) > KEYS_MAX:
        raise TooManyConsolidationKeys(f"must be at most {KEYS_MAX}", field="keys")
    for n, key in enumerate(keys):
        if not (key in ALWAYS or key in STANDARD or _CUSTOM_KEY.fullmatch(key)):
            raise ConsolidationKeyUnknown(
                f"must be one of {', '.join((*ALWAYS, *STANDARD))} or {CUSTOM}<name of a custom field>",
                field=f"keys[{n}]",
            )
    return tuple(sorted(set(keys)))


def merged_sources(policies: Iterable[ConsolidationPolicy | None]) -> tuple[Source, ...]:
    """Of the lines of one invoice, each once, nearest first."""
    return _nearest_first({policy.id: policy.source for policy in policies if policy is not None}.values())


def _nearest_first(sources: Iterable[Source]) -> tuple[Source, ...]:
    levels = list(Scope)
    ordered = sorted(sources, key=lambda each: (-levels.index(each.scope), each.policy_id, each.keys))
    return tuple(ordered[:SOURCES_MAX])
