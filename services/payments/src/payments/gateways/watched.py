"""Knows that every call to a gateway has a deadline, a span and a figure, and that its silence is logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from opentelemetry.trace import SpanKind

from common.telemetry import SECONDS, Telemetry
from payments.gateways import CaptureOrder, Gateway, GatewayUnavailable, GatewayUnknown, Outcome


class WatchedGateway:
    """A gateway that answers in time, or whose answer is lost."""

    def __init__(self, gateway: Gateway, *, timeout_seconds: float, telemetry: Telemetry) -> None:
        self._gateway = gateway
        self._timeout_seconds = timeout_seconds
        self._telemetry = telemetry
        self._duration = telemetry.meter.create_histogram(
            "saldo.gateway.duration", unit="s", explicit_bucket_boundaries_advisory=SECONDS
        )

    @property
    def name(self) -> str:
        return self._gateway.name

    @property
    def processing_max(self) -> timedelta:
        return self._gateway.processing_max

    @property
    def key_lifetime(self) -> timedelta:
        return self._gateway.key_lifetime

    @property
    def simulated(self) -> bool:
        return self._gateway.simulated

    @property
    def moves_real_money(self) -> bool:
        return self._gateway.moves_real_money

    def check_token(self, token: str) -> None:
        self._gateway.check_token(token)

    async def capture(self, order: CaptureOrder) -> Outcome:
        async with self._watch("capture", order):
            return await self._gateway.capture(order)

    async def find(self, order: CaptureOrder) -> Outcome | None:
        async with self._watch("find", order):
            return await self._gateway.find(order)

    @asynccontextmanager
    async def _watch(self, call: str, order: CaptureOrder) -> AsyncIterator[None]:
        started = time.perf_counter()
        outcome = "answered"
        attributes = {"attempt.id": order.attempt_id, "gateway": self.name}
        try:
            with self._telemetry.span(f"{call} at {self.name}", SpanKind.CLIENT, attributes=attributes):
                try:
                    async with asyncio.timeout(self._timeout_seconds):
                        yield
                except TimeoutError as error:
                    raise GatewayUnknown(f"no answer within {self._timeout_seconds} s") from error
        except (GatewayUnknown, GatewayUnavailable) as error:
            outcome = "unknown" if isinstance(error, GatewayUnknown) else "unavailable"
            self._telemetry.log.warning(
                "gateway silent",
                gateway=self.name,
                call=call,
                attempt_id=order.attempt_id,
                seller_id=order.seller_id,
                outcome=outcome,
                error=str(error),
            )
            raise
        except BaseException:
            outcome = "failed"
            raise
        finally:
            duration = time.perf_counter() - started
            self._duration.record(duration, {"gateway": self.name, "call": call, "outcome": outcome})
