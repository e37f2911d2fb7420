"""The checker is content with a true story, and names exactly what was corrupted in a copy of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.check.conftest import World
from tests.check.corruptions import AMOUNTS, AS_PUBLISHED, BILLING_CORRUPTIONS, PAID, PERIODS, RECORD, Corruption
from tests.check.credit_corruptions import CREDIT_CORRUPTIONS
from tests.check.credit_note_corruptions import CREDIT_NOTE_CORRUPTIONS
from tests.check.ledger_corruptions import LEDGER_CORRUPTIONS
from tests.check.spend_corruptions import SPEND_CORRUPTIONS
from tests.check.usage_corruptions import STORED, USAGE_CORRUPTIONS
from tools.check.records import Sources
from tools.check.verification import INVARIANTS, verify

CORRUPTIONS = (
    BILLING_CORRUPTIONS
    | CREDIT_CORRUPTIONS
    | CREDIT_NOTE_CORRUPTIONS
    | LEDGER_CORRUPTIONS
    | SPEND_CORRUPTIONS
    | USAGE_CORRUPTIONS
)


async def test_a_true_story_holds(world: World) -> None:
    """And every invariant has something to look at, so that none holds for want of data."""
    report = await verify(world.sources)
    assert report.content, str(report)
    assert [finding.name for finding in report.findings if not finding.checked] == []


async def test_one_seller_alone_holds(world: World) -> None:
    """Of a suite with many sellers, the demo verifies its own."""
    report = await verify(replace(world.sources, seller_id=world.seller_id))
    assert report.content, str(report)


@pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=[name.replace(" ", "-") for name in CORRUPTIONS])
async def test_a_corruption_is_named(world: World, corruption: Corruption) -> None:
    """Exactly what was corrupted is named, and nothing else."""
    report = await verify(await world.corrupted(corruption.service, *corruption.statements))
    assert report.broken == corruption.breaks, str(report)
    for finding in report.findings:
        assert finding.holds or finding.offenders


async def test_an_event_that_was_acknowledged_and_lost_is_named(world: World) -> None:
    """Only the client can know of it."""
    journal = world.journal.with_name("other.jsonl")
    sent = {"outcome": "DUPLICATE", "source": "usage", "id": "lost", "seller_id": world.seller_id, "method": "Ingest"}
    journal.write_text(world.journal.read_text() + json.dumps(sent) + "\n")
    report = await verify(replace(world.sources, journals=[journal]))
    assert report.broken == (STORED,)
    assert "lost" in report.findings[[each.name for each in report.findings].index(STORED)].offenders[0]


def test_every_invariant_is_seen_to_bite() -> None:
    """Whoever adds an invariant corrupts something for it."""
    bitten = {name for corruption in CORRUPTIONS.values() for name in corruption.breaks}
    assert {invariant.name for invariant in INVARIANTS} == bitten


async def test_data_that_is_missing_is_not_called_sound(world: World) -> None:
    """A suite without dunning is checked as far as it goes, and says how far that is."""
    databases = {name: url for name, url in world.urls.items() if name in ("catalog", "metering")}
    report = await verify(Sources(databases=databases))
    assert report.content, str(report)
    assert {finding.name for finding in report.findings if finding.checked is None} >= {PERIODS, PAID, RECORD}


async def test_the_table_names_the_first_offenders(world: World) -> None:
    """What a person sees, with markup in a name taken literally."""
    report = await verify(await world.corrupted("catalog", "UPDATE prices SET currency = '[b]'"))
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        report.print(console)
    lines = captured.get().splitlines()
    named, also = [number for number, line in enumerate(lines) if "✗" in line]
    assert AMOUNTS in lines[named]
    assert AS_PUBLISHED in lines[also]
    assert "rated anew" in lines[named + 1]
    assert "[b]" in lines[named + 1]
