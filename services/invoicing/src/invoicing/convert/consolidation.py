"""Knows how consolidation policies, and why lines are together, look on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from invoicing.domain.consolidation_policy import (
    ALWAYS,
    Consolidated,
    Consolidation,
    ConsolidationPolicy,
    Difference,
    PolicyId,
    Scope,
    Source,
    checked_keys,
)
from saldo.invoicing.v1 import consolidation_policy_pb2
from saldo.invoicing.v1 import consolidation_service_pb2 as pb

_SCOPES: Final = consolidation_policy_pb2.ConsolidationPolicy.Scope
_PREFIXES: Final = {Scope.CUSTOMER: "cus", Scope.SUBSCRIPTION: "sub"}


def parse_policy_id(text: str) -> PolicyId:
    return PolicyId(ids.check(text, "cpol"))


def parse_scope(number: consolidation_policy_pb2.ConsolidationPolicy.Scope.ValueType) -> Scope:
    return Scope[wire.enum_name(_SCOPES, number, field="scope")]


def parse_declaration(request: pb.SetConsolidationPolicyRequest) -> tuple[Scope, str, tuple[str, ...]]:
    """For what, and which keys."""
    scope = parse_scope(request.scope)
    if scope is Scope.SELLER and request.scope_id:
        raise InvalidArgument("must be empty for the seller", field="scope_id")
    if scope is not Scope.SELLER:
        ids.check(request.scope_id, _PREFIXES[scope], field="scope_id")
    return scope, request.scope_id, checked_keys(request.keys)


def policy_to_proto(policy: ConsolidationPolicy) -> consolidation_policy_pb2.ConsolidationPolicy:
    return consolidation_policy_pb2.ConsolidationPolicy(
        id=policy.id,
        scope=_SCOPES.Value(policy.scope.name),
        scope_id=policy.scope_id,
        keys=policy.keys,
        revision=policy.revision,
        create_time=wire.timestamp(policy.create_time),
        update_time=wire.timestamp(policy.update_time),
    )


def explanation_to_proto(
    invoice: Consolidated | None, others: Sequence[tuple[Consolidated, Sequence[Difference]]]
) -> pb.ConsolidationExplanation:
    return pb.ConsolidationExplanation(
        invoice=None if invoice is None else _consolidated_to_proto(invoice),
        others=[
            pb.SeparateInvoice(
                invoice=_consolidated_to_proto(other),
                differences=[
                    pb.ConsolidationDifference(key=each.key, value=each.value, other_value=each.other_value)
                    for each in differences
                ],
            )
            for other, differences in others
        ],
    )


def _consolidated_to_proto(found: Consolidated) -> pb.ConsolidatedInvoice:
    return pb.ConsolidatedInvoice(
        invoice_id=found.invoice_id,
        number=found.number,
        bill_time=wire.timestamp(found.bill_time),
        line_count=found.line_count,
        subtotal=wire.money(found.subtotal),
        consolidation=_consolidation_to_proto(found.consolidation),
    )


def _consolidation_to_proto(consolidation: Consolidation) -> consolidation_policy_pb2.Consolidation:
    return consolidation_policy_pb2.Consolidation(
        keys=[
            consolidation_policy_pb2.ConsolidationKey(key=each.key, value=each.value, always=each.key in ALWAYS)
            for each in consolidation.keys
        ],
        sources=[_source_to_proto(source) for source in consolidation.sources],
    )


def _source_to_proto(source: Source) -> consolidation_policy_pb2.ConsolidationSource:
    return consolidation_policy_pb2.ConsolidationSource(
        policy_id=source.policy_id,
        scope=_SCOPES.Value(source.scope.name),
        scope_id=source.scope_id,
        keys=source.keys,
    )
