"""Knows that every question to an authority has a deadline, a span and a figure, and that its silence is logged."""

from __future__ import annotations

import asyncio
import time

from opentelemetry.trace import SpanKind

from common.telemetry import SECONDS, Telemetry
from subscriptions.tax_authorities import AuthorityUnavailable, Inquiry, TaxAuthority


class WatchedTaxAuthority:
    """An authority that answers in time, or not at all."""

    def __init__(self, authority: TaxAuthority, *, timeout_seconds: float, telemetry: Telemetry) -> None:
        self._authority = authority
        self._timeout_seconds = timeout_seconds
        self._telemetry = telemetry
        self._duration = telemetry.meter.create_histogram(
            "saldo.tax_authority.duration", unit="s", explicit_bucket_boundaries_advisory=SECONDS
        )

    @property
    def name(self) -> str:
        return self._authority.name

    async def is_valid(self, inquiry: Inquiry) -> bool:
        started = time.perf_counter()
        outcome = "failed"
        attributes = {"tax_id.id": inquiry.tax_id, "authority": self.name}
        try:
            with self._telemetry.span(f"verify at {self.name}", SpanKind.CLIENT, attributes=attributes):
                try:
                    async with asyncio.timeout(self._timeout_seconds):
                        found = await self._authority.is_valid(inquiry)
                except TimeoutError as error:
                    raise AuthorityUnavailable(f"no answer within {self._timeout_seconds} s") from error
            outcome = "answered"
            return found
        except AuthorityUnavailable as error:
            outcome = "silent"
            self._telemetry.log.warning(
                "tax authority silent",
                authority=self.name,
                tax_id=inquiry.tax_id,
                tries=inquiry.tries,
                error=str(error),
            )
            raise
        finally:
            duration = time.perf_counter() - started
            self._duration.record(duration, {"authority": self.name, "outcome": outcome})
