"""Knows the form of a figure: what was measured, in what, against which ceiling, and whether it was verified."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of JSON. `checked` says that the correctness of what was measured was verified in this very run."""

    bench: str
    value: float
    unit: str
    ceiling: float
    ratio: float
    p50_ms: float | None
    p99_ms: float | None
    checked: bool
    more: dict[str, object] = field(default_factory=dict)

    def line(self) -> str:
        told = {
            "bench": self.bench,
            "value": round(self.value, 1),
            "unit": self.unit,
            "ceiling": round(self.ceiling, 1),
            "ratio": round(self.ratio, 3),
            "p50_ms": self.p50_ms if self.p50_ms is None else round(self.p50_ms, 3),
            "p99_ms": self.p99_ms if self.p99_ms is None else round(self.p99_ms, 3),
            "checked": self.checked,
        }
        return json.dumps(told | self.more)


def percentile_ms(seconds: Sequence[float], share: float) -> float | None:
    """The smallest latency that `share` of them do not exceed."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return 1_000 * ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def median_ratio(values: Sequence[float], ceilings: Sequence[float]) -> float:
    """Each round against the ceiling measured right beside it: a busy moment of the machine slows down both."""
    return statistics.median(value / ceiling for value, ceiling in zip(values, ceilings, strict=True))
