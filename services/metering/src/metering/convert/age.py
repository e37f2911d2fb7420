"""Knows which usage events of a request come too late for their meters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from common.period import EARLIEST
from metering.convert.sent import Faulty, Sent
from metering.domain.meter import earliest_accepted
from metering.domain.usage_event import too_old

_MICROSECOND: Final = timedelta(microseconds=1)


def recent_enough(sent: Sent, limits: Mapping[str, int], *, now: datetime) -> Sent:
    """The same, with those among the faulty that lie further back than their meters accept, in days by code."""
    batch = sent.batch
    limited = [n for n in np.unique(batch.meters).tolist() if batch.strings[n] in limits]
    if not limited:
        return sent
    earliest = {n: earliest_accepted(limits[batch.strings[n]], at=now) for n in limited}
    ends = np.zeros(len(batch.strings), dtype=np.int64)
    ends[limited] = [(each - EARLIEST) // _MICROSECOND for each in earliest.values()]
    old = batch.times < ends[batch.meters]
    if not old.any():
        return sent
    found = []
    for n in np.flatnonzero(old).tolist():
        meter = int(batch.meters[n])
        code = batch.strings[meter]
        found.append(
            Faulty(
                place=sent.places[n],
                sent_id=batch.ids[n].decode(),
                identity=(batch.strings[batch.sources[n]], batch.ids[n]),
                fault=too_old(code, limits[code], earliest[meter]),
            )
        )
    kept = np.flatnonzero(~old).tolist()
    return replace(sent, batch=batch.only(kept), places=[sent.places[n] for n in kept], faulty=[*sent.faulty, *found])
