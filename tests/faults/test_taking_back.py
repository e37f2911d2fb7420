"""What was billed is to be made anew, and the process dies between the bill run that found so and the taking back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import pytest

from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.invoicing.v1.invoicing_service_pb2 import IssuingPolicy, SetIssuingPolicyRequest
from saldo.invoicing.v1.proof_service_pb2 import LateUsageRecord, ListLateUsageRequest
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox, per_unit, text, usage
from tools.suite import Suite

pytestmark = pytest.mark.fault

KILLED: Final = 137
METERS: Final = ("cold", "heat")
JANUARY_20: Final = datetime(2026, 1, 20, tzinfo=UTC)
FEBRUARY_2, FEBRUARY_5, MARCH_2 = (datetime(2026, *day, tzinfo=UTC) for day in ((2, 2), (2, 5), (3, 2)))


async def test_what_is_made_anew_is_made_anew_once(processes: Suite, sandbox: Sandbox) -> None:
    """One invoice is paid, and given back by a credit note; the other is open, and void. With the next look at the
    latest, and never twice.
    """
    policy = IssuingPolicy(meter_late_usage=dict.fromkeys(METERS, IssuingPolicy.REISSUE))
    await sandbox.client.invoicing.SetIssuingPolicy(SetIssuingPolicyRequest(policy=policy))
    customers = [await _agree(sandbox, meter) for meter in METERS]
    await sandbox.travel(JANUARY_20)
    await _use(sandbox, customers, "3", name="in time")
    await sandbox.travel(FEBRUARY_2)
    await _use(sandbox, customers, "4", name="late")

    before = processes.roster.services["invoicing"].deaths
    processes.restart("invoicing", {"SALDO_CRASHPOINT": "invoicing.billed"})
    await sandbox.travel(FEBRUARY_5)
    entry = processes.roster.services["invoicing"]
    assert (entry.deaths - before, entry.last_exit) == (1, KILLED), "it did not die there"
    await sandbox.travel(MARCH_2)

    cold, heat = [await sandbox.invoices(each) for each in customers]
    assert [text(each.total) for each in cold] == [text(each.total) for each in heat]
    assert [text(each.total) for each in cold] == ["6.00 EUR", "14.00 EUR", "0.00 EUR"]
    assert [each.state for each in heat][:2] == [Invoice.VOID, Invoice.OPEN]
    assert [each.state for each in cold][:2] == [Invoice.PAID, Invoice.PAID]
    assert text(cold[1].credit_applied) == "6.00 EUR"
    told = (await sandbox.client.proof.ListLateUsage(ListLateUsageRequest())).late_usages
    assert sorted(each.usage.meter for each in told) == [*METERS]
    assert {each.outcome for each in told} == {LateUsageRecord.REISSUED}
    await sandbox.verify(processes.database_urls())


async def _agree(sandbox: Sandbox, meter: str) -> Customer:
    await sandbox.meter(meter)
    plan = await sandbox.plan(meter, per_unit("m3", "2.00", meter=meter))
    token = "sim:ok" if meter == "cold" else ""
    customer = await sandbox.customer(meter, token=token, by_hand=not token, net_terms_days=60)
    await sandbox.subscribe(customer, plan)
    return customer


async def _use(sandbox: Sandbox, customers: Sequence[Customer], value: str, *, name: str) -> None:
    readings = zip(METERS, customers, strict=True)
    await sandbox.use(*(usage(each, meter, JANUARY_20, value, event_id=f"{meter}, {name}") for meter, each in readings))
