"""The door of payments: who may ask what, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from common import ids
from common.auth import Identity
from common.caller import Role
from common.ids import SellerId
from common.migrate import differences
from common.testing import SANDBOX_START, Suite, refused
from payments.store import metadata
from saldo.payments.v1 import events_pb2
from saldo.payments.v1 import payments_service_pb2 as pb
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceStub

from .conftest import Collecting

CARD = "4242 4242 4242 4242"


def attaching(collecting: Collecting, **changes: str) -> pb.AttachPaymentMethodRequest:
    return pb.AttachPaymentMethodRequest(
        **{"customer_id": collecting.customer, "gateway": "simulated", "token": "sim:ok", **changes}
    )


async def test_the_newest_payment_method_is_the_default(collecting: Collecting) -> None:
    """One of them, always one; the one before counts a change, and the new one is announced."""
    first = await collecting.stub.AttachPaymentMethod(attaching(collecting, display_name="Visa •••• 4242"))
    second = await collecting.attach("sim:decline")
    listed = (
        await collecting.stub.ListPaymentMethods(pb.ListPaymentMethodsRequest(customer_id=collecting.customer))
    ).payment_methods
    assert first.default
    assert [(method.id, method.default, method.revision) for method in listed] == [
        (first.id, False, 2),
        (second.id, True, 1),
    ]
    assert (first.display_name, first.token, first.gateway) == ("Visa •••• 4242", "sim:ok", "simulated")
    await collecting.suite.quiet()
    announced = [event.payment_method for event in collecting.suite.announced(events_pb2.PaymentMethodAttached)]
    for method in (first, second):
        method.ClearField("token")  # which never travels in events
    assert announced == [first, second]


async def test_attaching_at_once_leaves_one_default(collecting: Collecting) -> None:
    """Two tabs, one customer."""
    await asyncio.gather(*(collecting.attach("sim:ok") for _ in range(8)))
    listed = await collecting.stub.ListPaymentMethods(pb.ListPaymentMethodsRequest(customer_id=collecting.customer))
    assert [method.default for method in listed.payment_methods].count(True) == 1
    assert len(listed.payment_methods) == 8


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"customer_id": ""}, "INVALID_ARGUMENT", "customer_id"),
        ({"customer_id": "cus_nonsense"}, "INVALID_ARGUMENT", "customer_id"),
        ({"gateway": ""}, "UNKNOWN_GATEWAY", "gateway"),
        ({"gateway": "paypal"}, "UNKNOWN_GATEWAY", "gateway"),
        ({"gateway": "stripe", "token": "pm_card_visa"}, "UNKNOWN_GATEWAY", "gateway"),
        ({"token": ""}, "INVALID_ARGUMENT", "token"),
        ({"token": "x" * 256}, "INVALID_ARGUMENT", "token"),
        ({"token": "sim:ok\x00"}, "INVALID_ARGUMENT", "token"),
        ({"token": "sim:maybe"}, "INVALID_ARGUMENT", "token"),
        ({"token": "pm_card_visa"}, "INVALID_ARGUMENT", "token"),
        ({"token": CARD}, "CARD_NUMBER_REFUSED", "token"),
        ({"token": "sim:" + CARD.replace(" ", "")}, "CARD_NUMBER_REFUSED", "token"),
        ({"display_name": f"Visa {CARD}"}, "CARD_NUMBER_REFUSED", "display_name"),
        ({"display_name": "x" * 201}, "INVALID_ARGUMENT", "display_name"),
        ({"request_id": "x" * 200}, "INVALID_ARGUMENT", "request_id"),
    ],
)
async def test_a_bad_payment_method_is_refused_with_its_field(
    collecting: Collecting, changes: dict[str, str], reason: str, field: str
) -> None:
    """Nothing of it is stored, and a card number is not even repeated."""
    with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await collecting.stub.AttachPaymentMethod(attaching(collecting, **changes))
    assert refusal.field == field
    assert "4242" not in refusal.message
    listed = await collecting.stub.ListPaymentMethods(pb.ListPaymentMethodsRequest(customer_id=collecting.customer))
    assert not listed.payment_methods


async def test_play_money_stays_in_sandboxes(suite: Suite) -> None:
    """A live seller must not believe to be paid, and a sandbox must not make anybody pay."""
    collecting = await Collecting(suite).start(stripe_api_key="sk_live_1234567890")
    live = suite.stub(PaymentsServiceStub, "payments", seller=SellerId(ids.mint(ids.SELLER, SANDBOX_START)))
    with refused("SIMULATED_GATEWAY_IN_LIVE", grpc.StatusCode.FAILED_PRECONDITION):
        await live.AttachPaymentMethod(attaching(collecting))
    with refused("REAL_MONEY_IN_SANDBOX", grpc.StatusCode.FAILED_PRECONDITION):
        await collecting.attach("pm_card_visa", gateway="stripe")
    assert (await live.AttachPaymentMethod(attaching(collecting, gateway="stripe", token="pm_card_visa"))).default


async def test_test_credentials_collect_nothing_from_a_live_seller(suite: Suite) -> None:
    """Stripe would say that it captured, and the invoice would be paid with money that does not exist."""
    collecting = await Collecting(suite).start(stripe_api_key="sk_test_1234567890")
    live = suite.stub(PaymentsServiceStub, "payments", seller=SellerId(ids.mint(ids.SELLER, SANDBOX_START)))
    with refused("SIMULATED_GATEWAY_IN_LIVE", grpc.StatusCode.FAILED_PRECONDITION):
        await live.AttachPaymentMethod(attaching(collecting, gateway="stripe", token="pm_card_visa"))


async def test_a_repeated_request_is_carried_out_once(collecting: Collecting) -> None:
    """Ten callers that are not sure make one payment method and one event; ten retries make one attempt."""
    request = attaching(collecting, request_id="r1", token="sim:decline,ok")
    answers = await asyncio.gather(*(collecting.stub.AttachPaymentMethod(request) for _ in range(10)))
    assert len({answer.id for answer in answers}) == 1
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await collecting.stub.AttachPaymentMethod(attaching(collecting, request_id="r1", token="sim:lost"))
    await collecting.suite.quiet()
    assert len(collecting.suite.announced(events_pb2.PaymentMethodAttached)) == 1
    invoice_id = await collecting.owe()
    again = pb.RetryPaymentRequest(invoice_id=invoice_id, request_id="r2")
    retries = await asyncio.gather(*(collecting.stub.RetryPayment(again) for _ in range(10)))
    await collecting.suite.quiet()
    assert all(retry == retries[0] for retry in retries)
    assert await collecting.stub.RetryPayment(again) == retries[0]
    assert len((await collecting.payment(invoice_id)).attempts) == 2


async def test_payments_are_listed_and_found(collecting: Collecting) -> None:
    """By id, by invoice, by customer, page by page, each once."""
    await collecting.attach("sim:ok")
    made = [await collecting.payment(await collecting.owe()) for _ in range(3)]
    made.sort(key=lambda each: each.id)
    assert await collecting.stub.GetPayment(pb.GetPaymentRequest(id=made[0].id)) == made[0]
    seen: list[Any] = []
    token = ""
    for _ in range(2):
        page = await collecting.stub.ListPayments(pb.ListPaymentsRequest(page_size=2, page_token=token))
        seen += page.payments
        token = page.next_page_token
    assert (seen, token) == (made, "")
    of_customer = pb.ListPaymentsRequest(customer_id=collecting.customer)
    assert list((await collecting.stub.ListPayments(of_customer)).payments) == made
    nobody = pb.ListPaymentsRequest(customer_id=ids.mint("cus", SANDBOX_START))
    assert not (await collecting.stub.ListPayments(nobody)).payments
    for _ in range(2):
        await collecting.attach("sim:ok")
    methods = pb.ListPaymentMethodsRequest(customer_id=collecting.customer, page_size=2)
    first = await collecting.stub.ListPaymentMethods(methods)
    methods.page_token = first.next_page_token
    rest = await collecting.stub.ListPaymentMethods(methods)
    assert (len(first.payment_methods), len(rest.payment_methods), rest.next_page_token) == (2, 1, "")


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetPayment", pb.GetPaymentRequest(), "id"),
        ("GetPayment", pb.GetPaymentRequest(id="pay_x", invoice_id="inv_x"), "id"),
        ("GetPayment", pb.GetPaymentRequest(id="inv_01h455vb4pex5vsknk084sn02q"), "id"),
        ("GetPayment", pb.GetPaymentRequest(invoice_id="nonsense"), "invoice_id"),
        ("RetryPayment", pb.RetryPaymentRequest(), "invoice_id"),
        ("RetryPayment", pb.RetryPaymentRequest(invoice_id="pay_01h455vb4pex5vsknk084sn02q"), "invoice_id"),
        ("ListPayments", pb.ListPaymentsRequest(customer_id="nonsense"), "customer_id"),
        ("ListPayments", pb.ListPaymentsRequest(page_size=-1), "page_size"),
        ("ListPayments", pb.ListPaymentsRequest(page_token="nonsense"), "page_token"),
        ("ListPaymentMethods", pb.ListPaymentMethodsRequest(), "customer_id"),
    ],
)
async def test_garbage_is_refused_with_its_field(
    collecting: Collecting,
    method: str,
    request_: Any,  # Any: a request of any method
    field: str,
) -> None:
    """Whoever asks must see what is wrong."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await getattr(collecting.stub, method)(request_)
    assert refusal.field == field


async def test_sellers_do_not_see_one_another(collecting: Collecting) -> None:
    """The ids of another seller are as unknown as ids that never were."""
    await collecting.attach("sim:decline")
    invoice_id = await collecting.owe()
    payment = await collecting.payment(invoice_id)
    stranger = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    other = collecting.suite.stub(PaymentsServiceStub, "payments", seller=stranger)
    for call, request in (
        (other.GetPayment, pb.GetPaymentRequest(id=payment.id)),
        (other.GetPayment, pb.GetPaymentRequest(invoice_id=invoice_id)),
        (other.RetryPayment, pb.RetryPaymentRequest(invoice_id=invoice_id)),
    ):
        with refused("PAYMENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await call(request)
    assert not (await other.ListPayments(pb.ListPaymentsRequest())).payments
    methods = pb.ListPaymentMethodsRequest(customer_id=collecting.customer)
    assert not (await other.ListPaymentMethods(methods)).payment_methods


async def test_roles_and_tokens(collecting: Collecting) -> None:
    """Nobody without a token, viewers only read, and of the services only dunning may call."""
    invoice_id = await collecting.owe()
    suite = collecting.suite
    anonymous = suite.raw_stub(PaymentsServiceStub, "payments", token="")
    for call, request in (
        (anonymous.AttachPaymentMethod, attaching(collecting)),
        (anonymous.ListPaymentMethods, pb.ListPaymentMethodsRequest(customer_id=collecting.customer)),
        (anonymous.GetPayment, pb.GetPaymentRequest(invoice_id=invoice_id)),
        (anonymous.ListPayments, pb.ListPaymentsRequest()),
        (anonymous.RetryPayment, pb.RetryPaymentRequest(invoice_id=invoice_id)),
    ):
        with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
            await call(request)
    viewer = suite.stub(PaymentsServiceStub, "payments", role=Role.VIEWER)
    await viewer.GetPayment(pb.GetPaymentRequest(invoice_id=invoice_id))
    await viewer.ListPayments(pb.ListPaymentsRequest())
    await viewer.ListPaymentMethods(pb.ListPaymentMethodsRequest(customer_id=collecting.customer))
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.AttachPaymentMethod(attaching(collecting))
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.RetryPayment(pb.RetryPaymentRequest(invoice_id=invoice_id))
    dunning, invoicing = (
        suite.raw_stub(
            PaymentsServiceStub, "payments", token=Identity(name, suite.keys.private(name)).token(suite.seller)
        )
        for name in ("dunning", "invoicing")
    )
    assert (await dunning.RetryPayment(pb.RetryPaymentRequest(invoice_id=invoice_id))).invoice_id == invoice_id
    with refused("SERVICE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await invoicing.RetryPayment(pb.RetryPaymentRequest(invoice_id=invoice_id))


@pytest.mark.own_services
async def test_migrations_and_tables_agree(collecting: Collecting) -> None:
    """What store.py says is what a migrated database has."""
    assert await differences(collecting.suite.urls["payments"], metadata) == []
