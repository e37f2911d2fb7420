"""What shares an invoice, as declared for the seller, a customer or a subscription; told why; and looked ahead to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import plan_pb2
from saldo.invoicing.v1 import consolidation_service_pb2 as pb
from saldo.invoicing.v1 import invoice_pb2, invoicing_service_pb2
from saldo.invoicing.v1.consolidation_policy_pb2 import ConsolidationPolicy
from saldo.invoicing.v1.consolidation_service_pb2_grpc import ConsolidationServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

from .conftest import Business, flat, pence, per_unit, told, utc
from .test_series import forge

pytestmark = pytest.mark.patched_when_used

SELLER, CUSTOMER, SUBSCRIPTION = (
    ConsolidationPolicy.SELLER,
    ConsolidationPolicy.CUSTOMER,
    ConsolidationPolicy.SUBSCRIPTION,
)
FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)
HOUR = timedelta(hours=1)


class Desk:
    """Everything about consolidation, in the seller's name."""

    def __init__(self, business: Business) -> None:
        self.business = business
        # Any, of both: grpc stubs are generated
        self.api: Any = business.suite.stub(ConsolidationServiceStub, "invoicing")
        self.customers: Any = business.suite.stub(CustomersServiceStub, "subscriptions")

    async def declare(
        self, *keys: str, scope: ConsolidationPolicy.Scope.ValueType = SELLER, of: str = ""
    ) -> ConsolidationPolicy:
        request = pb.SetConsolidationPolicyRequest(scope=scope, scope_id=of, keys=keys)
        declared: ConsolidationPolicy = await self.api.SetConsolidationPolicy(request)
        return declared

    async def pays(self, payer: customer_pb2.Customer, customer: customer_pb2.Customer) -> None:
        await self.customers.SetCustomerPayer(customers.SetCustomerPayerRequest(id=customer.id, payer_id=payer.id))

    async def fields(self, customer: customer_pb2.Customer, **fields: str) -> None:
        await self.customers.SetCustomFields(customers.SetCustomFieldsRequest(id=customer.id, custom_fields=fields))

    async def explain(self, **subject: str) -> pb.ConsolidationExplanation:
        found: pb.ConsolidationExplanation = await self.api.ExplainConsolidation(
            pb.ExplainConsolidationRequest(**subject)
        )
        return found

    async def preview(self, customer: customer_pb2.Customer, until: Any) -> pb.PreviewInvoicesResponse:  # Any: instant
        found: pb.PreviewInvoicesResponse = await self.api.PreviewInvoices(
            pb.PreviewInvoicesRequest(customer_id=customer.id, until_time=wire.timestamp(until))
        )
        return found

    async def upcoming(self, customer: customer_pb2.Customer) -> invoice_pb2.Invoice:
        found: invoice_pb2.Invoice = await self.business.invoicing.GetUpcomingInvoice(
            invoicing_service_pb2.GetUpcomingInvoiceRequest(customer_id=customer.id)
        )
        return found


@pytest_asyncio.fixture
async def desk(business: Business) -> Desk:
    return Desk(business)


async def two_plans(business: Business) -> tuple[plan_pb2.Plan, plan_pb2.Plan]:
    """Seats for 10 and a contract for 25, in advance."""
    return (
        await business.plan(await business.price("Seats", **per_unit("10"))),
        await business.plan(await business.price("Contract", **flat("25"))),
    )


def keys(found: pb.ConsolidatedInvoice) -> dict[str, str]:
    return {each.key: each.value for each in found.consolidation.keys}


def differences(other: pb.SeparateInvoice) -> Mapping[str, tuple[str | None, str | None]]:
    return {
        each.key: (
            each.value if each.HasField("value") else None,
            each.other_value if each.HasField("other_value") else None,
        )
        for each in other.differences
    }


async def test_a_policy_is_declared_changed_and_taken_back(suite: Suite, desk: Desk) -> None:
    """One for each place; the same keys change nothing; what is taken back is gone."""
    ada = await desk.business.customer()
    first = await desk.declare("plan", "custom.team", "plan")
    assert (first.scope, first.scope_id, first.revision) == (SELLER, "", 1)
    assert list(first.keys) == ["custom.team", "plan"]
    assert await desk.declare("custom.team", "plan") == first
    await suite.travel(utc(2026, 1, 2))
    changed = await desk.declare()
    assert (changed.id, changed.revision, list(changed.keys)) == (first.id, 2, [])
    assert changed.update_time.seconds > changed.create_time.seconds
    assert await desk.api.GetConsolidationPolicy(pb.GetConsolidationPolicyRequest(id=first.id)) == changed
    own = await desk.declare("subscription", scope=CUSTOMER, of=ada.id)
    pages = [
        await desk.api.ListConsolidationPolicies(pb.ListConsolidationPoliciesRequest(page_size=1, page_token=token))
        for token in ("", wire.encode_page_token(first.id))
    ]
    assert [[*page.policies] for page in pages] == [[changed], [own]]
    assert [bool(page.next_page_token) for page in pages] == [True, False]
    only = await desk.api.ListConsolidationPolicies(pb.ListConsolidationPoliciesRequest(scope=CUSTOMER))
    assert [*only.policies] == [own]
    gone = pb.RemoveConsolidationPolicyRequest(id=first.id, request_id="gone")
    assert await desk.api.RemoveConsolidationPolicy(gone) == changed
    assert await desk.api.RemoveConsolidationPolicy(gone) == changed
    for request in (pb.GetConsolidationPolicyRequest, pb.RemoveConsolidationPolicyRequest):
        with refused("CONSOLIDATION_POLICY_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            method = request.__name__.removesuffix("Request")
            await getattr(desk.api, method)(request(id=first.id))


async def test_a_repeated_request_declares_once(desk: Desk) -> None:
    """And with other keys it is another request."""
    request = pb.SetConsolidationPolicyRequest(scope=SELLER, keys=["plan"], request_id="r1")
    first = await desk.api.SetConsolidationPolicy(request)
    await desk.declare("customer")
    assert await desk.api.SetConsolidationPolicy(request) == first
    other = pb.SetConsolidationPolicyRequest(scope=SELLER, keys=["customer"], request_id="r1")
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await desk.api.SetConsolidationPolicy(other)


async def test_what_is_not_there_is_not_declared(suite: Suite, desk: Desk) -> None:
    """Neither keys that nothing has, nor places that there are not; and nothing is stored of it."""
    nobody, nothing = ids.mint("cus", SANDBOX_START), ids.mint("sub", SANDBOX_START)
    wrong: list[tuple[dict[str, Any], str, grpc.StatusCode]] = [  # Any: fields of the request
        ({"scope": SELLER, "keys": ["colour"]}, "CONSOLIDATION_KEY_UNKNOWN", grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"scope": SELLER, "keys": [f"custom.x{n}" for n in range(11)]},
            "TOO_MANY_CONSOLIDATION_KEYS",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ({"keys": ["plan"]}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": SELLER, "scope_id": nobody}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": CUSTOMER}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": SUBSCRIPTION, "scope_id": nobody}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({"scope": CUSTOMER, "scope_id": nobody}, "CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ({"scope": SUBSCRIPTION, "scope_id": nothing}, "SUBSCRIPTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    ]
    for fields, reason, code in wrong:
        with refused(reason, code):
            await desk.api.SetConsolidationPolicy(pb.SetConsolidationPolicyRequest(**fields))
    assert not (await desk.api.ListConsolidationPolicies(pb.ListConsolidationPoliciesRequest())).policies
    viewer: Any = suite.stub(ConsolidationServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.SetConsolidationPolicy(pb.SetConsolidationPolicyRequest(scope=SELLER))


async def test_what_another_seller_declared_is_not_there(suite: Suite, desk: Desk) -> None:
    """Neither to be read nor to be taken back."""
    declared = await desk.declare("plan")
    other: Any = suite.stub(  # Any: as above
        ConsolidationServiceStub, "invoicing", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    )
    assert not (await other.ListConsolidationPolicies(pb.ListConsolidationPoliciesRequest())).policies
    for call, request in (
        (other.GetConsolidationPolicy, pb.GetConsolidationPolicyRequest(id=declared.id)),
        (other.RemoveConsolidationPolicy, pb.RemoveConsolidationPolicyRequest(id=declared.id)),
    ):
        with refused("CONSOLIDATION_POLICY_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await call(request)
    assert (await desk.declare("plan")).revision == 1


async def test_subscriptions_are_on_invoices_as_declared(suite: Suite, desk: Desk) -> None:
    """Together where nothing is declared; one each for a customer for whom that was; and together again without."""
    business = desk.business
    seats, contract = await two_plans(business)
    ada, bob = await business.customer(), await business.customer()
    own = await desk.declare("subscription", scope=CUSTOMER, of=ada.id)
    for customer in (ada, bob):
        for plan in (seats, contract):
            await business.subscribe(customer, plan)
    await suite.travel(FEBRUARY)
    assert sorted(map(pence, (await business.invoices(ada))[2:])) == [10_00, 25_00]
    assert [pence(each) for each in (await business.invoices(bob))[2:]] == [35_00]
    await desk.api.RemoveConsolidationPolicy(pb.RemoveConsolidationPolicyRequest(id=own.id))
    await suite.travel(MARCH)
    assert pence((await business.invoices(ada))[-1]) == 35_00


async def test_drafts_of_one_moment_are_kept_apart(suite: Suite, desk: Desk) -> None:
    """They wait for usage side by side, are counted each for itself, and what is due late joins its own."""
    business = desk.business
    for code in ("kwh", "m3"):
        await business.meter(code)
    power = await business.plan(await business.price("Power", meter="kwh", **per_unit("0.10")))
    gas = await business.plan(await business.price("Gas", meter="m3", **per_unit("3.20")))
    ada = await business.customer()
    await desk.declare("plan")
    for plan in (power, gas):
        await business.subscribe(ada, plan)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await business.use(ada, "m3", "3", utc(2026, 1, 6))
    await suite.travel(FEBRUARY)
    drafts = await business.invoices()
    assert sorted(told(draft) for draft in drafts) == [[("Gas", 9_60)], [("Power", 10_00)]]
    await business.use(ada, "kwh", "50", utc(2026, 1, 31, 23))
    await suite.travel(FEBRUARY + HOUR)
    assert sorted(told(each) for each in await business.invoices()) == [[("Gas", 9_60)], [("Power", 15_00)]]
    assert {each.id for each in await business.invoices()} == {each.id for each in drafts}


async def test_why_lines_are_together_is_told_as_it_was(suite: Suite, desk: Desk) -> None:
    """With the values of then, whatever is declared or changed since, and by what the others differ."""
    business = desk.business
    seats, contract = await two_plans(business)
    ada = await business.customer(purchase_order="PO-7")
    await desk.fields(ada, team="blue")
    seller = await desk.declare("custom.team", "purchase_order")
    for plan in (seats, contract):
        await business.subscribe(ada, plan)
    apart = await business.subscribe(ada, contract)
    own = await desk.declare("subscription", scope=SUBSCRIPTION, of=apart.id)
    await suite.travel(FEBRUARY)
    together, alone = sorted((await business.invoices())[3:], key=lambda each: -len(each.line_items))
    await desk.fields(ada, team="red")
    await desk.declare()
    await desk.api.RemoveConsolidationPolicy(pb.RemoveConsolidationPolicyRequest(id=own.id))
    found = await desk.explain(invoice_id=together.id)
    assert found.invoice.invoice_id == together.id
    assert (found.invoice.number, found.invoice.line_count) == (together.number, 2)
    assert found.invoice.subtotal == together.subtotal
    assert keys(found.invoice) == {
        "payer": ada.id,
        "currency": "GBP",
        "collection_method": "CHARGE_AUTOMATICALLY",
        "net_terms": "120",
        "custom.team": "blue",
        "purchase_order": "PO-7",
    }
    assert [each.always for each in found.invoice.consolidation.keys] == [True] * 4 + [False] * 2
    [source] = found.invoice.consolidation.sources
    assert (source.policy_id, source.scope, source.scope_id) == (seller.id, SELLER, "")
    assert list(source.keys) == ["custom.team", "purchase_order"]
    [other] = found.others
    assert other.invoice.invoice_id == alone.id
    assert differences(other) == {
        "custom.team": ("blue", None),
        "purchase_order": ("PO-7", None),
        "subscription": (None, apart.id),
    }
    [source] = other.invoice.consolidation.sources
    assert (source.policy_id, source.scope, source.scope_id) == (own.id, SUBSCRIPTION, apart.id)


async def test_an_invoice_of_before_is_explained_as_far_as_is_known(suite: Suite, desk: Desk) -> None:
    """A release before this one kept nothing; who gets it and in what it is, it tells itself."""
    business = desk.business
    seats, _ = await two_plans(business)
    ada = await business.customer()
    await business.subscribe(ada, seats)
    [invoice] = await business.invoices()
    await forge(business, "UPDATE invoices SET consolidation = NULL")
    found = await desk.explain(invoice_id=invoice.id)
    assert keys(found.invoice) == {"payer": ada.id, "currency": "GBP"}
    assert not found.others


async def test_what_is_to_come_is_explained_and_previewed(suite: Suite, desk: Desk) -> None:
    """By what is declared now, with nothing stored; what will really come is the same."""
    business = desk.business
    seats, contract = await two_plans(business)
    ada = await business.customer()
    assert not (await desk.explain(customer_id=ada.id)).HasField("invoice")
    for plan in (seats, contract):
        await business.subscribe(ada, plan)
    await desk.declare("plan")
    found = await desk.explain(customer_id=ada.id)
    assert not found.invoice.invoice_id
    [other] = found.others
    assert set(differences(other)) == {"plan"}
    assert pence(await desk.upcoming(ada)) == 35_00  # as one, also where several will come of it
    before = await business.invoices()
    ahead = await desk.preview(ada, MARCH)
    assert await business.invoices() == before
    assert [sorted(told(each)) for each in ahead.invoices] == [
        [("Contract", 25_00)] if pence(each) == 25_00 else [("Seats", 10_00)] for each in ahead.invoices
    ]
    assert len(ahead.invoices) == 4
    assert {each.id for each in ahead.invoices} == {""}
    assert ahead.next_bill_time.ToDatetime(MARCH.tzinfo) == utc(2026, 3, 31, 23)
    await suite.travel(MARCH)
    come = (await business.invoices())[len(before) :]
    assert [(each.invoice_date, told(each)) for each in come] == [
        (each.invoice_date, told(each)) for each in ahead.invoices
    ]


async def test_a_preview_counts_usage_as_of_now(suite: Suite, desk: Desk) -> None:
    """What is used so far of the period under way, and nothing of those to come."""
    business = desk.business
    await business.meter("kwh")
    power = await business.plan(await business.price("Power", meter="kwh", **per_unit("0.10")))
    ada = await business.customer()
    await business.subscribe(ada, power)
    await business.use(ada, "kwh", "100", utc(2026, 1, 5))
    await suite.travel(utc(2026, 1, 6))
    ahead = await desk.preview(ada, MARCH)
    assert [told(each) for each in ahead.invoices] == [[("Power", 10_00)], [("Power", 0)]]


async def test_a_preview_has_an_end(suite: Suite, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further than three years, nor more bill times than can be looked at; and only of somebody."""
    business = desk.business
    seats, _ = await two_plans(business)
    ada = await business.customer()
    await business.subscribe(ada, seats)
    now = await business.now()
    assert len((await desk.preview(ada, now + timedelta(days=1_090))).invoices) == 35
    monkeypatch.setattr("invoicing.domain.preview.BILL_TIMES_MAX", 3)
    with refused("PREVIEW_TOO_LONG", grpc.StatusCode.FAILED_PRECONDITION):
        await desk.preview(ada, now + timedelta(days=200))
    for until in (now, now - HOUR, now + timedelta(days=1_099)):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT):
            await desk.preview(ada, until)
    nobody = customer_pb2.Customer(id=ids.mint("cus", SANDBOX_START))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.preview(nobody, now + HOUR)
    for request in (
        pb.ExplainConsolidationRequest(),
        pb.ExplainConsolidationRequest(invoice_id="x"),
        pb.ExplainConsolidationRequest(customer_id="x"),
    ):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT):
            await desk.api.ExplainConsolidation(request)
    with refused("INVOICE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.explain(invoice_id=ids.mint("inv", SANDBOX_START))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await desk.explain(customer_id=nobody.id)
