"""The checker is content with a true story, and names exactly what is corrupted in it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.check.conftest import World
from tests.check.corruptions import AMOUNTS, AS_PUBLISHED, BILLING_CORRUPTIONS, PAID, PERIODS, RECORD, Corruption
from tests.check.coupon_corruptions import COUPON_CORRUPTIONS
from tests.check.credit_corruptions import CREDIT_CORRUPTIONS
from tests.check.credit_note_corruptions import CREDIT_NOTE_CORRUPTIONS
from tests.check.ledger_corruptions import LEDGER_CORRUPTIONS
from tests.check.spend_corruptions import SPEND_CORRUPTIONS
from tests.check.usage_corruptions import STORED, USAGE_CORRUPTIONS
from tools.check import coupons
from tools.check.records import Sources
from tools.check.report import Finding, examine
from tools.check.verification import INVARIANTS, verdict, verify

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
    report = verdict(await world.corrupted(corruption.service, *corruption.statements))
    assert report.broken == corruption.breaks, str(report)
    for finding in report.findings:
        assert finding.holds or finding.offenders


async def redemptions_in(world: World, *statements: str) -> Finding:
    [invariant] = coupons.INVARIANTS
    return examine(invariant, await world.corrupted("catalog", *statements))


async def test_redemptions_of_a_true_story_add_up(world: World) -> None:
    """Two coupons, a code, four redemptions and one of them taken back: nothing to object to."""
    finding = await redemptions_in(world)
    assert (finding.holds, finding.offenders) == (True, ())
    assert finding.checked is not None
    assert finding.checked > 10


@pytest.mark.parametrize(
    "statements", COUPON_CORRUPTIONS.values(), ids=[name.replace(" ", "-") for name in COUPON_CORRUPTIONS]
)
async def test_a_corrupted_redemption_is_named(world: World, statements: tuple[str, ...]) -> None:
    """Whatever is counted or promised, in any of the three tables."""
    finding = await redemptions_in(world, *statements)
    assert not finding.holds
    assert finding.offenders
    assert not any("HELLO" in offender for offender in finding.offenders)


async def test_a_limit_that_is_reached_is_respected(world: World) -> None:
    """Three of three, two of two: that is what a limit is for."""
    finding = await redemptions_in(
        world,
        "UPDATE coupons SET redemptions_max = 3, redemptions_per_customer_max = 2 WHERE code = 'spring'",
        "UPDATE coupon_codes SET redemptions_max = 2 WHERE code = 'HELLO'",
    )
    assert finding.holds, finding.offenders


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
    report = verdict(await world.corrupted("catalog", "UPDATE prices SET currency = '[b]'"))
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        report.print(console)
    lines = captured.get().splitlines()
    named, also = [number for number, line in enumerate(lines) if "✗" in line]
    assert AMOUNTS in lines[named]
    assert AS_PUBLISHED in lines[also]
    assert "rated anew" in lines[named + 1]
    assert "[b]" in lines[named + 1]
