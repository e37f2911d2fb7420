"""A folder as somebody else would write it: other currencies, other rhythms, changes, mistakes corrected later."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from common.caller import Role
from common.ids import SellerId
from common.testing import SERVICES, Suite
from tools.check.journal import Journal
from tools.check.records import Sources
from tools.check.verification import verify
from tools.client import Client
from tools.demo import requests
from tools.demo.account import Account, amount, ask_for_account
from tools.demo.example import Story
from tools.demo.folder import read_folder
from tools.demo.loading import load
from tools.demo.sending import Sent
from tools.demo.timeline import end_of, play

SELLER = "display_name: Kiosk\naddress: {region_code: JP}\n"
CATALOG = """\
products: [{code: calls, display_name: Calls}, {code: rent, display_name: Rent}, {code: fee, display_name: Fee}]
meters: [{code: calls, aggregation: COUNT}]
plans:
  - code: weekly
    display_name: Weekly
    prices:
      - {code: rent, product: rent, currency: JPY, every: WEEK, timing: IN_ADVANCE, per_unit: 333.5}
      - {code: calls, product: calls, currency: JPY, every: {unit: WEEK, count: 2}, meter: calls, per_unit: 0.5}
  - code: monthly
    display_name: Monthly
    prices:
      - {code: fee, product: fee, currency: KWD, flat: 1.2345}
"""
CUSTOMERS = """\
customers:
  - id: kiosk
    display_name: Kiosk
    currency: JPY
    time_zone: Asia/Tokyo
    payment_methods:
      - {token: "sim:decline=expired_card"}
      - {token: "sim:ok", at: 2026-03-20}
    subscriptions:
      - plan: weekly
        start: 2026-03-02T09:00:00+09:00
        items: [{price: rent, quantity: 3}, {price: calls}]
        cancel: {at: 2026-04-08, timing: NOW}
  - id: bank
    display_name: Bank
    currency: KWD
    time_zone: Asia/Kuwait
    collection_method: SEND_INVOICE
    net_terms_days: 30
    subscriptions: [{plan: monthly, start: 2026-02-28}]
"""
STORY = "start: 2026-02-28\ntime_zone: Asia/Tokyo\nmonths: 2\nclosing_days: 10\n"
ROWS = [f"kiosk;calls;2026-03-{day:02}T10:00:00+09:00;c{day}" for day in range(2, 29)]


def write(folder: Path, *, rows: list[str]) -> Path:
    (folder / "usage").mkdir(exist_ok=True)
    files = {
        "seller.yaml": SELLER,
        "catalog.yaml": CATALOG,
        "customers.yaml": CUSTOMERS,
        "story.yaml": STORY,
        "usage/calls.csv": "\r\n".join(["customer;meter;time;id", *rows]),
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


class Player:
    """Plays folders in a suite within this process."""

    def __init__(self, suite: Suite, journal: Path) -> None:
        self._suite = suite
        self._journal = journal
        self.seller_id = ""

    async def play(self, folder: Path, *, key: str = "seller") -> tuple[Account, Sent]:
        example = read_folder(folder).example
        addresses = {name: service.address for name, service in self._suite.running.items()}
        async with Client(addresses, self._suite.keys.token(role=Role.PLATFORM, seller_id=None)) as platform:
            seller = await platform.catalog.CreateSeller(
                requests.create_seller(example.seller, start=example.story.start, key=key)
            )
        self.seller_id = seller.id
        token = self._suite.keys.token(role=Role.OWNER, seller_id=SellerId(seller.id))
        with Journal(self._journal, seller_id=seller.id) as journal:
            async with Client(addresses, token, record=journal.record) as client:
                loaded = await load(client, example, lambda _what: None)
                outgoing = await play(client, example, loaded, lambda _time, _sent: None)
                account = await ask_for_account(client, customers=loaded.customers)
        return account, outgoing.sent

    async def verify(self) -> None:
        sources = Sources(databases=self._suite.urls, journals=[self._journal], seller_id=self.seller_id)
        report = await verify(sources, patience_seconds=5)
        assert report.content, str(report)


@pytest.fixture
def player(suite: Suite, tmp_path: Path) -> Player:
    return Player(suite, tmp_path / "journal.jsonl")


async def test_a_folder_of_another_kind_comes_out_exactly(suite: Suite, player: Player, tmp_path: Path) -> None:
    """Yen have no decimals and dinars three; weeks begin on the day of the start; a new card pays in the end."""
    await suite.start(*SERVICES)
    account, sent = await player.play(write(tmp_path, rows=ROWS))
    await player.verify()
    assert (sent.accepted, sent.rejected) == (len(ROWS), 0)
    ids = {name: customer_id for customer_id, name in account.customers.items()}
    kiosk = [invoice for invoice in account.invoices if invoice.customer_id == ids["kiosk"]]
    lines = [
        (line.description, line.quantity.value, str(amount(line.amount))) for each in kiosk for line in each.line_items
    ]
    # Six weeks begin before 8 April, at 1000.5 yen each; two fortnights have 14 and 13 calls, the rest none.
    assert [line for line in lines if line[0] == "Rent"] == [("Rent", "3", "1001 JPY")] * 6
    assert [line for line in lines if line[0] == "Calls"] == [
        ("Calls", "14", "7 JPY"),
        ("Calls", "13", "7 JPY"),
        ("Calls", "0", "0 JPY"),
    ]
    bank = [invoice for invoice in account.invoices if invoice.customer_id == ids["bank"]]
    assert [str(amount(invoice.total)) for invoice in bank] == ["1.235 KWD"] * 2


async def test_rows_that_are_corrected_later_are_billed_once(suite: Suite, player: Player, tmp_path: Path) -> None:
    """What was accepted the first time stays, exactly once; what was malformed comes late."""
    await suite.start(*SERVICES)
    broken = [row.replace("T10", " at 10") if n in (3, 20) else row for n, row in enumerate(ROWS)]
    folder = write(tmp_path, rows=broken)
    assert [fault.line for fault in read_folder(folder).faults] == [5, 22]
    _account, sent = await player.play(folder)
    assert (sent.accepted, sent.duplicate) == (len(ROWS) - 2, 0)
    before, sent = await player.play(folder)
    assert (sent.accepted, sent.duplicate) == (0, len(ROWS) - 2)
    after, sent = await player.play(write(tmp_path, rows=ROWS))
    assert (sent.accepted, sent.duplicate) == (2, len(ROWS) - 2)
    assert before.invoices == after.invoices  # what is final stays: the rows are a matter of the next invoice
    await player.verify()


def test_the_story_ends_with_its_last_month() -> None:
    """The 31st ends on the last day of a shorter month, in the story's own time zone."""

    def story(start: str, months: int) -> str:
        told = Story(
            start=datetime.fromisoformat(start), time_zone="Europe/London", months=months, closing_days=0, usage=()
        )
        return end_of(told).isoformat()

    assert story("2012-01-01T00:00:00+00:00", 6) == "2012-06-30T23:00:00+00:00"
    assert story("2012-01-31T00:00:00+00:00", 1) == "2012-02-29T00:00:00+00:00"
    assert story("2012-12-01T00:00:00+00:00", 1) == "2013-01-01T00:00:00+00:00"
