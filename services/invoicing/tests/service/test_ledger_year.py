"""A year of books, proven by beancount: its own arithmetic finds the balances that ours tells, on every day asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from common import wire
from common.caller import Role
from common.testing import Suite
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import ledger_service_pb2 as pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction, SubscriptionChange
from tests.support.books import complaints, exported
from tools import books
from tools.cli import app
from tools.client import Client
from tools.commands import console

from .conftest import Business, decimal, flat, per_unit, utc
from .test_ledger import YEARLY, a_year_and_a_payment

pytestmark = pytest.mark.patched_when_used

END = date(2026, 12, 31)
MONTHLY, QUARTERLY = (
    price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=months) for months in (1, 3)
)


@pytest_asyncio.fixture
async def client(business: Business) -> AsyncIterator[Client]:
    suite: Suite = business.suite
    async with Client(suite.calling_addresses, suite.keys.token(seller_id=suite.seller, role=Role.VIEWER)) as client:
        yield client


async def lived(business: Business) -> None:
    """Seats, licences and usage in three currencies and zones; changes and cancellations with credit; payments."""
    await business.meter("kwh")
    for currency, zone, fee, every in (
        ("GBP", "Europe/London", "9.99", MONTHLY),
        ("JPY", "Asia/Tokyo", "999", QUARTERLY),
        ("KWD", "America/New_York", "3.333", QUARTERLY),
    ):
        seats = await business.plan(
            await business.price("Seats", currency=currency, billing_interval=every, **per_unit(fee))
        )
        licence = await business.plan(
            await business.price("Licence", currency=currency, billing_interval=YEARLY, **flat("1000"))
        )
        power = await business.plan(
            await business.price("Power", currency=currency, meter="kwh", billing_interval=every, **per_unit("0.17"))
        )
        customer = await business.customer(currency=currency, time_zone=zone)
        of_seats = await business.subscribe(customer, seats, quantities=["7"], billing_day=15)
        of_licence = await business.subscribe(customer, licence)
        await business.subscribe(customer, power)
        other = await business.customer(currency=currency, time_zone=zone)
        await business.subscribe(other, licence, billing_day=31)
        await business.use(customer, "kwh", "1234.5", await business.now())
        fewer = SubscriptionAction.SetQuantity(item_id=of_seats.items[0].id, quantity=decimal("3"))
        await business.suite.travel(max(await business.now(), utc(2026, 5, 20)))
        await business.subscriptions.ChangeSubscription(
            subscriptions.ChangeSubscriptionRequest(
                id=of_seats.id,
                actions=[SubscriptionAction(set_quantity=fewer)],
                timing=SubscriptionChange.NOW,
                unused=SubscriptionChange.CREDIT,
            )
        )
        await business.subscriptions.CancelSubscription(
            subscriptions.CancelSubscriptionRequest(
                id=of_licence.id,
                timing=subscriptions.CancelSubscriptionRequest.NOW,
                unused=SubscriptionChange.CREDIT,
            )
        )
        await business.suite.quiet()
    await business.suite.travel(utc(2026, 11, 20))
    for nth, invoice in enumerate(await business.invoices()):
        if nth % 3 and invoice.amount_remaining.units:
            await business.announce_payment(invoice, payment_id=f"pay_{nth}")
    await business.suite.travel(utc(2027, 1, 10))


async def test_beancount_accepts_a_year_and_a_half_of_one(business: Business, client: Client, tmp_path: Path) -> None:
    """From the beginning, from the middle with what was held by then, and into the future that is posted already."""
    await lived(business)
    for start, end in ((None, END), (date(2026, 7, 1), END), (None, date(2027, 12, 31)), (END, END)):
        path = tmp_path / f"{start}-{end}.beancount"
        text = await exported(client, path, start=start, end=end)
        assert await complaints(path) == ""
        trial = await client.ledger.GetTrialBalance(pb.GetTrialBalanceRequest(as_of_date=wire.date(end)))
        assert text.count(" balance ") == len(trial.balances) >= 4 * 3
        assert {each.balance.currency_code for each in trial.balances} == {"GBP", "JPY", "KWD"}
        if start is not None:
            assert len(re.findall("Opening balances", text)) == 1
            assert min(re.findall(r"^\d{4}-\d\d-\d\d", text, flags=re.MULTILINE)) >= start.isoformat()
    whole = (tmp_path / f"None-{END}.beancount").read_text()
    assert len(re.findall(r"^\d{4}-\d\d-\d\d \* ", whole, flags=re.MULTILINE)) > 100
    assert {"INVOICE ISSUED", "INVOICE RECOGNIZED", "PAYMENT PAID"} <= set(re.findall(r"[A-Z]+ [A-Z]{4,}", whole))


async def test_beancount_does_not_accept_what_was_corrupted(business: Business, client: Client, tmp_path: Path) -> None:
    """A posting of another amount, an entry left out or too many, a balance that is off by the least there is."""
    await a_year_and_a_payment(business)
    path = tmp_path / "books.beancount"
    text = await exported(client, path, end=END)
    assert await complaints(path) == ""
    entries = re.findall(r"(?:^\d{4}-\d\d-\d\d \* .*\n(?:  .*\n)+)", text, flags=re.MULTILINE)
    entry = next(each for each in entries if "ISSUED" in each and " GBP" in each)
    [posting, *_] = re.findall(r"  Assets:Receivable:\S+  (\d+\.\d\d) GBP", entry)
    assert "balance Assets:Receivable  265.00 ~ 0 GBP" in text
    corrupted = {
        "does not balance": text.replace(entry, entry.replace(f"{posting} GBP", "0.01 GBP"), 1),
        "Balance failed": text.replace(entry, "", 1),
        "Balance failed ": text + entry,
        "Balance failed  ": text.replace("  265.00 ~ 0 GBP", "  265.01 ~ 0 GBP", 1),
    }
    for complaint, changed in corrupted.items():
        assert changed != text
        path.write_text(changed)
        assert complaint.strip() in await complaints(path)


async def test_books_that_are_written_to_while_they_are_read_are_not_told(
    business: Business, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of before and a balance of after would not agree: better to say so than to let somebody search."""
    await a_year_and_a_payment(business)
    lines = books.beancount(client, start=None, end=date(2027, 1, 31))
    assert (await anext(lines)).startswith("; The books")
    invoice = next(each for each in await business.invoices() if each.amount_remaining.units)
    told = [await anext(lines) for _ in range(3)]
    await business.pay(invoice, payment_id="pay_late")
    assert any(" open " in line for line in told)
    with pytest.raises(books.BooksMoved, match="Assets:Cash, Assets:Receivable"):
        _ = [line async for line in lines]


# The commands


async def typed(business: Business, *arguments: str) -> Result:
    """As somebody types it at the seller's desk."""
    command = ["ledger", *arguments, "--seller", business.suite.seller]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


@pytest.fixture
def desk(business: Business, monkeypatch: pytest.MonkeyPatch) -> Business:
    class Desk:
        keys = business.suite.keys

        def addresses(self) -> dict[str, str]:
            return business.suite.calling_addresses

    monkeypatch.setattr(console, "suite", lambda _: Desk())
    monkeypatch.setattr(console.out, "width", 200)
    return business


async def test_the_books_are_printed_for_beancount(desk: Business, tmp_path: Path) -> None:
    """What is printed is the file; without a day it goes as far as today, which in a sandbox is its own."""
    await a_year_and_a_payment(desk)
    printed = await typed(desk, "export", "--from", "2026-02-01")
    assert printed.exit_code == 0, printed.output
    path = tmp_path / "books.beancount"
    path.write_text(printed.stdout)
    assert await complaints(path) == ""
    assert "2026-02-11 balance Assets:Receivable  265.00 ~ 0 GBP" in printed.stdout
    assert '2026-02-01 * "Opening balances"' in printed.stdout


async def test_trial_balance_and_statement_are_told_in_tables(desk: Business) -> None:
    """A row an account, and a row a movement between two balances."""
    invoice = await a_year_and_a_payment(desk)
    trial = await typed(desk, "trial-balance", "--as-of", "2026-01-31")
    assert trial.exit_code == 0, trial.output
    assert [line.split() for line in trial.stdout.splitlines()[3:]] == [
        ["RECEIVABLE", "│", "GBP", "│", "365.00", "│", "0.00", "│", "365.00"],
        ["REVENUE", "│", "GBP", "│", "0.00", "│", "31.00", "│", "-31.00"],
        ["DEFERRED_REVENUE", "│", "GBP", "│", "30.00", "│", "364.00", "│", "-334.00"],
    ]
    statement = await typed(desk, "statement", invoice.customer_id, "--currency", "GBP", "--from", "2026-02-01")
    assert statement.exit_code == 0, statement.output
    assert [line.replace("│", " ").split() for line in statement.stdout.splitlines()[3:]] == [
        ["before", "BALANCE", "365.00", "0.00"],
        ["2026-02-10", "PAID", invoice.number, "-100.00", "265.00", "0.00"],
        ["2026-02-10", "BALANCE", "265.00", "0.00"],
    ]


async def test_a_day_that_is_none_is_refused_at_once(desk: Business) -> None:
    """Before anything is asked."""
    for arguments, complaint in (
        (("export", "--to", "soon"), "--to must be a day"),
        (("export", "--from", "2026-02-01", "--to", "2026-01-31"), "--to must not be before --from"),
        (("trial-balance", "--as-of", "2026-02-30"), "--as-of must be a day"),
        (("statement", "cus_1", "--currency", "GBP", "--from", "1"), "--from must be a day"),
    ):
        refused = await typed(desk, *arguments)
        assert refused.exit_code == console.MISUSED
        assert complaint in refused.output
    nobody = await typed(desk, "statement", "cus_01h455vb4pex5vsknk084sn02q", "--currency", "GBP")
    assert (nobody.exit_code, "CUSTOMER_NOT_FOUND" in nobody.output) == (console.FAILED, True)
