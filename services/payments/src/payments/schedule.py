"""What payments does when its time has come: collect what is wanted, and settle what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from common.jobs import Errand
from payments import store, usecases
from payments.gateways import Gateways


def jobs(gateways: Gateways, *, asks_first: bool) -> Sequence[Errand]:
    return [
        Errand(
            name="collect payments",
            due=store.PAYMENTS_DUE,
            run=partial(usecases.collect_payment, gateways, asks_first=asks_first),
        ),
        Errand(
            name="settle attempts",
            due=store.ATTEMPTS_DUE,
            run=partial(usecases.settle_attempt, gateways),
        ),
    ]
