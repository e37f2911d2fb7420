"""How long it takes to say what a customer would owe now: `make bench T=upcoming`, or with fewer `--events 100000`.

Catalog, subscriptions, metering and invoicing in processes of their own, and a customer with a fee and three graduated
meters, who has used them a million times since the period began. Then one event more is sent, and the upcoming invoice
asked for, in turn, one at a time: each answer must count exactly what was accepted, and come to what that costs. The
ceiling is the same question about a customer who has used nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import uvloop

from bench.billed import CENT, FEE, METERS, MICROS, create_first, create_offer, graduated
from bench.billrun import Scene, open_seller, send, set_scene
from bench.figures import Figure, percentile_ms
from bench.stage import stage
from common import clock
from saldo.invoicing.v1 import invoicing_service_pb2
from saldo.metering.v1 import metering_service_pb2
from saldo.metering.v1.usage_event_pb2 import EventColumns

EVENTS: Final = 1_000_000
SEED: Final = 20_261_121
GOAL_P99_MS: Final = 30
QUESTIONS: Final = 1_000
WARM_UP: Final = 50
BEGUN_BEFORE: Final = timedelta(days=20)
UNITS_MAX: Final = 5
BATCH: Final = 1_000


@dataclass(slots=True)
class Asked:
    """A customer, what was used so far, and what the answers took."""

    scene: Scene
    customer_id: str
    start: datetime
    used: dict[str, int] = field(default_factory=lambda: dict.fromkeys(METERS, 0))
    sent: Iterator[int] = field(default_factory=itertools.count)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))  # figures, not secrets
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0

    def request(self, count: int) -> bytes:
        """So many events more, at any time since the period began."""
        lasted = int((clock.wall() - self.start).total_seconds())
        first = int(self.start.timestamp())
        meters = [self.chance.randrange(len(METERS)) for _ in range(count)]
        units = [self.chance.randrange(1, UNITS_MAX) for _ in range(count)]
        for meter, amount in zip(meters, units, strict=True):
            self.used[METERS[meter]] += amount
        names = [f"event-{next(self.sent):010}" for _ in range(count)]
        return metering_service_pb2.IngestEventsRequest(
            columns=EventColumns(
                strings=["bench", self.customer_id, *METERS],
                ids="".join(names).encode(),
                id_lengths=[len(names[0])],
                sources=[0],
                customers=[1],
                meters=[2 + meter for meter in meters],
                times_micros=[(first + self.chance.randrange(lasted)) * MICROS for _ in range(count)],
                units=units,
            ),
            exceptions_only=True,
        ).SerializeToString()

    async def ask(self) -> None:
        """What is owed as of now, which must be what it is."""
        began = time.perf_counter()
        invoice = await self.scene.stubs["invoicing"].GetUpcomingInvoice(
            invoicing_service_pb2.GetUpcomingInvoiceRequest(customer_id=self.customer_id), metadata=self.scene.metadata
        )
        self.seconds.append(time.perf_counter() - began)
        counted = {
            line.usage.meter: Decimal(line.usage.quantity.value)
            for line in invoice.line_items
            if line.HasField("usage")
        }
        owed = sum((graduated(units).quantize(CENT, ROUND_HALF_UP) for units in self.used.values()), FEE)
        told = invoice.total.units + Decimal(invoice.total.nanos).scaleb(-9)
        self.wrong += counted != self.used or told != owed


async def main(events: int) -> None:
    async with stage() as here, AsyncExitStack() as stack:
        scene = await set_scene(here, stack, replicas=1)
        await open_seller(scene)
        stubs = scene.stubs
        plan = await create_offer(stubs["catalog"], stubs["metering"], scene.metadata)
        start = clock.wall().replace(microsecond=0) - BEGUN_BEFORE
        asked, nobody = [
            Asked(scene, await create_first(stubs["subscriptions"], plan, start, scene.metadata), start)
            for _ in range(2)
        ]
        await send(scene, (asked.request(min(BATCH, events - n)) for n in range(0, events, BATCH)))
        for each in (nobody, asked):
            for _ in range(WARM_UP):
                await each.ask()
            each.seconds.clear()
        for _ in range(QUESTIONS):
            await nobody.ask()
            await send(scene, iter([asked.request(1)]))
            await asked.ask()
        mean, bare = statistics.mean(asked.seconds), statistics.mean(nobody.seconds)
        figure = Figure(
            bench="upcoming",
            value=1 / mean,
            unit="answers/s",
            ceiling=1 / bare,
            ratio=bare / mean,
            p50_ms=percentile_ms(asked.seconds, 0.50),
            p99_ms=percentile_ms(asked.seconds, 0.99),
            checked=not asked.wrong + nobody.wrong,
            more={
                "events": events,
                "goal_p99_ms": GOAL_P99_MS,
                "of_nothing_p99_ms": percentile_ms(nobody.seconds, 0.99),
                "wrong": asked.wrong + nobody.wrong,
                "load": round(os.getloadavg()[0], 1),
            },
        )
        print(figure.line(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="how often the customer has used something")
    uvloop.run(main(parser.parse_args().events))
