"""Dunning's door: parse, call, answer."""

from __future__ import annotations

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from dunning import store, usecases
from dunning.convert import campaign_to_proto, policy_to_proto, terms_from_proto
from dunning.domain.campaign import CampaignId
from saldo.dunning.v1 import dunning_campaign_pb2, dunning_policy_pb2
from saldo.dunning.v1 import dunning_service_pb2 as pb
from saldo.dunning.v1.dunning_service_pb2_grpc import DunningServiceServicer


class DunningApi(DunningServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def CreateDunningPolicy(
        self, request: pb.CreateDunningPolicyRequest, tx: Tx
    ) -> dunning_policy_pb2.DunningPolicy:
        return policy_to_proto(await usecases.create_policy(tx, terms_from_proto(request)))

    @transactional
    async def ListDunningPolicies(
        self, request: pb.ListDunningPoliciesRequest, tx: Tx
    ) -> pb.ListDunningPoliciesResponse:
        page = wire.page(request)
        found = await store.list_policies(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListDunningPoliciesResponse(
            dunning_policies=[policy_to_proto(policy) for policy in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def GetDunningCampaign(
        self, request: pb.GetDunningCampaignRequest, tx: Tx
    ) -> dunning_campaign_pb2.DunningCampaign:
        if bool(request.id) == bool(request.invoice_id):
            raise InvalidArgument("must be given, or an invoice_id instead", field="id")
        if request.invoice_id:
            invoice_id = ids.check(request.invoice_id, "inv", field="invoice_id")
            return campaign_to_proto(await store.campaign_of_invoice(tx, invoice_id))
        return campaign_to_proto(await store.campaign(tx, CampaignId(ids.check(request.id, "dcam"))))

    @transactional
    async def ListDunningCampaigns(
        self, request: pb.ListDunningCampaignsRequest, tx: Tx
    ) -> pb.ListDunningCampaignsResponse:
        page = wire.page(request)
        customer_id = ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else ""
        found = await store.list_campaigns(
            tx, customer_id=customer_id, after=page.after[0] if page.after else "", limit=page.size + 1
        )
        return pb.ListDunningCampaignsResponse(
            dunning_campaigns=[campaign_to_proto(campaign) for campaign in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )
