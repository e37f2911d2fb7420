"""What would be wrong with what customers have to their credit, and what must be named because of it."""

from __future__ import annotations

from tests.check.corruptions import ANNOUNCED, Corruption, one

ADD_UP = "movements of credit add up, never below nothing"
TAKEN_UP = "invoices took up the credit that was moved"
IN_SCOPE = "credit is used in its time and for what it was given"
SET_ASIDE = "reservations of credit agree with movements"
PAID_FOR = "what was paid too much, or for credit, is credit"
BOOKED = "credit is in the books as it moved"
HANDED_ON = "credit of who was merged is the other one's"
MANUAL = "source = 'MANUAL' AND revoked_time IS NULL"
APPLIED = "id IN (SELECT grant_id FROM credit_movements WHERE kind = 'APPLIED')"

CREDIT_CORRUPTIONS = {
    "more credit is left than there was": Corruption(
        "invoicing", (one("credit_grants", "remaining_minor = remaining_minor + 1", "expire_time IS NULL"),), (ADD_UP,)
    ),
    "less credit is reserved than was set aside": Corruption(
        "invoicing", (one("credit_grants", "reserved_minor = reserved_minor - 1"),), (ADD_UP,)
    ),
    "somebody used more credit than there was": Corruption(
        "invoicing",
        (
            "CREATE TEMPORARY TABLE gone AS SELECT * FROM credit_movements WHERE kind = 'REVOKED'",
            "UPDATE gone SET id = 'again', ordinal = ordinal + 1, remaining_minor = remaining_minor - amount_minor",
            "INSERT INTO credit_movements SELECT * FROM gone",
            "UPDATE credit_grants SET revision = revision + 1, remaining_minor = remaining_minor - amount_minor"
            " WHERE id IN (SELECT grant_id FROM gone)",
        ),
        (ADD_UP, BOOKED),
    ),
    "credit of a merged customer went to nobody": Corruption(
        "invoicing", ("UPDATE credit_movements SET document_id = 'grant_x' WHERE kind = 'MOVED'",), (HANDED_ON,)
    ),
    "credit was left to a customer that was merged": Corruption(
        "invoicing",
        (
            "INSERT INTO merged_customers SELECT seller_id, customer_id, 'cus_x', create_time FROM credit_grants"
            " WHERE remaining_minor > reserved_minor AND expire_time IS NULL LIMIT 1",
        ),
        (HANDED_ON,),
    ),
    "a movement of credit was lost": Corruption(
        "invoicing", ("DELETE FROM credit_movements WHERE kind = 'APPLIED'",), (ADD_UP, TAKEN_UP)
    ),
    "an invoice took up another's credit": Corruption(
        "invoicing", (one("credit_movements", "document_id = 'inv_x'", "kind = 'APPLIED'"),), (TAKEN_UP,)
    ),
    "credit was used before its time": Corruption(
        "invoicing",
        ("UPDATE credit_movements SET create_time = create_time - interval '1 year' WHERE kind = 'RESERVED'",),
        (IN_SCOPE,),
    ),
    "credit was used when it was over": Corruption(
        "invoicing",
        (
            "UPDATE credit_movements SET create_time = '2100-01-01' WHERE kind = 'APPLIED'",
            f"UPDATE credit_grants SET expire_time = '2099-01-01' WHERE {APPLIED}",
        ),
        (IN_SCOPE,),
    ),
    "credit was used for something else": Corruption(
        "invoicing",
        (f"""UPDATE credit_grants SET scope = '{{"meters": ["else"]}}' WHERE {APPLIED}""",),
        (IN_SCOPE,),
    ),
    "a reservation says that more was used": Corruption(
        "invoicing",
        (one("credit_reservations", "committed_minor = committed_minor + 1", "state = 'COMMITTED'"),),
        (SET_ASIDE,),
    ),
    "a reservation was forgotten": Corruption(
        "invoicing", (one("credit_reservations", "id = 'cres_x'", "state = 'RELEASED'"),), (SET_ASIDE,)
    ),
    "a top-up was paid for and not given": Corruption(
        "invoicing",
        ("UPDATE credit_grants SET source = 'MANUAL', document_id = '' WHERE source = 'TOP_UP'",),
        (PAID_FOR, BOOKED),
    ),
    "credit was given for what nobody paid": Corruption(
        "invoicing",
        (
            one(
                "credit_grants",
                "source = 'OVERPAYMENT', document_id = 'pay_x'",
                MANUAL,
            ),
        ),
        (PAID_FOR,),
    ),
    "credit that expired stays in the books": Corruption(
        "invoicing", ("DELETE FROM ledger_entries WHERE event = 'CREDIT_EXPIRED'",), (BOOKED,)
    ),
    "credit that was used is in the books twice": Corruption(
        "invoicing",
        (
            "CREATE TEMPORARY TABLE again AS SELECT * FROM ledger_entries WHERE event = 'CREDIT_COMMITTED'",
            "UPDATE again SET id = 'again', ordinal = 99",
            "INSERT INTO ledger_entries SELECT * FROM again",
        ),
        (BOOKED,),
    ),
    "nobody was told that credit is low": Corruption(
        "invoicing", ("UPDATE credit_holdings SET low_count = low_count + 1",), (ANNOUNCED,)
    ),
    "nobody was told that credit expired": Corruption(
        "invoicing", ("UPDATE credit_grants SET expire_count = 0 WHERE expire_count = 1",), (ANNOUNCED,)
    ),
}
