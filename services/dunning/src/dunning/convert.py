"""Knows how policies and campaigns look on the wire, and what an overdue invoice tells."""

from __future__ import annotations

from typing import Final

from common import wire
from dunning.domain.campaign import Campaign, OverdueInvoice, Step
from dunning.domain.policy import FinalAction, Policy, Terms
from saldo.dunning.v1 import dunning_campaign_pb2, dunning_policy_pb2
from saldo.dunning.v1 import dunning_service_pb2 as pb
from saldo.invoicing.v1 import invoice_pb2

NAME_LENGTH_MAX: Final = 200
FINAL_WAIT_DAYS: Final = 1
"""When a policy does not say."""


def terms_from_proto(request: pb.CreateDunningPolicyRequest) -> Terms:
    final_action = wire.enum_name(
        dunning_policy_pb2.DunningPolicy.FinalAction, request.final_action, field="final_action"
    )
    return Terms(
        display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
        retry_wait_days=tuple(request.retry_wait_days),
        final_wait_days=request.final_wait_days or FINAL_WAIT_DAYS,
        final_action=FinalAction[final_action],
    )


def policy_to_proto(policy: Policy) -> dunning_policy_pb2.DunningPolicy:
    return dunning_policy_pb2.DunningPolicy(
        id=policy.id,
        display_name=policy.terms.display_name,
        retry_wait_days=policy.terms.retry_wait_days,
        final_wait_days=policy.terms.final_wait_days,
        final_action=dunning_policy_pb2.DunningPolicy.FinalAction.Value(policy.terms.final_action.name),
        revision=policy.revision,
        create_time=wire.timestamp(policy.create_time),
    )


def overdue_invoice_from_proto(invoice: invoice_pb2.Invoice) -> OverdueInvoice:
    billed = (line.subscription_id for line in invoice.line_items if line.subscription_id)
    return OverdueInvoice(
        invoice_id=invoice.id,
        customer_id=invoice.customer_id,
        subscription_ids=tuple(dict.fromkeys(billed)),
        amount=wire.parse_money(invoice.amount_remaining, field="amount_remaining"),
    )


def campaign_to_proto(campaign: Campaign) -> dunning_campaign_pb2.DunningCampaign:
    next_step_time, end_time = campaign.next_step_time, campaign.end_time
    return dunning_campaign_pb2.DunningCampaign(
        id=campaign.id,
        invoice_id=campaign.invoice.invoice_id,
        customer_id=campaign.invoice.customer_id,
        subscription_ids=campaign.invoice.subscription_ids,
        amount=wire.money(campaign.invoice.amount),
        policy=policy_to_proto(campaign.policy),
        state=dunning_campaign_pb2.DunningCampaign.State.Value(campaign.state.name),
        steps=[_step_to_proto(step) for step in campaign.steps],
        next_step_time=None if next_step_time is None else wire.timestamp(next_step_time),
        revision=campaign.revision,
        start_time=wire.timestamp(campaign.start_time),
        end_time=None if end_time is None else wire.timestamp(end_time),
    )


def _step_to_proto(step: Step) -> dunning_campaign_pb2.DunningStep:
    return dunning_campaign_pb2.DunningStep(
        action=dunning_campaign_pb2.DunningStep.Action.Value(step.action.name),
        time=wire.timestamp(step.time),
        note=step.note,
    )
