"""Composes the authorities that are asked: VIES for live sellers if it has an address, a simulated one in sandboxes."""

from __future__ import annotations

from common.service import Service
from subscriptions.settings import Settings
from subscriptions.tax_authorities import NoAuthority, TaxAuthorities, TaxAuthority
from subscriptions.tax_authorities.simulated import SimulatedTaxAuthority
from subscriptions.tax_authorities.vies import Vies
from subscriptions.tax_authorities.watched import WatchedTaxAuthority


def tax_authorities(service: Service, settings: Settings) -> TaxAuthorities:
    live: TaxAuthority = NoAuthority()
    if settings.vies_address:
        vies = Vies(settings.vies_address, timeout_seconds=settings.tax_authority_timeout_seconds)
        service.on_close(vies.close)
        live = vies

    def watched(authority: TaxAuthority) -> TaxAuthority:
        return WatchedTaxAuthority(
            authority, timeout_seconds=settings.tax_authority_timeout_seconds, telemetry=service.telemetry
        )

    return TaxAuthorities(live=watched(live), sandbox=watched(SimulatedTaxAuthority()))
