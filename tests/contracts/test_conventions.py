"""The six contracts read as if one hand had written them, and none leans on another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from common import outbox
from common.auth import READING_VERBS
from tests.architecture.sources import SERVICES, service_source
from tests.contracts.descriptors import enums, events, files, messages, methods, package_of

VERBS = frozenset(
    {"Create", "Get", "BatchGet", "List", "Update"}
    | {"Publish", "Archive", "Check", "Export", "Apply"}  # plans, prices and the catalog as a document
    | {"Redeem", "Release"}  # coupons
    | {"Rate", "BatchRate", "Explain", "Simulate", "Preview", "Round", "Allocate", "Calculate"}  # amounts
    | {"Delete"}  # tax rules, invoices that are drafts, and lines that wait
    | {"Lookup", "Set", "Add", "Remove", "Merge"}  # customers
    | {"Erase", "Verify"}  # personal data and tax ids
    | {"BatchList", "Change", "Activate", "Extend", "End", "Reactivate", "Transfer", "Align"}  # subscriptions
    | {"Cancel", "Pause", "Resume"}
    | {"Invite", "Claim", "Revoke"}  # seats
    | {"Start", "Revert"}  # plan migrations
    | {"Ingest", "Stream", "Query", "BatchQuery"}  # usage
    | {"Freeze"}  # usage that was billed
    | {"Void", "Amend", "Open", "Close"}  # usage events, and backfills of them
    | {"Acquire", "Commit"}  # quotas
    | {"Grant", "Reserve", "Delete"}  # credit
    | {"Restore"}  # what was archived of the log
    | {"Finalize", "Hold", "Trace", "Reissue", "Mark", "Record"}  # invoices, and refunds of them
    | {"Attach", "Retry"}  # payment methods and payments
    | {"Advance", "Requeue", "Discard", "Replay"}  # operations
)
# Their events carry their own ids, unique by (seller, source, id): what is repeated changes nothing, one by one.
IDEMPOTENT_BY_ITSELF = {"IngestEvents", "StreamEvents", "RestoreEvents"}
# Operations repeat without harm or fail the second time by nature: a clock only moves forward, a dead letter is gone.
WITHOUT_REQUEST_ID = {"operations"}
# The price and the coupon that somebody wants to try are what the catalog says they are: a copy here would be a second
# definition, and drift.
OF_ANOTHER_SERVICE = {
    "saldo/invoicing/v1/rating_service.proto": ["saldo/catalog/v1/coupon.proto", "saldo/catalog/v1/price.proto"],
}
# Which enum names mean one thing wherever they occur. All others are a service's own (State, Kind, …).
SHARED_ENUMS = {"BillingTiming", "CollectionMethod"}
OWN_ENUMS = {"State", "Kind", "Action", "Scope", "Outcome"}
PUBLIC_TYPES = ("google/protobuf/", "google/type/", "google/rpc/")


def _foreign_imports(file: FileDescriptor) -> list[str]:
    own = f"saldo/{package_of(file)}/"
    return [each.name for each in file.dependencies if not each.name.startswith((own, *PUBLIC_TYPES))]


def test_no_contract_imports_another_services() -> None:
    """Another service's resource is named by its id: its contract can then change without a word to us."""
    assert {file.name: found for file in files() if (found := _foreign_imports(file))} == OF_ANOTHER_SERVICE


def test_a_foreign_import_is_found() -> None:
    """Otherwise the test above would prove nothing."""
    pool = DescriptorPool()
    pool.Add(FileDescriptorProto(name="saldo/catalog/v1/plan.proto", package="saldo.catalog.v1"))
    sample = FileDescriptorProto(
        name="saldo/invoicing/v1/x.proto", package="saldo.invoicing.v1", dependency=["saldo/catalog/v1/plan.proto"]
    )
    pool.Add(sample)
    assert _foreign_imports(pool.FindFileByName(sample.name)) == ["saldo/catalog/v1/plan.proto"]


def test_enums_of_one_name_are_one_enum() -> None:
    """Each service has its own copy; a copy that says something else would be a trap."""
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for file in files():
        for enum in enums(file):
            found[enum.name][enum.full_name] = {value.name: value.number for value in enum.values}
    shared = {name for name, copies in found.items() if len({name.split(".")[1] for name in copies}) > 1}
    assert shared - OWN_ENUMS <= SHARED_ENUMS
    for name in SHARED_ENUMS:
        copies = list(found[name].values())
        assert all(copy == copies[0] for copy in copies), found[name]


def test_the_zero_of_an_enum_means_nothing() -> None:
    """A field that somebody forgot to set must not look like a choice."""
    for file in files():
        for enum in enums(file):
            zero = enum.values_by_number[0].name
            assert zero.endswith("_UNSPECIFIED"), enum.full_name


def test_a_command_can_be_repeated() -> None:
    """Whoever loses an answer sends the same again, and must not get two of anything (AIP-155)."""
    missing = [
        method.full_name
        for file in files()
        if package_of(file) not in WITHOUT_REQUEST_ID
        for method in methods(file)
        if not method.name.startswith(READING_VERBS)
        and method.name not in IDEMPOTENT_BY_ITSELF
        and "request_id" not in method.input_type.fields_by_name
    ]
    assert missing == []


def test_a_question_carries_no_request_id() -> None:
    """Reading twice is reading twice; a key would suggest otherwise."""
    wrong = [
        method.full_name
        for file in files()
        for method in methods(file)
        if method.name.startswith(READING_VERBS)
        and package_of(file) not in WITHOUT_REQUEST_ID
        and "request_id" in method.input_type.fields_by_name
    ]
    assert wrong == []


def test_verbs_are_those_of_the_glossary() -> None:
    """Process, Handle, Manage, Execute and Do say nothing; these do."""
    found = {
        (match[0] if (match := re.match(r"Batch[A-Z][a-z]+|[A-Z][a-z]+", method.name)) else method.name)
        for file in files()
        for method in methods(file)
    }
    assert found <= VERBS, found - VERBS


def test_lists_are_paged_from_the_first_day() -> None:
    """A list without pages works until a seller has a million of them (AIP-158)."""
    for file in files():
        for method in methods(file):
            # What is asked for by ids, or is bounded by a period or a standard, is no page of a collection.
            if method.name.startswith("List") and method.name not in ("ListBillablePeriods", "ListCurrencies"):
                assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name), method.full_name
                assert "next_page_token" in method.output_type.fields_by_name, method.full_name


@pytest.mark.parametrize("service", SERVICES)
def test_an_event_carries_its_resource_first(service: str) -> None:
    """The chassis reads the aggregate off the message: field 1 is the resource, and the resource's field 1 its id."""
    assert events(service)
    for event in events(service):
        assert _resource_id(event) == "id", event.full_name


def test_the_convention_of_events_bites() -> None:
    """An event without its resource in front would have no aggregate."""
    pool = DescriptorPool()
    sample = FileDescriptorProto(name="sample.proto", package="saldo.sample.v1", syntax="proto3")
    sample.message_type.add(name="PlanPublished").field.add(
        name="plan_id", number=1, type=FieldDescriptor.TYPE_STRING, label=FieldDescriptor.LABEL_OPTIONAL
    )
    pool.Add(sample)
    assert _resource_id(pool.FindMessageTypeByName("saldo.sample.v1.PlanPublished")) is None


@pytest.mark.parametrize("service", SERVICES)
def test_events_are_past_and_resource_first(service: str) -> None:
    """`InvoiceFinalized`: what it is about, then what happened to it."""
    for event in events(service):
        resource = event.fields_by_number[1].message_type
        assert resource is not None
        assert event.name.startswith(resource.name) or event.name == "BillingPeriodEnded", event.full_name
        assert re.search(r"(?:ed|Due)$", event.name) or event.name in PAST, event.full_name


# Paid and overdue are said of an invoice as words are, and low of a balance.
PAST = {"InvoicePaid", "InvoiceOverdue", "CreditBalanceLow", "InvoiceMarkedUncollectible"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_event_is_announced(service: str) -> None:
    """A declared fact that nobody announces is a promise that nobody keeps."""
    sources = "\n".join(path.read_text() for path in service_source(service).rglob("*.py"))
    silent = [event.name for event in events(service) if not re.search(rf"\.{event.name}\b", sources)]
    assert silent == []


def test_no_money_and_no_quantity_is_a_float() -> None:
    """Amounts are google.type.Money, quantities and unit prices google.type.Decimal."""
    floating = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
    assert _fields_of(files(), floating) == []


def test_every_message_of_the_wire_is_reached() -> None:
    """A message that nothing carries is left over from something."""
    carried: set[str] = set()
    waiting: list[Descriptor] = [event for service in SERVICES for event in events(service)]
    for file in files():
        for method in methods(file):
            waiting += [method.input_type, method.output_type]
    while waiting:
        message = waiting.pop()
        if message.full_name not in carried:
            carried.add(message.full_name)
            waiting += [field.message_type for field in message.fields if field.message_type is not None]
    declared = {message.full_name for file in files() for message in messages(file)}
    assert declared - carried == set()


def test_streams_are_named_after_their_service() -> None:
    """Names come from the contracts, so two services can never share a stream."""
    streams = {service: outbox.stream_of_package(events(service)[0].file.package) for service in SERVICES}
    assert streams == {service: service.upper() for service in SERVICES}


def _resource_id(event: Descriptor) -> str | None:
    """The name of the first field of the resource in the first field; None where there is no such thing."""
    first = event.fields_by_number.get(1)
    resource = first.message_type if first is not None else None
    if resource is None or event.fields[0].number != 1 or resource.fields[0].number != 1:
        return None
    return resource.fields[0].name


def _fields_of(described: Iterable[FileDescriptor], types: set[int]) -> list[str]:
    return [
        field.full_name
        for file in described
        for message in messages(file)
        for field in message.fields
        if field.type in types
    ]
