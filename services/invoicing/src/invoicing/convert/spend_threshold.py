"""Knows how spend thresholds, and what was billed early because of them, look on the wire."""

from __future__ import annotations

from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money
from invoicing.domain.consolidation_policy import Scope
from invoicing.domain.spend_threshold import EarlyLine, Spend, SpendThreshold, ThresholdId, checked_amount
from saldo.invoicing.v1 import spend_threshold_pb2
from saldo.invoicing.v1 import spend_thresholds_service_pb2 as pb

_SCOPES: Final = spend_threshold_pb2.SpendThreshold.Scope
_PREFIXES: Final = {Scope.CUSTOMER: "cus", Scope.SUBSCRIPTION: "sub"}


def parse_threshold_id(text: str) -> ThresholdId:
    return ThresholdId(ids.check(text, "sthr"))


def parse_scope(number: spend_threshold_pb2.SpendThreshold.Scope.ValueType) -> Scope:
    return Scope[wire.enum_name(_SCOPES, number, field="scope")]


def parse_declaration(request: pb.SetSpendThresholdRequest) -> tuple[Scope, str, Money]:
    """For what, and how much."""
    scope = parse_scope(request.scope)
    if scope is Scope.SELLER and request.scope_id:
        raise InvalidArgument("must be empty for the seller", field="scope_id")
    if scope is not Scope.SELLER:
        ids.check(request.scope_id, _PREFIXES[scope], field="scope_id")
    return scope, request.scope_id, checked_amount(wire.parse_money(request.amount, field="amount"))


def threshold_to_proto(threshold: SpendThreshold) -> spend_threshold_pb2.SpendThreshold:
    return spend_threshold_pb2.SpendThreshold(
        id=threshold.id,
        scope=_SCOPES.Value(threshold.scope.name),
        scope_id=threshold.scope_id,
        amount=wire.money(threshold.amount),
        create_time=wire.timestamp(threshold.create_time),
        end_time=None if threshold.end_time is None else wire.timestamp(threshold.end_time),
    )


def spend_to_proto(spend: Spend) -> spend_threshold_pb2.UnbilledSpend:
    return spend_threshold_pb2.UnbilledSpend(
        subscription_id=spend.subscription_id,
        unbilled=wire.money(spend.unbilled),
        billed_early=wire.money(spend.billed_early),
        threshold=None if spend.threshold is None else threshold_to_proto(spend.threshold),
    )


def early_line_to_proto(line: EarlyLine) -> spend_threshold_pb2.EarlyLine:
    return spend_threshold_pb2.EarlyLine(
        line_id=line.line_id,
        invoice_id=line.invoice_id,
        customer_id=line.customer_id,
        subscription_id=line.subscription_id,
        item_id=line.key.item_id,
        price_id=line.key.price_id,
        period=wire.interval(line.period),
        bill_time=wire.timestamp(line.bill_time),
        spend=wire.money(line.spend),
        threshold_id=line.threshold_id,
        create_time=wire.timestamp(line.create_time),
    )
