"""One trace follows a euro: from the call that agreed on it, through events and jobs, to the money that came in."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Final

import pytest

from saldo.subscriptions.v1 import subscriptions_service_pb2
from tests.support.collector import Collector, Span, collector
from tests.support.sandbox import Sandbox, flat
from tools.suite import Suite

EXPORT_SECONDS: Final = 20.0
WAY: Final = {"subscriptions", "catalog", "invoicing", "payments"}


@pytest.fixture(scope="module")
def telemetry(processes: Suite) -> Iterator[Collector]:
    """What the six processes export, for this module only: it would cost the others a tenth of their time."""
    with collector() as found:
        for name in processes.addresses():
            processes.restart(name, {"SALDO_OTLP_ENDPOINT": found.endpoint})
        yield found
        for name in processes.addresses():
            processes.restart(name, {})


async def test_the_trace_of_a_call_reaches_the_payment(telemetry: Collector, sandbox: Sandbox) -> None:
    """Subscribing makes an invoice, the invoice a payment, that settles the invoice: four services, one trace."""
    trace_id = secrets.token_hex(16)
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    customer = await sandbox.customer("ida", token="sim:ok")
    await sandbox.client.subscriptions.CreateSubscription(
        subscriptions_service_pb2.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan.id),
        metadata=(("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"),),
    )
    await sandbox.quiet()
    spans = await _complete(telemetry, trace_id)

    assert {span.service for span in spans} >= WAY
    names = {(span.service, span.name) for span in spans}
    assert ("subscriptions", "saldo.subscriptions.v1.SubscriptionsService/CreateSubscription") in names
    assert ("payments", "collect payments") in names
    assert not [span for span in spans if span.failed]


async def test_no_span_has_lost_its_parent(telemetry: Collector, sandbox: Sandbox) -> None:
    """A tree with a gap is two trees, and the question where the time went has no answer."""
    trace_id, root = secrets.token_hex(16), secrets.token_hex(8)
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    customer = await sandbox.customer("ida", token="sim:ok")
    await sandbox.client.subscriptions.CreateSubscription(
        subscriptions_service_pb2.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan.id),
        metadata=(("traceparent", f"00-{trace_id}-{root}-01"),),
    )
    await sandbox.quiet()
    spans = await _complete(telemetry, trace_id)
    known = {span.span_id for span in spans} | {root}
    assert [span for span in spans if span.parent_id not in known] == []


async def test_metrics_and_logs_are_exported_by_every_service(telemetry: Collector, sandbox: Sandbox) -> None:
    """The four figures that say whether the suite is healthy, from each of the six."""
    services = set(sandbox.client.operations)
    health = {"saldo.outbox_age_seconds", "saldo.consumer_backlog", "saldo.dead_letter_count"}
    give_up = time.monotonic() + EXPORT_SECONDS
    telling: set[str] = set()
    while telling != services and time.monotonic() < give_up:
        await asyncio.sleep(0.2)
        telling = {name for name in services if health <= telemetry.metrics[name] and telemetry.logs[name]}
    assert telling == services


async def _complete(telemetry: Collector, trace_id: str) -> list[Span]:
    """All of a trace: exporters send twice a second, so wait until nothing more has come for longer than that."""
    give_up = time.monotonic() + EXPORT_SECONDS
    seen, since = -1, time.monotonic()
    while time.monotonic() < give_up:
        spans = telemetry.trace(trace_id)
        if len(spans) != seen:
            seen, since = len(spans), time.monotonic()
        elif {span.service for span in spans} >= WAY and time.monotonic() - since > 1.5:
            break
        await asyncio.sleep(0.1)
    return telemetry.trace(trace_id)
