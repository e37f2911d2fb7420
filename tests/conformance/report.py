"""Knows what became of the cases of a file: how many agree, and what about the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import grpc.aio

from tests.conformance import invoice_answers, money_answers, proration_answers, rating_answers, usage_answers
from tests.conformance.case import Answer, Case, Unsupported, Verdict, judge, load
from tests.conformance.conventions import NOT_FOLLOWED, others
from tests.conformance.system import System

Answering = Callable[[Case, System], Awaitable[Answer]]

FILES: Final[Mapping[str, Answering]] = {
    "rating.jsonl": rating_answers.answer,
    "money.jsonl": money_answers.answer,
    "aggregation.jsonl": usage_answers.answer,
    "invoice.jsonl": invoice_answers.answer,
    "proration.jsonl": proration_answers.answer,
    "own-proration.jsonl": proration_answers.answer,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One case: what became of it, and why, for people."""

    case: Case
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    file: str
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        return Counter(finding.verdict for finding in self.findings)[verdict]

    def line(self) -> str:
        counts = {verdict.value: self.count(verdict) for verdict in Verdict}
        return json.dumps({"file": self.file, "cases": len(self.findings), **counts})


async def put_to(saldo: System, folder: Path, *, names: Collection[str] = FILES) -> list[Report]:
    """Every file of the folder that has one of these names, all of them side by side."""
    cases = {name: load(folder / name) for name in FILES if name in names and (folder / name).exists()}
    findings = iter(
        await saldo.rooms.side_by_side([_find(case, FILES[name], saldo) for name in cases for case in cases[name]])
    )
    return [Report(name, tuple(islice(findings, len(cases[name])))) for name in cases]


async def _find(case: Case, answering: Answering, saldo: System) -> Finding:
    other = others(case)
    if other and not any(NOT_FOLLOWED[code].ours in case.alternatives for code in other):
        return Finding(case, Verdict.OTHER_CONVENTION, f"{other[0]}: {NOT_FOLLOWED[other[0]].why}")
    try:
        found = await answering(case, saldo)
    except Unsupported as missing:
        return Finding(case, Verdict.UNSUPPORTED, str(missing))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        return Finding(case, Verdict.UNSUPPORTED, f"a form that is not known here: {error!r}")
    except AssertionError as error:
        return Finding(case, Verdict.WRONG, f"not what it must be: {error!r}")
    except grpc.aio.AioRpcError as error:
        return Finding(case, Verdict.WRONG, f"answered {error.code().name}: {error.details()}")
    verdict = judge(case, found, any_convention=bool(other))
    return Finding(case, verdict, f"answered {dict(found)}, published {dict(case.expected)}")
