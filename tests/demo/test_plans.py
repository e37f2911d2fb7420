"""The worked examples of packaging, played by six processes: each bills to the cent what its README states."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import pytest
import pytest_asyncio

from common import wire
from common.caller import Role
from common.ids import SellerId
from saldo.catalog.v1.catalog_service_pb2 import ListContractPricesRequest
from saldo.catalog.v1.coupon_service_pb2 import GetCouponRequest
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.invoicing.v1.rating_service_pb2 import CouponToApply, LineToDiscount, PreviewDiscountsRequest
from tools.catalogs import Difference, apply, read_document
from tools.check.records import Sources
from tools.check.report import Report
from tools.check.verification import verify
from tools.client import Client
from tools.demo import requests
from tools.demo.account import amount
from tools.demo.folder import fingerprint, read_folder
from tools.demo.performance import Outcome, perform
from tools.stack import CHECKOUT
from tools.suite import Suite, running_suite

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES: Final = CHECKOUT / "examples"
PLANS: Final = EXAMPLES / "plans"
FOLDERS: Final = sorted(path.name for path in PLANS.iterdir())
AT_ONCE: Final = 5
"""How many are played side by side: the services have other things to wait for than the processor."""
AGAIN: Final = ("contract", "usage-based")
"""Those that are played twice."""

INVOICES: Final = ["customer", "invoice date", "line", "quantity", "amount", "total"]
DISCOUNTS: Final = ["coupon", "Courses", "Mentoring", "in all"]


@dataclass(frozen=True, slots=True, order=True)
class Stated:
    """An invoice, as a table states it: its lines are sorted, each with its quantity and amount."""

    customer: str
    date: str
    lines: tuple[tuple[str, Decimal, Decimal], ...]
    total: Decimal


@dataclass(frozen=True)
class Played:
    """What came of every folder; a failure of one does not hide what came of the others."""

    suite: Suite
    first: dict[str, Outcome | BaseException]
    again: dict[str, Outcome]
    report: Report
    """Of everything together, at the end."""

    def outcome(self, name: str) -> Outcome:
        outcome = self.first[name]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played() -> AsyncIterator[Played]:
    """Of asynchronous tests only: for others it would be played once more, on another loop."""
    with running_suite() as suite:
        gate = asyncio.Semaphore(AT_ONCE)

        async def play(name: str) -> Outcome:
            folder = PLANS / name
            reading = read_folder(folder)
            assert reading.faults == ()
            async with gate:
                return await perform(lambda _endpoint: suite, reading.example, fingerprint(folder), lambda _: None)

        played = await asyncio.gather(*(play(name) for name in FOLDERS), return_exceptions=True)
        first = dict(zip(FOLDERS, played, strict=True))
        again = {name: await play(name) for name in AGAIN if not isinstance(first[name], BaseException)}
        report = await verify(Sources(databases=suite.database_urls()), patience_seconds=20.0)
        yield Played(suite, first, again, report)


@pytest.mark.parametrize("name", FOLDERS)
async def test_the_invoices_are_those_that_the_readme_states(played: Played, name: str) -> None:
    """Every invoice, every line, every cent, and nothing else; all of it paid."""
    outcome = played.outcome(name)
    account = outcome.account
    assert sorted(_billed(invoice, account.customers) for invoice in account.invoices) == sorted(_stated(name))
    assert {invoice.total.currency_code for invoice in account.invoices} == {"EUR"}
    assert {invoice.state for invoice in account.invoices} == {Invoice.PAID}


@pytest.mark.parametrize("name", FOLDERS)
async def test_every_invariant_holds(played: Played, name: str) -> None:
    """Every usage event was taken, and the independent rater comes to the same amounts."""
    outcome = played.outcome(name)
    assert outcome.report.content, str(outcome.report)
    assert (outcome.sent.rejected, outcome.unsent) == (0, 0), outcome.sent.rejections


async def test_all_of_them_together_leave_books_that_are_right(played: Played) -> None:
    """What `saldo check` says about everything in the suite."""
    assert played.report.content, str(played.report)


@pytest.mark.parametrize("name", AGAIN)
async def test_playing_again_changes_nothing(played: Played, name: str) -> None:
    """The same seller, the same invoices, and every usage event known."""
    first, again = played.outcome(name), played.again[name]
    assert again.standing.seller_id == first.standing.seller_id
    assert again.account == first.account
    assert again.sent.accepted == again.sent.rejected == 0
    assert again.sent.duplicate == first.sent.accepted


async def test_every_catalog_can_be_applied_and_then_changes_nothing(played: Played) -> None:
    """One command makes the packaging of an example somebody's own; typed again, it does no harm."""
    for name in FOLDERS:
        seller_id = await _new_seller(played.suite, name)
        async with _client(played.suite, seller_id) as client:
            document = read_document((PLANS / name / "catalog.yaml").read_text(), "catalog.yaml")
            first: list[Difference] = await apply(client, document, validate_only=False)
            assert all(each.style == "green" for each in first), name
            assert len(first) >= 3, name
            assert await apply(client, document, validate_only=False) == [], name


async def test_the_command_says_that_there_is_nothing_to_change(played: Played) -> None:
    """As it is typed, for a seller whose catalog was applied by the demo."""
    folder = played.suite.folder
    document = PLANS / "hybrid" / "catalog.yaml"
    seller_id = played.outcome("hybrid").standing.seller_id
    command = [sys.executable, "-c", "from tools.cli import app; app()", "--folder", str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command,
        *("catalog", "apply", str(document), "--seller", seller_id),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    assert told.decode().strip() == "nothing differs"


async def test_the_negotiated_price_tells_whose_it_is_and_what_it_replaces(played: Played) -> None:
    """Who pays what instead of what must be told years later."""
    outcome = played.outcome("contract")
    async with _client(played.suite, outcome.standing.seller_id) as client:
        (price,) = (await client.catalog.ListContractPrices(ListContractPricesRequest())).prices
    assert outcome.account.customers[price.customer_id] == "by-contract"
    billed = {
        outcome.account.customers[invoice.customer_id]: line.price_id
        for invoice in outcome.account.invoices
        for line in invoice.line_items
    }
    assert billed == {"by-contract": price.id, "by-the-list": price.list_price_id}


async def test_the_discounts_are_those_that_the_readme_states(played: Played) -> None:
    """What the coupons of the catalog would take off the lines of an invoice that was really made."""
    outcome = played.outcome("coupons")
    before, *coupons, left = (
        tuple(Decimal(number) for number in numbers) for _, *numbers in _table("coupons", DISCOUNTS)
    )
    codes = [code for code, *_ in _table("coupons", DISCOUNTS)][1:-1]
    lines = {line.description: line.amount for line in outcome.account.invoices[0].line_items}
    async with _client(played.suite, outcome.standing.seller_id) as client:
        redeemed = [await client.coupons.GetCoupon(GetCouponRequest(code=code)) for code in codes]
        answer = await client.rating.PreviewDiscounts(
            PreviewDiscountsRequest(
                lines=[
                    LineToDiscount(amount=lines[name], product=name.lower(), plan="learner") for name in DISCOUNTS[1:-1]
                ],
                coupons=[CouponToApply(coupon=coupon) for coupon in redeemed],
            )
        )
    found = [
        (*(amount(each).amount for each in discount.line_amounts), amount(discount.amount).amount)
        for discount in answer.discounts
    ]
    remaining = [amount(each).amount for each in answer.remaining_amounts]
    assert before == (*(amount(lines[name]).amount for name in DISCOUNTS[1:-1]), Decimal("99.99"))
    assert found == coupons
    assert (*remaining, sum(remaining)) == left


def test_every_example_is_in_the_list() -> None:
    """One that nobody finds is none."""
    linked = re.findall(r"\]\(plans/([^/)]+)/README\.md\)", (EXAMPLES / "README.md").read_text())
    assert sorted(linked) == FOLDERS


def _billed(invoice: Invoice, customers: Mapping[str, str]) -> Stated:
    date = invoice.invoice_date
    lines = (
        (line.description, wire.parse_decimal(line.quantity, field="quantity"), amount(line.amount).amount)
        for line in invoice.line_items
    )
    return Stated(
        customer=customers[invoice.customer_id],
        date=f"{date.year}-{date.month:02}-{date.day:02}",
        lines=tuple(sorted(lines)),
        total=amount(invoice.total).amount,
    )


def _stated(name: str) -> Iterator[Stated]:
    """Of several lines of an invoice the first one says whose it is, of which day, and the total."""
    invoices: list[tuple[str, str, Decimal, list[tuple[str, Decimal, Decimal]]]] = []
    for customer, date, line, quantity, cost, total in _table(name, INVOICES):
        if customer:
            invoices.append((customer, date, Decimal(total), []))
        invoices[-1][3].append((line, Decimal(quantity), Decimal(cost)))
    for customer, date, due, lines in invoices:
        yield Stated(customer, date, tuple(sorted(lines)), due)


def _table(name: str, header: list[str]) -> list[list[str]]:
    """The rows of the one table in a README that has this header."""
    found: list[list[str]] = []
    inside = False
    for line in (PLANS / name / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if inside and cells:
            found.append(cells)
        inside = bool(cells) and (inside or cells == header)
    rule, *rows = found
    assert all(set(cell) <= set("-:") for cell in rule)
    assert rows, f"{name} states nothing"
    return rows


async def _new_seller(suite: Suite, name: str) -> str:
    example = read_folder(PLANS / name).example
    token = suite.keys.token(role=Role.PLATFORM, seller_id=None)
    async with Client(suite.addresses(), token) as platform:
        request = requests.create_seller(example.seller, start=datetime(2026, 1, 1, tzinfo=UTC), key=f"apply-{name}")
        seller = await platform.catalog.CreateSeller(request)
    return str(seller.id)


def _client(suite: Suite, seller_id: str) -> Client:
    token = suite.keys.token(role=Role.OWNER, seller_id=SellerId(seller_id))
    return Client(suite.addresses(), token)
