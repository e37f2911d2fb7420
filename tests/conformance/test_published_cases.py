"""Figures that others published, and some of our own, put to the public calls of the services."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest_asyncio

from common.caller import Role
from common.ids import SellerId
from common.testing import SERVICES, Suite
from saldo.invoicing.v1.rating_service_pb2_grpc import MoneyServiceStub, RatingServiceStub
from saldo.invoicing.v1.tax_service_pb2_grpc import TaxServiceStub
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from tests.conformance.case import CASES, Amount, Case, Verdict, judge, load
from tests.conformance.conventions import ANCHOR, NOT_FOLLOWED, others
from tests.conformance.report import Report, put_to
from tests.conformance.rooms import Rooms
from tests.conformance.system import System

AGGREGATION: Final = "aggregation.jsonl"
COUNTS: Final = {
    "rating.jsonl": {Verdict.PASSED: 113, Verdict.OTHER_CONVENTION: 1},
    "money.jsonl": {Verdict.PASSED: 42, Verdict.OTHER_CONVENTION: 7},
    AGGREGATION: {Verdict.PASSED: 38, Verdict.OTHER_CONVENTION: 4, Verdict.UNSUPPORTED: 4},
    "invoice.jsonl": {Verdict.PASSED: 43, Verdict.OTHER_CONVENTION: 1, Verdict.UNSUPPORTED: 4},
    "proration.jsonl": {Verdict.PASSED: 130, Verdict.OTHER_CONVENTION: 7, Verdict.UNSUPPORTED: 7},
    "own-proration.jsonl": {Verdict.PASSED: 59},
}
"""What becomes of the cases that are in the repository; anything else is a change that somebody should notice."""


@pytest_asyncio.fixture
async def saldo(suite: Suite, tmp_path: Path) -> AsyncIterator[System]:
    await suite.start(*SERVICES)

    async with AsyncExitStack() as stack:
        yield _system(suite, tmp_path, stack)


async def test_the_published_figures(saldo: System) -> None:
    """Whoever moves to us from another system pays the same, or finds the convention by which it differs."""
    reports = await put_to(saldo, CASES)
    wrong = [f"{each.case.id}: {each.why}" for report in reports for each in report.findings if _is_wrong(each.verdict)]
    assert not wrong, "\n".join(wrong)
    assert {report.file: _counts(report) for report in reports} == COUNTS


async def test_clickhouse_counts_the_same(suite: Suite, tmp_path: Path, clickhouse_url: str) -> None:
    """Whoever outgrows one database is billed what he was billed before: the same cases, by the copy of the log."""
    settings = {"clickhouse_wait_seconds": 20, "clickhouse_pause_seconds": 0.01}
    await suite.start("metering", usage_store="clickhouse", clickhouse_url=clickhouse_url, **settings)
    await suite.start(*(name for name in SERVICES if name != "metering"))
    async with AsyncExitStack() as stack:
        [report] = await put_to(_system(suite, tmp_path, stack), CASES, names=[AGGREGATION])
    assert _counts(report) == COUNTS[AGGREGATION]


async def test_only_a_convention_sets_a_case_aside(saldo: System) -> None:
    """A case that is inconvenient is not left out: what is not compared names one of the listed conventions."""
    [report] = await put_to(saldo, CASES, names=["money.jsonl"])
    aside = [each.case for each in report.findings if each.verdict is Verdict.OTHER_CONVENTION]
    without_alternative = [case for case in aside if not case.alternatives]
    assert without_alternative
    assert all(NOT_FOLLOWED.keys() & set(case.conventions) for case in without_alternative)


def test_the_judge_can_say_no() -> None:
    """A comparison that accepts everything would make every count above worthless."""
    line = '{"id": "x", "input": {}, "expected": {"amount": "1.005"}, "alternatives": {"other": {"amount": "2"}}%s}'
    strict, either = Case.parse(line % ""), Case.parse(line % ', "recommended": "either"')
    better = Case.parse(line % ', "recommended": "other"')
    assert judge(strict, {"amount": Amount(Decimal("1.01"), Decimal("1.005"), 2)}) is Verdict.PASSED
    assert judge(strict, {"amount": Amount(Decimal("1.01"), Decimal("1.006"), 2)}) is Verdict.WRONG
    assert judge(strict, {"amount": 1}) is Verdict.WRONG
    assert judge(either, {"amount": 2}) is Verdict.OTHER_CONVENTION
    assert judge(better, {"amount": 2}) is Verdict.OTHER_CONVENTION
    assert judge(strict, {"amount": 2}) is Verdict.WRONG
    assert judge(strict, {"total": 1}) is Verdict.WRONG
    assert judge(strict, {"amount": 2}, any_convention=True) is Verdict.OTHER_CONVENTION
    assert judge(strict, {"amount": 3}, any_convention=True) is Verdict.WRONG
    for figure in ("n/a", "NaN", None):
        other = replace(strict, expected={"amount": figure}, alternatives={})
        assert judge(other, {"amount": Amount(Decimal(1), Decimal(1), 2)}) is Verdict.WRONG


def test_a_convention_sets_only_those_aside_that_depend_on_it() -> None:
    """Periods begin on the same days by both rules of the anchor, unless the day is over or missing when it starts."""
    cases = [case for case in load(CASES / "proration.jsonl") if ANCHOR in case.conventions]
    aside = [case.id for case in cases if others(case)]
    assert len(cases) == 35
    assert aside == [
        "prorate-kb-cycles-051",
        "prorate-kb-cycles-063",
        "prorate-kb-cycles-087",
        "prorate-kb-first-P1Y-2012-01-31-30",
    ]


async def test_a_convention_of_others_is_compared_where_our_figure_is_listed(saldo: System, tmp_path: Path) -> None:
    """Set aside is only what nobody published our figure of; and a field that is not known is not ignored."""
    ways = [
        ({"mode": "up"}, {"round:half_up": {"amount": "1.22"}}, Verdict.OTHER_CONVENTION),
        ({"mode": "up"}, {"round:half_up": {"amount": "1.21"}}, Verdict.WRONG),
        ({"mode": "up"}, {}, Verdict.OTHER_CONVENTION),
        ({"step": "0.05"}, {"round:half_up": {"amount": "1.22"}}, Verdict.UNSUPPORTED),
    ]
    cases = [
        {
            "id": str(n),
            "input": {"kind": "round", "amount": "1.221", "currency": "USD", **more},
            "expected": {"amount": "1.23"},
            "convention": ["round:up"],
            "alternatives": alternatives,
        }
        for n, (more, alternatives, _) in enumerate(ways)
    ]
    (tmp_path / "money.jsonl").write_text("\n".join(map(json.dumps, cases)), "utf-8")
    [report] = await put_to(saldo, tmp_path)
    assert [each.verdict for each in report.findings] == [verdict for _, _, verdict in ways]


def _system(suite: Suite, journals: Path, stack: AsyncExitStack) -> System:
    def token(role: Role, seller_id: SellerId | None) -> str:
        return suite.keys.token(role=role, seller_id=seller_id)

    return System(
        rating=suite.stub(RatingServiceStub, "invoicing"),
        money=suite.stub(MoneyServiceStub, "invoicing"),
        tax=suite.stub(TaxServiceStub, "invoicing"),
        metering=suite.stub(MeteringServiceStub, "metering"),
        rooms=Rooms(suite.addresses, token, journals, stack),
    )


def _is_wrong(verdict: Verdict) -> bool:
    return verdict is Verdict.WRONG


def _counts(report: Report) -> dict[Verdict, int]:
    return dict(Counter(finding.verdict for finding in report.findings))
