"""Knows `saldo call`: one RPC by hand, with JSON in and JSON out."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any, Final

import grpc.aio
import typer
from google.protobuf import json_format
from google.protobuf.message import Message

from common.caller import Role
from tools.client import Client
from tools.commands import console
from tools.commands.tokens import ROLES
from tools.stack import SERVICES


def call(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="service and RPC, for example invoicing.ListInvoices")],
    request: Annotated[str, typer.Argument(help="the request as JSON")] = "{}",
    seller: Annotated[str, typer.Option(help="on whose behalf; only a platform may leave it out")] = "",
    role: Annotated[str, typer.Option(help="by default owner with --seller, platform without")] = "",
) -> None:
    """Call an RPC of a service of this checkout."""
    service, _, name = method.partition(".")
    if service not in SERVICES:
        console.fail(f"there is no service {service!r}: {', '.join(SERVICES)}", code=console.MISUSED)
    methods = methods_of(service)
    if name not in methods:
        console.fail(f"{service} has no {name or 'RPC without a name'}: {', '.join(methods)}", code=console.MISUSED)
    chosen = role or (Role.OWNER if seller else Role.PLATFORM).value
    if chosen not in ROLES:
        console.fail(f"--role must be one of {', '.join(ROLES)}", code=console.MISUSED)
    message = _message(methods[name].input_type)
    try:
        json_format.Parse(request, message)
    except json_format.ParseError as error:
        console.fail(f"the request: {error}", code=console.MISUSED)
    on_behalf_of = console.seller_id(seller) if seller else None
    console.run(
        lambda client: _call(client, STUBS.get(methods[name].containing_service.name, service), name, message),
        console.suite(context),
        role=Role(chosen),
        seller=on_behalf_of,
    )


async def _call(client: Client, stub: str, name: str, request: Message) -> None:
    method = getattr(getattr(client, stub), name)
    answer: Any  # Any: what the method answers
    if isinstance(method, grpc.aio.StreamStreamMultiCallable):
        call = method()
        await call.write(request)
        await call.done_writing()
        answer = await call.read()
    else:
        answer = await method(request)
    print(json_format.MessageToJson(answer, preserving_proto_field_name=True, ensure_ascii=False))


STUBS: Final = {
    "BackfillService": "backfills",
    "BillRunsService": "bill_runs",
    "CorrectionService": "corrections",
    "ArchiveService": "archives",
    "CouponService": "coupons",
    "ManualInvoicesService": "manual_invoices",
    "ProofService": "proof",
    "ConsolidationService": "consolidation",
    "CreditNotesService": "credit_notes",
    "CreditService": "credit",
    "RatingService": "rating",
    "LedgerService": "ledger",
    "MoneyService": "money",
    "CustomersService": "customers",
    "EntitlementService": "entitlements",
    "FreezeService": "freezes",
    "PersonalDataService": "personal_data",
    "PlanMigrationService": "plan_migrations",
    "QuotaService": "quotas",
    "SeatService": "seats",
    "SpendThresholdsService": "spend_thresholds",
    "TaxIdService": "tax_ids",
    "TaxService": "tax",
    "UsageThresholdService": "usage_thresholds",
}
"""What the client calls a contract that is not named like its service."""


def methods_of(service: str) -> Mapping[str, Any]:  # Any: descriptors
    """The RPCs of every contract of a service; no two have the same name."""
    package = importlib.import_module(f"saldo.{service}.v1")
    modules = sorted(each.name for each in pkgutil.iter_modules(package.__path__) if each.name.endswith("_service_pb2"))
    files = [importlib.import_module(f"{package.__name__}.{name}").DESCRIPTOR for name in modules]
    return {
        name: method
        for file in files
        for contract in file.services_by_name.values()
        for name, method in contract.methods_by_name.items()
    }


def _message(descriptor: Any) -> Message:  # Any: as above
    module = importlib.import_module(descriptor.file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    found: Message = getattr(module, descriptor.name)()
    return found
