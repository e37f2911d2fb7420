"""What would be wrong with what is billed before its period ends, and what must be named because of it."""

from __future__ import annotations

from tests.check.corruptions import AMOUNTS, ISSUED, PERIODS, STEPS, TOTALS, Corruption, one

REACHED = "what was billed early had reached its threshold"
NOTHING_LEFT = "nothing stays unbilled that has reached its threshold"
REST = "description LIKE '%– rest of the period'"

SPEND_CORRUPTIONS = {
    "something was billed early below its threshold": Corruption(
        "invoicing", (one("early_lines", "spend_minor = 999"),), (REACHED,)
    ),
    "something was billed early for a threshold that counted no more": Corruption(
        "invoicing", (one("spend_thresholds", "end_time = create_time"),), (REACHED,)
    ),
    "something was billed early for somebody else's threshold": Corruption(
        "invoicing",
        (one("spend_thresholds", "scope_id = (SELECT min(customer_id) FROM billing WHERE customer_id <> scope_id)"),),
        (REACHED,),
    ),
    "what was billed early is on no record": Corruption(
        "invoicing", ("DELETE FROM early_lines WHERE bill_time > (SELECT max(time) FROM clocks)",), (PERIODS,)
    ),
    "the rest of a period does not take off what was billed early": Corruption(
        "invoicing",
        (one("invoice_lines", "amount_minor = amount_minor + 2000, exact_amount = exact_amount + 20", REST),),
        (AMOUNTS, STEPS, TOTALS, ISSUED),
    ),
    "what has reached its threshold is left": Corruption(
        "invoicing",
        ("UPDATE spend_thresholds SET amount_minor = 200 WHERE end_time IS NULL",),
        (NOTHING_LEFT,),
    ),
}
