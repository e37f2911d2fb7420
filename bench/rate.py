"""How many quantities are rated a second, beside a plain loop over the tiers in decimals: `make bench T=rate`.

A call rates 10,000 quantities at a graduated price of six tiers, with unit prices of six decimals and flat amounts. The
plain loop is what one would write first, and rounds just as exactly; all take turns, and ratios are medians over them.
Through gRPC the services and whoever asks them share one process. Every amount of this very run is compared with the
independent rater of the checker.
"""

from __future__ import annotations

import decimal
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import grpc.aio
import uvloop
from google.type import decimal_pb2

from bench.figures import Figure, median_ratio, percentile_ms
from bench.stage import stage
from common.bus import MemoryBus
from common.caller import Role
from common.money import exact_sum
from common.rpc import MESSAGE_BYTES_MAX
from common.testing import SERVICES, Databases, Keys, Suite
from invoicing.domain.price import Graduated, Price, Tier
from invoicing.domain.rating import rate, rate_amounts
from invoicing.domain.usage import UsageToRate
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import RatingServiceStub
from tools.check import rater

QUANTITIES: Final = 10_000
ROUNDS: Final = 15
SEED: Final = 20260101
CURRENCY: Final = "EUR"
GOALS: Final = {"without_steps": 300_000, "with_steps": 50_000}
"""Ratings a second in one process, without gRPC."""

EXPLAINED_PER_CALL: Final = 2_500
"""With all their steps, more would not fit into an answer."""

TIERS: Final = (
    ("100", "0.142280", "0"),
    ("1000", "0.098765", "1.50"),
    ("10000", "0.081234", "2.25"),
    ("50000", "0.067891", "10"),
    ("250000", "0.050505", "0"),
    (None, "0.033333", "25.125"),
)
"""`up_to`, `unit_price` and `flat_amount` of each."""


@dataclass(slots=True)
class Way:
    """One way to rate all of the quantities."""

    name: str
    call: Callable[[Sequence[Decimal]], Awaitable[Sequence[int]]]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    is_right: bool = True

    async def turn(self, quantities: Sequence[Decimal], expected: Sequence[int]) -> None:
        began, used = time.perf_counter(), time.process_time()
        amounts = await self.call(quantities)
        self.seconds.append(time.perf_counter() - began)
        self.cpu_seconds.append(time.process_time() - used)
        self.is_right = self.is_right and list(amounts) == list(expected)

    @property
    def rates(self) -> list[float]:
        return [QUANTITIES / seconds for seconds in self.seconds]


async def main() -> None:
    quantities = random_quantities()
    expected = independent_amounts(quantities)
    plain = Way("plain loop", plain_amounts)
    async with stage() as here:
        with tempfile.TemporaryDirectory(prefix="saldo-bench-") as folder:
            suite = Suite(Databases(here.servers.postgres_url), Keys(Path(folder), SERVICES), MemoryBus())
            await suite.start("catalog", "invoicing")
            try:
                ways = await _ways(suite, plain, quantities, expected)
            finally:
                await suite.close()
    for way in ways:
        figure = Figure(
            bench=f"rate/{way.name}",
            value=statistics.median(way.rates),
            unit="ratings/s",
            ceiling=statistics.median(plain.rates),
            ratio=median_ratio(way.rates, plain.rates),
            p50_ms=percentile_ms(way.seconds, 0.50),
            p99_ms=percentile_ms(way.seconds, 0.99),
            checked=way.is_right and plain.is_right,
            more={
                "goal": GOALS.get(way.name),
                "per_cpu_second": round(QUANTITIES / statistics.median(way.cpu_seconds)),
            },
        )
        print(figure.line())


async def _ways(suite: Suite, plain: Way, quantities: Sequence[Decimal], expected: Sequence[int]) -> list[Way]:
    """All of them in turns: a busy moment of the machine slows down each."""
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    metadata = (("authorization", f"Bearer {suite.keys.token(role=Role.OWNER, seller_id=suite.seller)}"),)
    async with grpc.aio.insecure_channel(suite.addresses["invoicing"], options=options) as channel:
        stub = RatingServiceStub(channel)
        ways = [
            Way("without_steps", amounts_only),
            Way("with_steps", explained),
            Way("grpc_without_steps", _asked(stub, metadata, per_call=QUANTITIES, without_steps=True)),
            Way("grpc_with_steps", _asked(stub, metadata, per_call=EXPLAINED_PER_CALL, without_steps=False)),
        ]
        for way in (plain, *ways):
            await way.call(quantities[:100])
        for _ in range(ROUNDS):
            for way in (plain, *ways):
                await way.turn(quantities, expected)
    return ways


async def amounts_only(quantities: Sequence[Decimal]) -> list[int]:
    return rate_amounts(PRICE, quantities)


async def explained(quantities: Sequence[Decimal]) -> list[int]:
    """With steps, which have to add up."""
    ratings = [rate(PRICE, UsageToRate.of(quantity)) for quantity in quantities]
    assert exact_sum(step.amount for step in ratings[-1].steps) == ratings[-1].exact_amount
    return [rating.amount.minor for rating in ratings]


def _asked(  # Any: grpc's stubs, compiled when this runs
    stub: Any, metadata: Any, *, per_call: int, without_steps: bool
) -> Callable[[Sequence[Decimal]], Awaitable[list[int]]]:
    price = price_on_the_wire()

    async def call(quantities: Sequence[Decimal]) -> list[int]:
        amounts: list[int] = []
        for first in range(0, len(quantities), per_call):
            asked = [
                pb.RateRequest(usage=rating_pb2.UsageToRate(quantity=_decimal(f"{quantity:f}")))
                for quantity in quantities[first : first + per_call]
            ]
            request = pb.BatchRateRequest(requests=asked, price=price, without_steps=without_steps)
            response = await stub.BatchRate(request, metadata=metadata)
            for each in response.results:
                told = each.rating.amount
                amounts.append(told.units * 100 + told.nanos // 10**7)
        return amounts

    return call


def price_on_the_wire() -> price_pb2.Price:
    tiers = [
        price_pb2.Tier(
            up_to=None if up_to is None else _decimal(up_to),
            unit_price=_decimal(unit_price),
            flat_amount=_decimal(flat_amount),
        )
        for up_to, unit_price, flat_amount in TIERS
    ]
    return price_pb2.Price(
        code="calls",
        currency=CURRENCY,
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
        billing_timing=price_pb2.Price.IN_ARREARS,
        meter="calls",
        graduated=price_pb2.GraduatedModel(tiers=tiers),
    )


def _decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def random_quantities() -> list[Decimal]:
    """Of every size, with up to six decimals, and among them all the borders."""
    generator = random.Random(SEED)  # figures, not secrets
    borders = [Decimal(up_to) for up_to, _, _ in TIERS if up_to is not None]
    found = [
        Decimal(generator.randrange(10 ** generator.randrange(1, 13))).scaleb(-generator.randrange(7))
        for _ in range(QUANTITIES - len(borders) - 1)
    ]
    return [*found, Decimal(0), *borders]


def price_rated_at() -> Price:
    tiers = tuple(
        Tier(
            up_to=None if up_to is None else Decimal(up_to),
            unit_price=Decimal(unit_price),
            flat_amount=Decimal(flat_amount),
        )
        for up_to, unit_price, flat_amount in TIERS
    )
    return Price(
        id="price_1",
        currency=CURRENCY,
        model=Graduated(tiers=tiers),
        product="Calls",
        unit_label="call",
        is_metered=True,
    )


def independent_amounts(quantities: Sequence[Decimal]) -> list[int]:
    steps = tuple(
        rater.Step(
            up_to=None if up_to is None else Fraction(up_to),
            unit_price=Fraction(unit_price),
            flat_amount=Fraction(flat_amount),
        )
        for up_to, unit_price, flat_amount in TIERS
    )
    tariff = rater.Tariff(rater.Graduated(steps))
    return [rater.minor(rater.cost(tariff, Fraction(quantity)), CURRENCY) for quantity in quantities]


async def plain_amounts(quantities: Sequence[Decimal]) -> list[int]:
    """Through the tiers from the first one, with enough digits that nothing is rounded on the way."""
    tiers = [
        (None if up_to is None else Decimal(up_to), Decimal(unit_price), Decimal(flat_amount))
        for up_to, unit_price, flat_amount in TIERS
    ]
    amounts = []
    with decimal.localcontext(prec=60, rounding=decimal.ROUND_HALF_UP):
        for quantity in quantities:
            total = lower = Decimal(0)
            for up_to, unit_price, flat_amount in tiers:
                upper = quantity if up_to is None else min(quantity, up_to)
                if upper <= lower:
                    break
                total += (upper - lower) * unit_price + flat_amount
                lower = upper
            amounts.append(int(total.quantize(Decimal("0.01")).scaleb(2)))
    return amounts


PRICE: Final = price_rated_at()


if __name__ == "__main__":
    uvloop.run(main())
