"""Yesterday's backup of one service is put back while the others go on: no line twice, none lost, nothing collected
twice, and the checker names what nobody can make again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from google.type.decimal_pb2 import Decimal

from common.caller import Role
from common.ids import SellerId
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem
from saldo.invoicing.v1.manual_invoice_pb2 import ManualLine
from saldo.metering.v1.metering_service_pb2 import IngestEventsRequest
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.backups import Backup, back_up, put_back
from tests.support.sandbox import Sandbox, flat, per_unit, text, usage
from tools.check.records import GATEWAY, Sources, read_records
from tools.check.report import Report
from tools.check.verification import verify
from tools.client import Client
from tools.commands.events import announce_again
from tools.suite import Suite, running_suite

pytestmark = pytest.mark.fault

JANUARY_20: Final = datetime(2026, 1, 20, tzinfo=UTC)
FEBRUARY_3: Final = datetime(2026, 2, 3, tzinfo=UTC)
FEBRUARY_10: Final = datetime(2026, 2, 10, tzinfo=UTC)
MARCH_3: Final = datetime(2026, 3, 3, tzinfo=UTC)
MARCH_5: Final = datetime(2026, 3, 5, tzinfo=UTC)
APRIL_3: Final = datetime(2026, 4, 3, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
TAKEN_IN: Final = "every event is taken in once by all who listen"
ANSWERED: Final = "every answered command is on record"


@pytest.fixture(scope="module")
def processes() -> Iterator[Suite]:
    """Of its own: what is put back is the data of everybody who is there."""
    with running_suite() as suite:
        yield suite


@pytest_asyncio.fixture
async def company(processes: Suite, tmp_path: Path) -> AsyncIterator[Company]:
    """On the third of February. What differs in its books at the end is what each test asks for."""

    def token(role: Role, seller_id: SellerId | None) -> str:
        return processes.keys.token(role=role, seller_id=seller_id)

    async with await Sandbox.open(processes.addresses(), token, journals=tmp_path) as sandbox:
        yield await Company(processes, sandbox).begin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What is billed, and what is paid."""

    lines: Counter[tuple[str, ...]]
    """What each is for, and its amount."""
    invoices: dict[str, tuple[str, str, str]]
    """By id: the state, the total and what remains."""
    numbers: dict[str, str]
    captured: Counter[tuple[str, int]]
    """By the gateway's own record: for which invoice, and how much."""


class Company:
    """Sells energy: a fee in advance, and what was used."""

    def __init__(self, processes: Suite, sandbox: Sandbox) -> None:
        self.processes = processes
        self.sandbox = sandbox
        self.customers: dict[str, Customer] = {}
        self.used: list[UsageEvent] = []
        """Since the third of February."""

    async def begin(self) -> Company:
        """Ada has paid for January, Bob is yet to be asked again, Eve pays by hand."""
        await self.sandbox.policy(3, final_action=DunningPolicy.NONE)
        await self.sandbox.meter("kwh")
        self.plan = await self.sandbox.plan("energy", flat("fee", "10.00"), per_unit("power", "0.20", meter="kwh"))
        await self._join("ada", "sim:ok#ada")
        await self._join("bob", "sim:ok,decline,ok#bob")
        await self._join("eve", "")
        await self.sandbox.travel(JANUARY_20)
        await self._use(JANUARY_20)
        await self.sandbox.travel(FEBRUARY_3)
        return self

    async def go_on(self, *, written: bool = False) -> Books:
        """A month later: Bob has paid after all, Carl is new, and everything is billed and collected; how it stands."""
        if written:
            await self._write_invoice()
        await self.sandbox.travel(FEBRUARY_10)
        self.used = await self._use(FEBRUARY_10)
        await self._join("carl", "sim:ok#carl")
        await self.sandbox.travel(MARCH_3)
        return await self.books()

    async def books(self) -> Books:
        await self.sandbox.quiet()
        invoices = await self.sandbox.invoices()
        sources = Sources(databases=self.processes.database_urls(), journals=[], seller_id=self.sandbox.seller_id)
        captures = (await read_records(sources)).rows(GATEWAY, "captures")
        return Books(
            lines=Counter(_told(line) for invoice in invoices for line in invoice.line_items),
            invoices={
                each.id: (Invoice.State.Name(each.state), text(each.total), text(each.amount_remaining))
                for each in invoices
            },
            numbers={each.id: each.number for each in invoices},
            captured=Counter(
                (row["invoice_id"], row["amount_minor"]) for row in captures if row["outcome"] == "CAPTURED"
            ),
        )

    async def hear_again(self, backup: Backup, *sources: str) -> None:
        """`saldo events replay`: what others announced since the backup."""
        token = self.processes.keys.token(role=Role.PLATFORM, seller_id=None)
        async with Client(self.processes.addresses(), token) as platform:
            for source in sources:
                assert await announce_again(platform, source, backup.time)
        await self.sandbox.quiet()

    async def send_again(self) -> None:
        """As senders do who keep what they have sent. Not on record as new: it was accepted before."""
        token = self.processes.keys.token(role=Role.OWNER, seller_id=self.sandbox.seller_id)
        async with Client(self.processes.addresses(), token) as sender:
            answer = await sender.metering.IngestEvents(IngestEventsRequest(events=self.used))
        assert answer.accepted_count == len(self.used)

    async def report(self) -> Report:
        """The verdict of `saldo check`."""
        await self.sandbox.quiet()
        databases, journals = self.processes.database_urls(), [self.sandbox.journal]
        return await verify(Sources(databases=databases, journals=journals, seller_id=self.sandbox.seller_id))

    async def _join(self, name: str, card: str) -> None:
        self.customers[name] = await self.sandbox.customer(name, token=card, by_hand=not card)
        await self.sandbox.subscribe(self.customers[name], self.plan)

    async def _use(self, at: datetime) -> list[UsageEvent]:
        events = [
            usage(each, "kwh", at - HOUR, "100", event_id=f"{name} {at.date()}")
            for name, each in self.customers.items()
        ]
        answer = await self.sandbox.use(*events)
        assert answer.accepted_count == len(events)
        return events

    async def _write_invoice(self) -> None:
        """What nobody can tell from anything else."""
        line = ManualLine(description="Repair", quantity=Decimal(value="1"), unit_price=Decimal(value="80"))
        draft = await self.sandbox.client.manual_invoices.CreateInvoice(
            manual.CreateInvoiceRequest(customer_id=self.customers["eve"].id, lines=[line])
        )
        await self.sandbox.client.invoicing.FinalizeInvoice(invoicing.FinalizeInvoiceRequest(id=draft.id))


async def test_invoicing(company: Company) -> None:
    """It bills again what it forgot, under the same ids: payments collects nothing twice, and tells what it has. The
    numbers are others, and an invoice that somebody wrote is gone: both are named.
    """
    backup = await back_up(company.processes, "invoicing")
    before = await company.go_on(written=True)
    await put_back(company.processes, backup)
    await company.hear_again(backup, "subscriptions")
    await company.sandbox.travel(MARCH_3 + 2 * HOUR)  # the grace of what is billed now
    await company.hear_again(backup, "payments")
    await company.sandbox.travel(MARCH_5)

    after = await company.books()
    [(written, _)] = before.invoices.items() - after.invoices.items()
    assert after.invoices == {each: told for each, told in before.invoices.items() if each != written}
    assert before.lines - after.lines == Counter({("", "", "MANUAL", "0", "80.00 EUR"): 1})
    assert after.captured == before.captured
    assert max(after.captured.values()) == 1

    report = await company.report()
    announced = "invoices are what was announced of them"
    assert report.broken == (announced, TAKEN_IN, ANSWERED), str(report)
    collected = {invoice_id for invoice_id, _ in after.captured}
    renumbered = {each for each in collected if before.numbers[each] != after.numbers[each]}
    [carl] = await company.sandbox.invoices(company.customers["carl"])
    assert carl.id in renumbered
    # What is gone is known to dunning, which follows it up.
    assert {each.split()[3].strip(",") for each in _offenders(report, announced)} == {*renumbered, written}
    assert {offender.split("/")[-1].split()[0] for offender in _offenders(report, ANSWERED)} == {
        "CreateInvoice",
        "FinalizeInvoice",
    }

    await company.sandbox.travel(APRIL_3)
    later = await company.books()
    assert not after.lines - later.lines
    assert {(told[2], told[3]) for told in later.lines - after.lines} == {("OWED", "0")}
    assert max(later.lines.values()) == max(later.captured.values()) == 1


async def test_subscriptions(company: Company) -> None:
    """What was agreed since is gone, and nobody is billed for it any more; what was billed for it is named."""
    backup = await back_up(company.processes, "subscriptions")
    before = await company.go_on()
    await put_back(company.processes, backup)
    await company.hear_again(backup, "invoicing", "payments")
    await company.sandbox.travel(MARCH_5)
    assert await company.books() == before

    report = await company.report()
    periods = "every period of every item is invoiced exactly once"
    assert report.broken == (periods, TAKEN_IN, ANSWERED), str(report)
    [carl] = await company.sandbox.invoices(company.customers["carl"])
    [offender] = _offenders(report, periods)
    assert offender.startswith(f"{carl.line_items[0].id} bills {carl.line_items[0].item_id} from")
    assert {each.split("/")[-1].split()[0] for each in _offenders(report, ANSWERED)} == {
        "CreateCustomer",
        "CreateSubscription",
    }


async def test_metering(company: Company) -> None:
    """What was used since is gone, and named with every line that billed it. Senders send it again: then nothing is."""
    backup = await back_up(company.processes, "metering")
    before = await company.go_on()
    await put_back(company.processes, backup)
    await company.hear_again(backup, "subscriptions")

    report = await company.report()
    acknowledged, counted = (
        "every acknowledged usage event is stored exactly once",
        "every billed quantity is counted anew",
    )
    assert report.broken == (acknowledged, counted), str(report)
    assert [each.partition(" was")[0] for each in _offenders(report, acknowledged)] == [
        f"test {event.id}" for event in company.used
    ]
    of_february = {
        line.id
        for invoice in await company.sandbox.invoices()
        for line in invoice.line_items
        if line.HasField("usage") and line.period.start_time.ToDatetime(UTC).month == 2
    }
    assert {each.partition(":")[0] for each in _offenders(report, counted)} == of_february

    await company.sandbox.travel(MARCH_3)  # a clock of the backup takes in nothing of later
    await company.send_again()
    await company.sandbox.travel(APRIL_3)
    after = await company.books()
    assert not before.lines - after.lines
    assert {(told[2], told[3]) for told in after.lines - before.lines} == {("OWED", "0")}
    report = await company.report()
    assert report.content, str(report)


async def test_payments(company: Company) -> None:
    """What was collected since is collected no more; it stays with the gateway, and is named."""
    backup = await back_up(company.processes, "payments")
    before = await company.go_on()
    await put_back(company.processes, backup)
    await company.hear_again(backup, "invoicing")
    await company.sandbox.travel(MARCH_5)
    assert await company.books() == before

    report = await company.report()
    record = "the gateway's record agrees one to one"
    assert report.broken == ("payments agree with invoices", record, TAKEN_IN, ANSWERED), str(report)
    assert {each.partition(" at the gateway")[0].split()[-1] for each in _offenders(report, record)} == {"CAPTURED"}
    assert len(_offenders(report, record)) == 4


def _told(line: LineItem) -> tuple[str, ...]:
    kind = LineItem.Kind.Name(line.kind)
    # Of what somebody wrote only the amount tells anything.
    start = line.period.start_time.ToDatetime(UTC).isoformat() if line.item_id else ""
    return line.item_id, start, kind, str(line.correction), text(line.amount)


def _offenders(report: Report, name: str) -> list[str]:
    [finding] = [each for each in report.findings if each.name == name]
    assert len(finding.offenders) == finding.offending, "all of them are named"
    return list(finding.offenders)
