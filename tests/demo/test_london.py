"""The shipped example, played by six processes: its figures are exact, whatever is killed on the way, and stay so."""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from rich.console import Console

from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.payments.v1.payment_pb2 import PaymentAttempt
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tools.demo.account import Account, amount
from tools.demo.folder import fingerprint, read_folder
from tools.demo.performance import Outcome, Progress, perform
from tools.demo.telling import tell
from tools.demo.trail import Branch
from tools.places import temporary_folder
from tools.stack import CHECKOUT, Name
from tools.suite import Suite

pytestmark = [pytest.mark.e2e, pytest.mark.fault, pytest.mark.slow]

LONDON = CHECKOUT / "examples" / "london"
CIVIL = ZoneInfo("Europe/London")
KILLED: dict[str, tuple[str, ...]] = {
    "2012-02": ("metering",),
    "2012-03": ("nats",),
    "2012-04": ("invoicing", "payments"),
    "2012-05": ("postgres",),
    "2012-06": ("subscriptions", "dunning", "catalog"),
}
"""What is taken away without warning when the story reaches a month."""

NOT_IN_LONDON = {
    "what was written by hand costs what it says",
    "what was written by hand is billed at most once",
    "coupons discount what they were applied to, as far as they go",
    "commitments are trued up once, to the cent",
    "redemption counts equal redemptions and respect limits",
    "every credit is taken off as soon as it can be",
    "taxes are what the lines come to",
    "who is exempt is not taxed",
    "movements of credit add up, never below nothing",
    "credit is used in its time and for what it was given",
    "reservations of credit agree with movements",
    "what was paid too much, or for credit, is credit",
    "credit is in the books as it moved",
    "credit of who was merged is the other one's",
    "credit notes are the sum of their lines",
    "no more is taken back than was billed",
    "every credit note is announced",
    "every frozen usage is counted anew",
    "what came too late for a frozen usage is told",
    "how usage stands to thresholds is counted anew",
    "every change of how it stands is announced once",
    "nobody acquires more quota than there is",
    "what is committed of a quota is used once",
    "no usage is gone but what was archived",
    "what nobody counts was told of",
    "a seller's usage is in one shard of the log",
    "what was given by hand was taken off",
    "what was refused of late usage is what it comes to",
    "what was billed early had reached its threshold",
    "nothing stays unbilled that has reached its threshold",
    "bill runs tell what became of their customers",
}
"""What nobody does in this story; that of tests/check does."""


@dataclass(frozen=True)
class Played:
    """The outcome of playing the folder, and of playing it again on the same state."""

    first: Outcome
    again: Outcome
    killed: list[str]
    checked: subprocess.CompletedProcess[str]
    """What `saldo check` says afterwards, with everything stopped."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played() -> AsyncIterator[Played]:
    home = temporary_folder()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SALDO_")}
    suites: list[Suite] = []

    def build(endpoint: str) -> Suite:
        suites.append(Suite(home, otlp_endpoint=endpoint, environment=environment))
        return suites[-1]

    killed: list[str] = []
    months: set[str] = set()
    faults: set[asyncio.Future[None]] = set()

    def kill_on_the_way(progress: Progress) -> None:
        month = f"{progress.time:%Y-%m}" if progress.time is not None else ""
        if month in months:
            return
        months.add(month)
        for name in KILLED.get(month, ()):
            killed.append(name)
            loop = asyncio.get_running_loop()
            server: dict[str, Name] = {"nats": "nats", "postgres": "postgres"}
            if name in server:
                faults.add(loop.run_in_executor(None, suites[-1].kill_server, server[name]))
            else:
                suites[-1].kill(name)

    example = read_folder(LONDON).example
    try:
        first = await perform(build, example, fingerprint(LONDON), kill_on_the_way)
        await asyncio.gather(*faults)
        again = await perform(build, example, fingerprint(LONDON), lambda _progress: None)
        command = [sys.executable, "-c", "from tools.cli import app; app()", "--folder", str(home), "check"]
        checked = await asyncio.to_thread(
            subprocess.run, command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
        )
        yield Played(first, again, killed, checked)
    finally:
        suites[-1].stack.discard()
        shutil.rmtree(home, ignore_errors=True)


async def test_everything_was_killed_once(played: Played) -> None:
    """The figures below are worth nothing if no fault was ever injected."""
    assert sorted(played.killed) == sorted(name for names in KILLED.values() for name in names)


async def test_every_invariant_holds(played: Played) -> None:
    """Also after the kills, and each with something to look at."""
    assert played.first.report.content, str(played.first.report)
    assert played.again.report.content, str(played.again.report)
    assert {finding.name for finding in played.first.report.findings if not finding.checked} == NOT_IN_LONDON


async def test_the_command_verifies_a_suite_that_is_stopped(played: Played) -> None:
    """Also against what the demo wrote down of its own calls."""
    assert played.checked.returncode == 0, played.checked.stdout + played.checked.stderr
    assert "Everything that must hold does." in played.checked.stdout
    assert "every acknowledged usage event is stored exactly once" in played.checked.stdout


async def test_the_household_owes_what_its_readings_say(played: Played) -> None:
    """Half-hourly readings of a real meter, by London civil months, across the clock change of 25 March."""
    invoices = _of(played.first.account, "MAC000060")
    assert [_date(invoice) for invoice in invoices] == [f"2012-{month:02}-01" for month in range(2, 8)]
    consumed = _consumed()
    assert consumed["2012-01"] == Decimal("450.9750001")
    for month, invoice in enumerate(invoices, start=1):
        days = (datetime(2012, month + 1, 1) - datetime(2012, month, 1)).days  # noqa: DTZ001 # civil months
        care = Decimal("8.00") if month == 1 else Decimal("15.50")  # 16 of 31 days of the first month
        assert _lines(invoice) == {
            "Electricity": _rounded(consumed[f"2012-{month:02}"] * Decimal("0.14228")),
            "Gas": days * Decimal("9.60"),
            "Boiler care": care,
        }
        assert invoice.state == Invoice.PAID
    assert _lines(invoices[0])["Electricity"] == Decimal("64.16")
    assert _lines(invoices[1])["Electricity"] == Decimal("51.03")
    assert amount(invoices[0].total).amount == Decimal("369.76")


async def test_the_platform_owes_seats_calls_and_what_came_late(played: Played) -> None:
    """Late usage is billed with the next invoice, as the difference; what was sent twice is billed once."""
    in_time, late = _calls()
    invoices = _of(played.first.account, "platform")
    assert [_date(invoice) for invoice in invoices] == [f"2012-{month:02}-01" for month in range(1, 8)]
    assert _lines(invoices[0]) == {"Seats": Decimal(300)}
    for month, invoice in enumerate(invoices[1:], start=1):
        due = {"Seats": Decimal(300), "API calls": _rounded(_graduated(in_time[month]))}
        before = month - 1
        if late[before]:
            whole = _rounded(_graduated(in_time[before] + late[before]))
            due["API calls – late usage"] = whole - _rounded(_graduated(in_time[before]))
        assert _lines(invoice) == due
    assert sum(1 for count in late.values() if count) == 2


async def test_the_declined_card_is_dunned_and_recovers(played: Played) -> None:
    """Two declines, then the money: the customer is kept."""
    account = played.first.account
    invoices = _of(account, "studio-declined")
    assert {invoice.state for invoice in invoices} == {Invoice.PAID}
    assert account.campaigns[invoices[0].id].state == DunningCampaign.RECOVERED
    states = [attempt.state for attempt in account.payments[invoices[0].id].attempts]
    assert states == [PaymentAttempt.FAILED, PaymentAttempt.FAILED, PaymentAttempt.SUCCEEDED]


async def test_the_one_who_never_pays_is_cancelled(played: Played) -> None:
    """Service ends, the debt stays, and nothing more is billed."""
    account = played.first.account
    (invoice,) = _of(account, "studio-unpaid")
    assert invoice.state == Invoice.OPEN
    campaign = account.campaigns[invoice.id]
    assert campaign.state == DunningCampaign.EXHAUSTED
    states = {each.id: each.state for each in account.subscriptions}
    assert [states[each] for each in campaign.subscription_ids] == [Subscription.CANCELLED]


async def test_the_lost_answer_is_settled_without_a_second_capture(played: Played) -> None:
    """One attempt, whose outcome became known only later."""
    account = played.first.account
    first = _of(account, "studio-lost")[0]
    (attempt,) = account.payments[first.id].attempts
    assert attempt.state == PaymentAttempt.SUCCEEDED
    assert attempt.settle_time.ToSeconds() > attempt.create_time.ToSeconds()


async def test_a_second_run_changes_nothing(played: Played) -> None:
    """The same seller, the same invoices to the last byte of their documents, and every usage event known."""
    first, again = played.first, played.again
    assert again.standing.seller_id == first.standing.seller_id
    assert again.account == first.account
    assert again.sent.accepted == again.sent.rejected == 0
    assert again.sent.duplicate == len(read_folder(LONDON).example.rows) + 6
    assert first.documents == again.documents
    assert all(path.read_bytes().startswith(b"%PDF") for path in again.documents)


async def test_one_amount_can_be_followed_from_usage_to_payment(played: Played) -> None:
    """The trail that was seen the first time is told the second time too."""
    for outcome in (played.first, played.again):
        assert outcome.trail is not None
        assert outcome.event is not None
        (ingest,) = outcome.trail.ingest
        assert ingest.span.service == "metering"
        services = set(_services(outcome.trail.bill))
        assert services >= {"subscriptions", "invoicing", "payments"}
        console = Console(width=100, record=True)
        with console.capture() as told:
            tell(console, outcome)
        assert "capture at simulated" in told.get()
        assert "Everything that must hold does." in told.get()


def _services(branches: Iterable[Branch]) -> Iterator[str]:
    for branch in branches:
        yield branch.span.service
        yield branch.answered_by
        yield from _services(branch.branches)


def _of(account: Account, customer: str) -> list[Invoice]:
    ids = {name: customer_id for customer_id, name in account.customers.items()}
    return [invoice for invoice in account.invoices if invoice.customer_id == ids[customer]]


def _date(invoice: Invoice) -> str:
    return f"{invoice.invoice_date.year}-{invoice.invoice_date.month:02}-{invoice.invoice_date.day:02}"


def _lines(invoice: Invoice) -> dict[str, Decimal]:
    assert len({line.description for line in invoice.line_items}) == len(invoice.line_items)
    return {line.description: amount(line.amount).amount for line in invoice.line_items}


def _rounded(exact: Decimal) -> Decimal:
    return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _consumed() -> dict[str, Decimal]:
    """Straight from the published file: kWh by civil month of London."""
    found: dict[str, Decimal] = defaultdict(Decimal)
    with (LONDON / "usage" / "electricity.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            time = datetime.fromisoformat(row["reading_time_gmt"]).astimezone(CIVIL)
            found[f"{time:%Y-%m}"] += Decimal(row["kwh"])
    return found


def _calls() -> tuple[dict[int, int], dict[int, int]]:
    """Straight from the file: calls by month, those that were sent in time and those that were not."""
    in_time: dict[int, int] = defaultdict(int)
    late: dict[int, int] = defaultdict(int)
    with (LONDON / "usage" / "api-calls.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            month = datetime.fromisoformat(row["time"]).month
            (late if row["send_time"] else in_time)[month] += int(row["value"])
    return in_time, late


def _graduated(calls: int) -> Decimal:
    """The first 10,000 are free, those up to 100,000 cost 0.002."""
    assert 10_000 < calls < 100_000
    return (calls - 10_000) * Decimal("0.0020")
