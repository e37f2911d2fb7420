"""One customer on everything that can be sold by use: billed, counted anew, corrected, and rated by two raters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from common import wire
from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem
from saldo.invoicing.v1.proof_service_pb2 import ReplayInvoiceRequest
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox, flat, metered, text, usage

TIERS = [{"up_to": "#10", "unit_price": "#0.20"}, {"unit_price": "#0.15"}]
PRICES: dict[str, tuple[str, dict[str, object]]] = {
    "share": ("sales", {"percentage": {"percent": "#1"}}),
    "payments": ("sales", {"percentage": {"percent": "#2.9", "fixed_fee": "#0.30", "free_transactions": 2}}),
    "shops": (
        "sales",
        {
            "matrix": {
                "dimensions": ["shop", "till"],
                "cells": [{"values": ["north", "1"], "tariff": {"per_unit": {"unit_price": "#0.10"}}}],
                "default_tariff": {"package": {"size": "#5", "price": "#1"}},
            }
        },
    ),
    "resold": ("sales", {"dynamic": {"multiplier": "#1.2"}}),
    "hosting": (
        "disk",
        {
            "capacity": {
                "tiers": [
                    {
                        "limits": [{"meter": "disk", "up_to": "#100"}, {"meter": "seats", "up_to": "#5"}],
                        "amount": "#20",
                    },
                    {
                        "limits": [{"meter": "disk", "up_to": "#500"}, {"meter": "seats", "up_to": "#20"}],
                        "amount": "#50",
                    },
                    {"amount": "#120"},
                ]
            }
        },
    ),
    "visitors": ("visits", {"per_unit": {"unit_price": "#2.50"}}),
    "traffic": ("kb", {"package": {"size": "#10", "price": "#3"}, "unit_conversion": {"divide_by": "#1024"}}),
    "units": (
        "units",
        {
            "volume": {"tiers": [{"up_to": "#15", "unit_price": "#10"}, {"unit_price": "#5"}]},
            "minimum_amount": "#100",
        },
    ),
    "calls": ("calls", {"graduated": {"tiers": TIERS}, "free_units": "#5", "discount_percent": "#10"}),
}


async def test_every_model_is_billed_and_corrected(sandbox: Sandbox) -> None:
    """January in time, in the hour of grace, and too late twice. What every price comes to is worked out beside it;
    when the story is over, the independent rater has to find the same in the usage events."""
    story = await Story.begin(sandbox)

    await story.travel(datetime(2026, 1, 20, tzinfo=UTC))
    await story.use(
        story.used("sales", "100", 7, shop="north", till="1"),
        story.used("sales", "60", 6, shop="south", till="1"),
        story.used("sales", "40", 5, shop="north"),
        *(story.used("disk", value, 8) for value in ("60", "80", "70")),
        story.used("seats", "4", 8),
        *(story.used("visits", "1", 9, who=who) for who in ("ann", "bob", "ann")),
        story.used("kb", "10240", 10),
        story.used("kb", "5120", 11),
        story.used("units", "15", 12),
        story.used("calls", "25", 13),
    )
    await story.travel(datetime(2026, 2, 1, tzinfo=UTC))
    assert lines(await story.last(Invoice.DRAFT)) == {
        "base": "10.00 EUR",
        "share": "2.00 EUR",  # of 200
        "payments": "3.20 EUR",  # 2.90 + 0.30 of 100; 40 and 60 were first
        "shops": "30.00 EUR",  # 100 at 0.10; 100 in 20 packages
        "resold": "240.00 EUR",
        "hosting": "20.00 EUR",  # 80 and 4
        "visitors": "5.00 EUR",  # 2
        "traffic": "6.00 EUR",  # 15 MB in 2 packages
        "units": "150.00 EUR",  # 15 at 10
        "calls": "3.15 EUR",  # 20 are not free: 2.00 + 1.50, less a tenth
    }

    await story.travel(datetime(2026, 2, 1, 0, 30, tzinfo=UTC))
    await story.use(
        story.used("sales", "50", 31, shop="north", till="1"),
        story.used("seats", "7", 31),
        story.used("visits", "1", 31, who="cid"),
        story.used("kb", "5120", 31),
        story.used("units", "1", 31),
        story.used("calls", "5", 31),
    )
    await story.travel(datetime(2026, 2, 10, tzinfo=UTC))
    january = await story.last(Invoice.PAID)
    assert lines(january) == {
        "base": "10.00 EUR",
        "share": "2.50 EUR",
        "payments": "4.95 EUR",  # and 1.45 + 0.30 of 50
        "shops": "35.00 EUR",
        "resold": "300.00 EUR",
        "hosting": "50.00 EUR",  # 7 seats need the next size
        "visitors": "7.50 EUR",
        "traffic": "6.00 EUR",  # 20 MB: the whole is rounded
        "units": "100.00 EUR",  # 16 at 5 are 80
        "calls": "3.83 EUR",  # 25: 2.00 + 2.25 less a tenth is 3.825
    }
    assert text(january.total) == "519.78 EUR"

    await story.use(
        story.used("sales", "-1", 14, shop="north", till="1"),
        story.used("sales", "1", 14, shop="south", till="1"),
        story.used("seats", "21", 14),
        *(story.used("visits", "1", 14, who=who) for who in ("ann", "dan")),
        story.used("kb", "1", 14),
        story.used("units", "5", 14),
        story.used("calls", "-10", 14),
    )
    await story.travel(datetime(2026, 3, 5, tzinfo=UTC))
    february = await story.last(Invoice.PAID)
    nothing = dict.fromkeys(("share", "payments", "shops", "resold", "visitors", "traffic", "calls"), "0.00 EUR")
    empty_month = {"base": "10.00 EUR", **nothing, "hosting": "20.00 EUR", "units": "100.00 EUR"}
    assert lines(february) == empty_month
    # Neither the share nor what is resold has changed: their sum is the same.
    assert corrections(february) == {
        "payments": "0.30 EUR",  # 0.029 + 0.30 of 1, less 0.029
        "shops": "0.90 EUR",  # 149 at 0.10, and 101 in 21 packages
        "hosting": "70.00 EUR",  # 21 seats
        "visitors": "2.50 EUR",
        "traffic": "3.00 EUR",  # a third package has begun
        "units": "5.00 EUR",  # 21 at 5
        "calls": "-1.35 EUR",  # 15: 2.00 + 0.75 less a tenth is 2.475
    }
    assert text(february.total) == "210.35 EUR"

    await story.use(story.used("sales", "10", 15))
    await story.travel(datetime(2026, 4, 2, tzinfo=UTC))
    march = await story.last(Invoice.PAID)
    assert lines(march) == empty_month
    assert corrections(march) == {
        "share": "0.10 EUR",
        "payments": "0.59 EUR",
        "shops": "2.00 EUR",  # 111 in 23 packages
        "resold": "12.00 EUR",
    }
    assert {line.correction for line in march.line_items} == {0, 1, 2}
    await story.replay()


class Story:
    """A customer who uses everything there is."""

    def __init__(self, sandbox: Sandbox, customer: Customer) -> None:
        self._sandbox = sandbox
        self._customer = customer
        self._count = 0

    @classmethod
    async def begin(cls, sandbox: Sandbox) -> Story:
        for code in ("sales", "kb", "units", "calls"):
            await sandbox.meter(code)
        for code in ("disk", "seats"):
            await sandbox.meter(code, Meter.MAX)
        await sandbox.meter("visits", Meter.UNIQUE_COUNT, unique_dimension="who")
        prices: list[Price] = [metered(code, meter, definition) for code, (meter, definition) in PRICES.items()]
        plan = await sandbox.plan("every", flat("base", "10"), *prices)
        customer = await sandbox.customer("ann", token="sim:ok")
        await sandbox.subscribe(customer, plan)
        return cls(sandbox, customer)

    async def travel(self, to: datetime) -> None:
        await self._sandbox.travel(to)

    def used(self, meter: str, value: str, day: int, **dimensions: str) -> UsageEvent:
        """On a day of January, in the order told."""
        self._count += 1
        at = datetime(2026, 1, day, tzinfo=UTC) + timedelta(minutes=self._count)
        return usage(self._customer, meter, at, value, event_id=f"event-{self._count}", **dimensions)

    async def use(self, *events: UsageEvent) -> None:
        answer = await self._sandbox.use(*events)
        assert answer.accepted_count == len(events), answer

    async def replay(self) -> None:
        """Each invoice follows from its prices and its usage once more, to the byte, whatever was counted since."""
        for invoice in await self._sandbox.invoices(self._customer):
            replay = await self._sandbox.client.proof.ReplayInvoice(ReplayInvoiceRequest(invoice_id=invoice.id))
            assert replay.is_identical, (replay.number, replay.differences)

    async def last(self, state: Invoice.State.ValueType) -> Invoice:
        invoice = (await self._sandbox.invoices(self._customer))[-1]
        assert invoice.state == state
        return invoice


def lines(invoice: Invoice) -> dict[str, str]:
    return _amounts(line for line in invoice.line_items if not line.correction)


def corrections(invoice: Invoice) -> dict[str, str]:
    return _amounts(line for line in invoice.line_items if line.correction)


def _amounts(found: Iterable[LineItem]) -> dict[str, str]:
    """By the code of the price, which its product is named after."""
    amounts = {}
    for line in found:
        steps = sum(wire.parse_decimal(step.amount, field="amount") for step in line.rating_steps)
        assert steps == wire.parse_decimal(line.exact_amount, field="exact_amount")
        amounts[line.description.removesuffix(" – late usage").removeprefix("Every-").lower()] = text(line.amount)
    return amounts
