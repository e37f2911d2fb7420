"""The gateway's answer gets lost: what it did is found out, and nobody is charged twice."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.payments.v1.payment_pb2 import Payment, PaymentAttempt
from tests.support.sandbox import Sandbox, flat
from tools.suite import Suite


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("sim:lost", id="captured, and the answer lost"),
        pytest.param("sim:timeout,ok", id="the order itself was lost"),
        pytest.param("sim:timeout,timeout,lost", id="lost three times"),
        pytest.param("sim:delay=1500+ok", id="a slow answer"),
    ],
)
async def test_the_invoice_is_paid_once(sandbox: Sandbox, processes: Suite, token: str) -> None:
    """UNKNOWN is neither yes nor no: the gateway is asked, and asked again with the same key, never with a new one."""
    plan = await sandbox.plan("basic", flat("fee", "20.00"))
    zoe = await sandbox.customer("zoe", token=token)
    await sandbox.subscribe(zoe, plan)
    await sandbox.travel(datetime(2026, 1, 20, tzinfo=UTC))

    (payment,) = await sandbox.payments(zoe)
    assert payment.state == Payment.SUCCEEDED
    assert [attempt.state for attempt in payment.attempts] == [PaymentAttempt.SUCCEEDED]
    (invoice,) = await sandbox.invoices(zoe)
    assert invoice.state == Invoice.PAID

    gateway = await asyncpg.connect(processes.database_urls()["simulated_gateway"])
    try:
        captured = await gateway.fetch(
            "SELECT amount_minor, currency FROM captures WHERE invoice_id = $1 AND outcome = 'CAPTURED'", invoice.id
        )
    finally:
        await gateway.close()
    assert [tuple(row) for row in captured] == [(2000, "EUR")]
