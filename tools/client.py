"""Knows how an internal platform calls Saldo: with a token, a deadline, and patience that does nothing twice.

Every mutating command carries a `request_id`, so repeating it is safe: a call that was not answered, or was answered
that somebody is away, is sent again, the same in every byte, until there is an answer or patience ends.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.dunning.v1.dunning_service_pb2_grpc import DunningServiceStub
from saldo.invoicing.v1.bill_runs_service_pb2_grpc import BillRunsServiceStub
from saldo.invoicing.v1.consolidation_service_pb2_grpc import ConsolidationServiceStub
from saldo.invoicing.v1.credit_notes_service_pb2_grpc import CreditNotesServiceStub
from saldo.invoicing.v1.credit_service_pb2_grpc import CreditServiceStub
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from saldo.invoicing.v1.ledger_service_pb2_grpc import LedgerServiceStub
from saldo.invoicing.v1.manual_invoices_service_pb2_grpc import ManualInvoicesServiceStub
from saldo.invoicing.v1.proof_service_pb2_grpc import ProofServiceStub
from saldo.invoicing.v1.rating_service_pb2_grpc import MoneyServiceStub, RatingServiceStub
from saldo.invoicing.v1.spend_thresholds_service_pb2_grpc import SpendThresholdsServiceStub
from saldo.invoicing.v1.tax_service_pb2_grpc import TaxServiceStub
from saldo.metering.v1.archive_service_pb2_grpc import ArchiveServiceStub
from saldo.metering.v1.backfill_service_pb2_grpc import BackfillServiceStub
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceStub
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceStub
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from saldo.subscriptions.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from saldo.subscriptions.v1.personal_data_service_pb2_grpc import PersonalDataServiceStub
from saldo.subscriptions.v1.plan_migration_service_pb2_grpc import PlanMigrationServiceStub
from saldo.subscriptions.v1.seat_service_pb2_grpc import SeatServiceStub
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from saldo.subscriptions.v1.tax_id_service_pb2_grpc import TaxIdServiceStub

DEADLINE_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 90.0
PAUSE_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024

PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,  # nobody there, or nobody behind it
        grpc.StatusCode.DEADLINE_EXCEEDED,  # too slow: it may have been done
        grpc.StatusCode.CANCELLED,  # cut off by a server that is going down
        grpc.StatusCode.ABORTED,  # another transaction was faster
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""What may be otherwise the next time. Everything else is an answer."""

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A service that restarts is back within a second or two: look often.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

Record = Callable[[str, Message, Message], None]
"""Is told the method, the request and the response of every call that was answered."""


class Client:
    """The six services, as one caller sees them: `await client.catalog.CreatePlan(...)`."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        token: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        record: Record | None = None,
    ) -> None:
        self.token = token
        patient = _PatientCalls(token, patience_seconds=patience_seconds, record=record)
        self._channels = {
            name: grpc.aio.insecure_channel(address, interceptors=[patient, _Streams(token)], options=CHANNEL_OPTIONS)
            for name, address in addresses.items()
        }
        self.catalog = CatalogServiceStub(self._channels["catalog"])
        self.coupons = CouponServiceStub(self._channels["catalog"])
        self.subscriptions = SubscriptionsServiceStub(self._channels["subscriptions"])
        self.customers = CustomersServiceStub(self._channels["subscriptions"])
        self.tax_ids = TaxIdServiceStub(self._channels["subscriptions"])
        self.personal_data = PersonalDataServiceStub(self._channels["subscriptions"])
        self.entitlements = EntitlementServiceStub(self._channels["subscriptions"])
        self.seats = SeatServiceStub(self._channels["subscriptions"])
        self.plan_migrations = PlanMigrationServiceStub(self._channels["subscriptions"])
        self.metering = MeteringServiceStub(self._channels["metering"])
        self.archives = ArchiveServiceStub(self._channels["metering"])
        self.freezes = FreezeServiceStub(self._channels["metering"])
        self.corrections = CorrectionServiceStub(self._channels["metering"])
        self.backfills = BackfillServiceStub(self._channels["metering"])
        self.usage_thresholds = UsageThresholdServiceStub(self._channels["metering"])
        self.quotas = QuotaServiceStub(self._channels["metering"])
        self.invoicing = InvoicingServiceStub(self._channels["invoicing"])
        self.bill_runs = BillRunsServiceStub(self._channels["invoicing"])
        self.ledger = LedgerServiceStub(self._channels["invoicing"])
        self.consolidation = ConsolidationServiceStub(self._channels["invoicing"])
        self.credit = CreditServiceStub(self._channels["invoicing"])
        self.credit_notes = CreditNotesServiceStub(self._channels["invoicing"])
        self.manual_invoices = ManualInvoicesServiceStub(self._channels["invoicing"])
        self.rating = RatingServiceStub(self._channels["invoicing"])
        self.proof = ProofServiceStub(self._channels["invoicing"])
        self.money = MoneyServiceStub(self._channels["invoicing"])
        self.spend_thresholds = SpendThresholdsServiceStub(self._channels["invoicing"])
        self.tax = TaxServiceStub(self._channels["invoicing"])
        self.payments = PaymentsServiceStub(self._channels["payments"])
        self.dunning = DunningServiceStub(self._channels["dunning"])
        self.operations = {name: OperationsServiceStub(channel) for name, channel in self._channels.items()}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


PageT = TypeVar("PageT", bound=_Page)


async def pages(
    method: Callable[[Any], Any],  # Any: a generated method of a stub
    request: Message,
    answer: type[PageT],
    *,
    pages_max: int = 1_000,
) -> AsyncIterator[PageT]:
    """Every page of a list, from the first."""
    asked = type(request)()
    asked.CopyFrom(request)
    for _ in range(pages_max):
        page = await method(asked)
        assert isinstance(page, answer)
        yield page
        if not page.next_page_token:
            return
        setattr(asked, "page_token", page.next_page_token)  # noqa: B010 # every List request has one
    raise RuntimeError(f"more than {pages_max} pages")


class _PatientCalls(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str, *, patience_seconds: float, record: Record | None) -> None:
        self._token = token
        self._patience_seconds = patience_seconds
        self._record = record

    async def intercept_unary_unary(
        self, continuation: Any, details: Any, request: Any
    ) -> Any:  # Any: grpc's signature
        request = with_request_id(request)
        authorized = _authorized(details, self._token, timeout=details.timeout or DEADLINE_SECONDS)
        give_up = time.monotonic() + self._patience_seconds
        tries = 0
        while True:
            call = await continuation(authorized, request)
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING or time.monotonic() > give_up:
                    raise
                await asyncio.sleep(PAUSE_SECONDS[min(tries, len(PAUSE_SECONDS) - 1)])
                tries += 1
                continue
            if self._record is not None:
                self._record(_text(details.method), request, response)
            return response


class _Streams(grpc.aio.StreamStreamClientInterceptor):
    """With the token, and nothing else: who streams repeats by himself what was not answered."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_stream_stream(
        self, continuation: Any, details: Any, requests: Any
    ) -> Any:  # Any: grpc's signature
        return await continuation(_authorized(details, self._token, timeout=details.timeout), requests)


def _authorized(details: Any, token: str, *, timeout: Any) -> Any:  # Any: grpc's details of a call, and its seconds
    return grpc.aio.ClientCallDetails(
        details.method,
        timeout,
        grpc.aio.Metadata(*(details.metadata or ()), ("authorization", f"Bearer {token}")),
        details.credentials,
        details.wait_for_ready,
    )


def with_request_id(request: Message) -> Message:
    """The same request with a key, if it takes one and has none: then it can be repeated without harm."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or getattr(request, "request_id"):  # noqa: B009
        return request
    keyed = type(request)()
    keyed.CopyFrom(request)
    setattr(keyed, "request_id", secrets.token_hex(16))  # noqa: B010 # the field was looked up by name
    return keyed


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
