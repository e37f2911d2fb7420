"""Policies through the door: real PostgreSQL, real gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from common import ids
from common.caller import Role
from common.migrate import differences
from common.testing import SANDBOX_START, Suite, refused
from dunning.store import metadata
from saldo.dunning.v1 import dunning_policy_pb2
from saldo.dunning.v1 import dunning_service_pb2 as pb
from saldo.dunning.v1.dunning_service_pb2_grpc import DunningServiceStub

CANCEL = dunning_policy_pb2.DunningPolicy.CANCEL_SUBSCRIPTION


def firm(**changes: Any) -> pb.CreateDunningPolicyRequest:  # Any: fields of the message
    fields: dict[str, Any] = {
        "display_name": "Firm",
        "retry_wait_days": [1, 2],
        "final_wait_days": 3,
        "final_action": CANCEL,
    }
    return pb.CreateDunningPolicyRequest(**(fields | changes))


@pytest.mark.own_services
async def test_migrating_from_nothing_leaves_no_difference(suite: Suite, dunning: Any) -> None:
    """What the code believes about the tables is what the tables are."""
    assert await differences(suite.urls["dunning"], metadata) == []


async def test_a_policy_is_created_once_per_request(dunning: Any) -> None:
    """A caller that lost the answer asks again; a caller that mixes its keys up is told."""
    created = await dunning.CreateDunningPolicy(firm(request_id="r1"))
    assert await dunning.CreateDunningPolicy(firm(request_id="r1")) == created
    assert list((await dunning.ListDunningPolicies(pb.ListDunningPoliciesRequest())).dunning_policies) == [created]
    assert (list(created.retry_wait_days), created.final_wait_days, created.final_action) == ([1, 2], 3, CANCEL)
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await dunning.CreateDunningPolicy(firm(request_id="r1", final_wait_days=4))


async def test_a_policy_waits_a_day_before_giving_up_unless_it_says_more(dunning: Any) -> None:
    """0 is what an absent field looks like; giving up at the instant of the last retry would make it pointless."""
    assert (await dunning.CreateDunningPolicy(firm(final_wait_days=0))).final_wait_days == 1


async def test_policies_are_listed_page_by_page(dunning: Any) -> None:
    """Every one exactly once, oldest first."""
    names = [f"Policy {n}" for n in range(5)]
    for name in names:
        await dunning.CreateDunningPolicy(firm(display_name=name))
    listed: list[str] = []
    token = ""
    for _ in range(3):
        answer = await dunning.ListDunningPolicies(pb.ListDunningPoliciesRequest(page_size=2, page_token=token))
        listed += [policy.display_name for policy in answer.dunning_policies]
        token = answer.next_page_token
    assert listed == names
    assert token == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"display_name": ""}, "display_name"),
        ({"display_name": "a\nb"}, "display_name"),
        ({"display_name": "x" * 201}, "display_name"),
        ({"retry_wait_days": [1, -1]}, "retry_wait_days[1]"),
        ({"retry_wait_days": [366]}, "retry_wait_days[0]"),
        ({"retry_wait_days": [1] * 21}, "retry_wait_days"),
        ({"final_wait_days": -1}, "final_wait_days"),
        ({"final_wait_days": 366}, "final_wait_days"),
        ({"final_action": 0}, "final_action"),
        ({"final_action": 77}, "final_action"),
        ({"request_id": "r" * 129}, "request_id"),
    ],
)
async def test_a_bad_policy_is_refused_with_its_field(dunning: Any, changes: dict[str, Any], field: str) -> None:
    """It decides who is cut off: nothing of it may be guessed, or stay when it is refused."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await dunning.CreateDunningPolicy(firm(**changes))
    assert refusal.field == field
    assert not (await dunning.ListDunningPolicies(pb.ListDunningPoliciesRequest())).dunning_policies


async def test_nothing_is_open(suite: Suite, dunning: Any) -> None:
    """Without a token nothing is answered, who may only look cannot write, and no service has business here."""
    anyone = suite.raw_stub(DunningServiceStub, "dunning", token="")
    for call, request in (
        (anyone.CreateDunningPolicy, firm()),
        (anyone.ListDunningPolicies, pb.ListDunningPoliciesRequest()),
        (anyone.GetDunningCampaign, pb.GetDunningCampaignRequest()),
        (anyone.ListDunningCampaigns, pb.ListDunningCampaignsRequest()),
    ):
        with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
            await call(request)
    viewer = suite.stub(DunningServiceStub, "dunning", role=Role.VIEWER)
    await viewer.ListDunningPolicies(pb.ListDunningPoliciesRequest())
    await viewer.ListDunningCampaigns(pb.ListDunningCampaignsRequest())
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.CreateDunningPolicy(firm())


async def test_another_seller_sees_no_policy(suite: Suite, dunning: Any) -> None:
    """How firm a seller is, is its own business."""
    await dunning.CreateDunningPolicy(firm())
    other = ids.check_seller(ids.mint(ids.SANDBOX, SANDBOX_START))
    stranger = suite.stub(DunningServiceStub, "dunning", seller=other)
    assert not (await stranger.ListDunningPolicies(pb.ListDunningPoliciesRequest())).dunning_policies
