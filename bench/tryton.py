"""Bills customers by Tryton's subscriptions: what `bench.billrun --peer` runs beside Saldo, on the same PostgreSQL, in
an environment of its own (requirements/peer.txt). Prints one line of JSON.

Each customer owes a monthly fee and three things that were used, on one invoice that is posted: numbered, due, and in
the books. Tryton has neither tiers nor meters: here each of the three is a quantity at one price, which is less to do.
It does what its scheduler does, consumption and invoices of all at once; and posts some at a time, which is faster than
all at once, with the locks taken beforehand for which it would otherwise begin again.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

DATABASE: Final = "peer"
os.environ["DB_NAME"] = DATABASE  # read when Tryton is imported
os.environ["TRYTOND_DATABASE_URI"] = os.environ["PEER_URL"]

from proteus import Model  # noqa: E402
from trytond.modules.account.tests.tools import create_chart, create_fiscalyear, get_accounts  # noqa: E402
from trytond.modules.account_invoice.tests.tools import set_fiscalyear_invoice_sequences  # noqa: E402
from trytond.modules.company.tests.tools import create_company, get_company  # noqa: E402
from trytond.pool import Pool  # noqa: E402
from trytond.tests.tools import activate_modules  # noqa: E402
from trytond.transaction import Transaction, TransactionError  # noqa: E402

PRICES: Final = {
    "Fee": Decimal("9.99"),
    "Calls": Decimal("0.10"),
    "Gigabytes": Decimal("0.20"),
    "Minutes": Decimal("0.05"),
}
USED: Final = 30
OWED: Final = PRICES["Fee"] + USED * (sum(PRICES.values()) - PRICES["Fee"])
START: Final = datetime.date(2026, 1, 1)
LAST: Final = datetime.date(2026, 1, 31)
BILL_DATE: Final = datetime.date(2026, 2, 1)
YEAR: Final = (datetime.date(2026, 1, 1), datetime.date(2026, 12, 31))
POSTED_TOGETHER: Final = 50
HANDFULS_MAX: Final = 1_000
TRIES_MAX: Final = 5
ADMINISTRATOR: Final = 1


class Peer:
    """A company with a price for each thing, as Tryton's own tests make one."""

    def __init__(self) -> None:
        activate_modules("sale_subscription", create_company, create_chart)
        set_fiscalyear_invoice_sequences(create_fiscalyear(today=YEAR)).click("create_period")
        category = Model.get("product.category")(name="Sold", accounting=True)
        category.account_revenue = get_accounts()["revenue"]
        category.save()
        [unit] = Model.get("product.uom").find([("name", "=", "Unit")])
        monthly = Model.get("sale.subscription.recurrence.rule.set")(name="Monthly")
        monthly.rules[0].freq, monthly.rules[0].interval = "monthly", 1
        monthly.save()
        term = Model.get("account.invoice.payment_term")(name="14 days")
        term.lines.new().relativedeltas.new(days=14)
        term.save()
        self._lines: list[dict[str, object]] = []
        for name, price in PRICES.items():
            template = Model.get("product.template")(name=name, default_uom=unit, type="service", list_price=price)
            template.account_category = category
            template.save()
            service = Model.get("sale.subscription.service")(product=template.products[0])
            service.consumption_recurrence = monthly
            service.save()
            self._lines.append(
                {
                    "service": service.id,
                    "quantity": 1 if name == "Fee" else USED,
                    "unit": unit.id,
                    "unit_price": price,
                    "start_date": START,
                    "consumption_recurrence": monthly.id,
                }
            )
        company = get_company()
        self._terms = {
            "company": company.id,
            "currency": company.currency.id,
            "start_date": START,
            "invoice_start_date": BILL_DATE,
            "invoice_recurrence": monthly.id,
            "payment_term": term.id,
        }
        self._pool = Pool(DATABASE)
        self._held: dict[str, Any] = {}  # Any: as Tryton names what is locked

    def subscribe(self, count: int) -> None:
        """So many customers, who owe for the month."""
        party, subscription = self._pool.get("party.party"), self._pool.get("sale.subscription")

        def work() -> None:
            address = [("create", [{"street": "1 Main Street", "city": "Springfield"}])]
            parties = party.create([{"name": f"Customer {n}", "addresses": address} for n in range(count)])
            lines = [("create", self._lines)]
            made = subscription.create(
                [
                    {**self._terms, "party": each.id, "invoice_address": each.addresses[0].id, "lines": lines}
                    for each in parties
                ]
            )
            subscription.quote(made)
            subscription.run(made)

        self._transact(work)

    def bill(self, *, at: datetime.date, last: datetime.date) -> None:
        """Invoice what is due, and post it."""
        line, subscription = self._pool.get("sale.subscription.line"), self._pool.get("sale.subscription")
        self._transact(lambda: line.generate_consumption(last))
        self._transact(lambda: subscription.generate_invoice(at))
        for _ in range(HANDFULS_MAX):
            if not self._transact(self._post_some):
                return
        raise RuntimeError(f"there are drafts left after {HANDFULS_MAX} times")

    def _post_some(self) -> int:
        invoice = self._pool.get("account.invoice")
        drafts = invoice.search([("state", "=", "draft")], limit=POSTED_TOGETHER)
        invoice.post(drafts)
        return len(drafts)

    def verdict(self) -> dict[str, object]:
        invoice = self._pool.get("account.invoice")
        with self._transaction():
            posted = invoice.search([("state", "=", "posted")])
            owes = all(each.total_amount == OWED and len(each.lines) == len(PRICES) and each.move for each in posted)
            return {"invoices": len(posted), "checked": owes and len({each.number for each in posted}) == len(posted)}

    def _transaction(self) -> Any:  # Any: Tryton has no types
        context = {"company": self._terms["company"], "_skip_warnings": True}
        return Transaction().start(DATABASE, ADMINISTRATOR, context=context, **self._held)

    def _transact(self, work: Callable[[], Any]) -> Any:  # Any: as above
        """As its dispatcher does: what it finds that it has to lock it locks from the beginning, the next time."""
        for _ in range(TRIES_MAX):
            with self._transaction() as transaction:
                try:
                    answer = work()
                    transaction.commit()
                    return answer
                except TransactionError as error:
                    transaction.rollback()
                    error.fix(self._held)
        raise RuntimeError(f"not within {TRIES_MAX} tries")


def main(count: int) -> None:
    peer = Peer()
    # Of the first of them it learns what has to be locked.
    peer.subscribe(1)
    peer.bill(at=BILL_DATE, last=LAST)
    peer.subscribe(count)
    began = time.perf_counter()
    peer.bill(at=BILL_DATE, last=LAST)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, **peer.verdict()}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
