"""What would be wrong with terms, invoices, payments and events, and what must be named because of it."""

from __future__ import annotations

from dataclasses import dataclass

from tools.check.records import GATEWAY

PERIODS = "every period of every item is invoiced exactly once"
OVERLAP = "no two lines of an item overlap"
AMOUNTS = "every amount agrees with the independent rater"
NEGOTIATED = "a negotiated price is only on lines of its customer"
REDEEMED = "redemption counts equal redemptions and respect limits"
ONE_VERSION = "one version of a plan is sold at a time"
AS_PUBLISHED = "what is sold is what was published"
CREDITS = "every credit is taken off as soon as it can be"
TERMS = "the terms of every item follow from the log"
DECISIONS = "every decision about a subscription is announced"
LOGGED = (
    "INSERT INTO subscription_changes (seller_id, id, subscription_id, position, recorded_time, effective_time,"
    " revoked_time, decided_with, proration, unused, actions, after_months)"
    " SELECT seller_id, 'chg_logged', id, 99, create_time, create_time + interval '10 years', {revoked}, '', 'BY_DAY',"
    """ 'KEEP', '[{{"action": "SET_TERM", "term": null}}]'::jsonb, {after_months} FROM subscriptions LIMIT 1"""
)
"""A change that was agreed with a subscription and says nothing about what is billed."""
REVOCATIONS = "every revocation of a scheduled change is announced once"
RAMPS = "steps of ramps are counted from the beginning of billing"
ENDS = "the end of every billing period is announced once"
PAYER_SAID = "the payer of every customer is the last that was said"
PAYER_NAMED = "whom every subscription names follows from the log"
PAYER_THERE = "whoever pays for a living subscription can be billed"
WRITTEN = "what was written by hand costs what it says"
WAITING = "what was written by hand is billed at most once"
TAKEN_OFF = "no discount is more than there is to take off"
GIVEN = "what was given by hand was taken off"
COUPONS = "coupons discount what they were applied to, as far as they go"
COMMITTED = "commitments are trued up once, to the cent"
CORRECTIONS = "corrections of a period add up"
STEPS = "rating steps explain every amount"
TOTALS = "lines sum to totals"
PAYS = "every line is on an invoice of whoever pays for it"
TOGETHER = "lines that are together have the keys of their invoice"
NUMBERS = "invoice numbers are gapless and unique"
ISSUED = "issued documents say what they said, each linked to the one before"
SECTIONS = "the sections of an invoice are called what its lines are about"
BALANCED = "every entry of the books balances"
POSTED = "every document is in the books once"
OWED = "the books agree with what is owed for every invoice"
EARNED = "what was billed in advance is earned by days"
TAXES = "taxes are what the lines come to"
TAX_RULES = "every line is taxed by the rules of its time"
EXEMPT = "who is exempt is not taxed"
NOTE_SUMS = "credit notes are the sum of their lines"
NOTE_MOST = "no more is taken back than was billed"
NOTE_AGREES = "credit notes agree with invoices and refunds"
VOIDED = "void invoices are taken back in full"
NOTE_TOLD = "every credit note is announced"
NOT_TWICE = "no usage that was billed is given back twice"
FEE_NOT_TWICE = "nothing that was billed in advance is given back twice"
PAID = "paid and remaining make the total"
TOLD = "consolidation IS NOT NULL"
"""Of invoices that say why they are together: what somebody wrote, or bought, does not."""
SECTIONED = "number <> '' AND section_names <> '{}'"
UNNUMBERED = "number IS NULL AND state <> 'DRAFT'"
PAYMENTS = "payments agree with invoices"
TOLD_OF = "invoices are what was announced of them"
ATTEMPTS = "attempts agree with payments"
RECORD = "the gateway's record agrees one to one"
CAPTURES = "captures never exceed what is due"
FOLLOWED = "every overdue invoice is followed up"
CANCELLED = "what dunning gave up on was cancelled"
NAMED = "every name is one customer's at a time"
ANNOUNCED = "every change of a resource is announced"
GAPLESS = "events of a resource are numbered without a gap"
TAKEN_IN = "every event is taken in once by all who listen"
PUBLISHED = "no event waits to be published"
RUNS = "bill runs tell what became of their customers"
GIVEN_UP = "no dead letter and no failing job"
OPEN = "no payment attempt is left open"
DUE = "nothing is due in the past"
SELLERS = "every row belongs to a seller that exists"
CARDS = "no card number is stored"
ANSWERED = "every answered command is on record"


@dataclass(frozen=True)
class Corruption:
    """Something that no service would do, and what must be named because of it."""

    service: str
    statements: tuple[str, ...]
    breaks: tuple[str, ...]


def one(table: str, change: str, where: str = "true", *, of: str = "ctid") -> str:
    """Change a single row."""
    return f"UPDATE {table} SET {change} WHERE {of} = (SELECT {of} FROM {table} WHERE {where} ORDER BY {of} LIMIT 1)"


BILLING_CORRUPTIONS = {
    "a period was never billed": Corruption(
        "subscriptions",
        (
            "UPDATE subscriptions SET opening = jsonb_set(opening, '{start_time}', '\"2025-12-01T00:00:00+00:00\"')"
            " WHERE customer_id = (SELECT id FROM customers WHERE external_id = 'unpaid')",
        ),
        (PERIODS, TERMS, ENDS),
    ),
    "a period was billed that nobody agreed to": Corruption(
        "subscriptions",
        (
            "UPDATE subscriptions SET opening = jsonb_set(opening, '{items}', '[]')"
            " WHERE customer_id = (SELECT id FROM customers WHERE external_id = 'unpaid')",
        ),
        (PERIODS, TERMS),
    ),
    "a change was forgotten": Corruption(
        "subscriptions",
        ("DELETE FROM subscription_changes WHERE actions->0->>'action' = 'SET_QUANTITY'",),
        (PERIODS, AMOUNTS, TERMS),
    ),
    "a change took effect a day later": Corruption(
        "subscriptions",
        (
            "UPDATE subscription_changes SET effective_time = effective_time + interval '1 day'"
            " WHERE actions->0->>'action' = 'SET_QUANTITY'",
        ),
        (PERIODS, AMOUNTS, TERMS, DECISIONS),
    ),
    "a credit was lost": Corruption(
        "invoicing",
        # All but the one that stands beside another subscription: without it an invoice has no sections.
        (
            "DELETE FROM invoice_lines WHERE kind = 'CREDIT'"
            """ AND NOT rating_steps @> '[{"kind": "CREDITED_BEFORE"}]'""",
        ),
        (CREDITS, TOTALS, ISSUED, EARNED),
    ),
    "a credit was given twice": Corruption(
        "invoicing",
        (
            "CREATE TEMPORARY TABLE again AS SELECT * FROM invoice_lines WHERE kind = 'CREDIT' AND discount_minor = 0"
            " ORDER BY id LIMIT 1",
            "UPDATE again SET id = 'again', position = 99, correction = 1",
            "INSERT INTO invoice_lines SELECT * FROM again",
        ),
        (CREDITS, AMOUNTS, TOTALS, ISSUED, EARNED, FEE_NOT_TWICE),
    ),
    "a credit is another share than was unused": Corruption(
        "invoicing", (one("invoice_lines", "proration_numerator = 1", "kind = 'CREDIT'"),), (AMOUNTS, ISSUED)
    ),
    "a part was billed twice": Corruption(
        "invoicing",
        (
            "CREATE TEMPORARY TABLE again AS SELECT * FROM invoice_lines WHERE kind = 'OWED' AND change_id <> ''"
            " AND coupon_ids = '{}' ORDER BY id LIMIT 1",
            "UPDATE again SET id = 'again', position = 99, change_id = ''",
            "INSERT INTO invoice_lines SELECT * FROM again",
        ),
        (PERIODS, AMOUNTS, TOTALS, ISSUED, EARNED),
    ),
    "the terms of an item are others than were agreed": Corruption(
        "subscriptions", (one("subscription_terms", "quantity = quantity + 1", "quantity > 0"),), (TERMS,)
    ),
    "a decision was not announced": Corruption(
        "subscriptions",
        ("DELETE FROM outbox WHERE subject LIKE '%.SubscriptionChanged'",),
        (GAPLESS, TAKEN_IN, DECISIONS),
    ),
    "a scheduled change was revoked in silence": Corruption(
        "subscriptions", (LOGGED.format(revoked="create_time", after_months="NULL"),), (REVOCATIONS,)
    ),
    "a step of a ramp is not where it belongs": Corruption(
        "subscriptions", (LOGGED.format(revoked="NULL", after_months="1"),), (RAMPS,)
    ),
    "two lines overlap": Corruption(
        "invoicing",
        (
            one(
                "invoice_lines",
                "period_end = period_end + interval '3 days'",
                "meter = '' AND period_start = '2026-02-01T00:00:00+01' AND description = 'Seats'"
                " AND proration_numerator = proration_denominator",
            ),
        ),
        (PERIODS, OVERLAP, ISSUED, EARNED),
    ),
    "a price is another than was billed": Corruption(
        "catalog",
        ("UPDATE prices SET model = jsonb_set(model, '{amount}', '\"49.01\"') WHERE model->>'model' = 'FLAT'",),
        (AMOUNTS, AS_PUBLISHED),
    ),
    "a minimum is another than was billed": Corruption(
        "catalog",
        ("UPDATE prices SET operators = '{\"minimum_amount\": \"1000\"}' WHERE code = 'calls'",),
        (AMOUNTS, AS_PUBLISHED),
    ),
    "a price was negotiated with somebody else": Corruption(
        "catalog",
        ("UPDATE prices SET customer_id = 'cus_x', list_price_id = 'price_x' WHERE code = 'monthly'",),
        (NEGOTIATED, AS_PUBLISHED, ANNOUNCED),
    ),
    "a price is called another name": Corruption(
        "catalog", ("UPDATE prices SET code = 'yearly' WHERE code = 'monthly'",), (AS_PUBLISHED,)
    ),
    "a version ends and nothing follows": Corruption(
        "catalog", (one("plans", "superseded_time = effective_time + interval '10 years'"),), (ONE_VERSION,)
    ),
    "a version was never taken off sale": Corruption(
        "catalog", (one("plans", "superseded_time = effective_time + interval '1 second'"),), (ONE_VERSION, DUE)
    ),
    "a coupon counts a redemption too many": Corruption(
        "catalog", (one("coupons", "redemption_count = redemption_count + 1"),), (REDEEMED,)
    ),
    "a share is another than was billed": Corruption(
        "invoicing",
        (one("invoice_lines", "proration_denominator = 30", "proration_denominator <> 1"),),
        (AMOUNTS, ISSUED),
    ),
    "a correction is of another quantity": Corruption(
        "invoicing", (one("invoice_lines", "quantity = quantity + 1", "correction = 1"),), (CORRECTIONS, ISSUED)
    ),
    "a rating step is not explained": Corruption(
        "invoicing",
        (one("invoice_lines", "rating_steps = jsonb_set(rating_steps, '{0,amount}', '\"1\"')", "meter <> ''"),),
        (STEPS, ISSUED),
    ),
    "a rating step does not multiply out": Corruption(
        "invoicing",
        (
            one(
                "invoice_lines",
                "rating_steps = jsonb_set(rating_steps, '{0,quantity}', '\"77\"')",
                "rating_steps->0->>'kind' = 'UNITS'",
            ),
        ),
        (STEPS, ISSUED),
    ),
    "a line is missing from a total": Corruption(
        "invoicing", (one("invoices", "line_count = line_count + 1"),), (TOTALS,)
    ),
    "a line was used by somebody else": Corruption(
        "invoicing",
        (one("invoice_lines", "customer_id = 'cus_x'", "meter = '' AND kind = 'OWED' AND correction = 0"),),
        (PAYS, ISSUED),
    ),
    "a customer is said to pay for another": Corruption(
        "subscriptions",
        (
            "INSERT INTO customer_payers (seller_id, customer_id, since_time, payer_id)"
            " SELECT seller_id, id, create_time - interval '1 microsecond', (SELECT max(id) FROM customers)"
            " FROM customers WHERE external_id = 'unpaid'",
            "UPDATE customers SET payer_id = (SELECT max(id) FROM customers) WHERE external_id = 'unpaid'",
        ),
        (PAYS,),
    ),
    "an invoice is told to be together by what nobody declared": Corruption(
        "invoicing",
        (one("invoices", """consolidation = jsonb_set(consolidation, '{keys,9}', '["plan", "x"]')""", TOLD),),
        (TOGETHER,),
    ),
    "an invoice is told to be in another currency": Corruption(
        "invoicing",
        (one("invoices", """consolidation = jsonb_set(consolidation, '{keys,1}', '["currency", "XXX"]')""", TOLD),),
        (TOGETHER,),
    ),
    "a line written by hand costs more than it says": Corruption(
        "invoicing",
        (one("invoice_lines", "quantity = quantity + 1", "kind = 'MANUAL' AND description = 'Work'"),),
        (WRITTEN, ISSUED),
    ),
    "a line that was billed waits on": Corruption(
        "invoicing",
        ("UPDATE pending_lines SET id = (SELECT min(id) FROM invoice_lines WHERE kind = 'MANUAL')",),
        (WAITING,),
    ),
    "a line waits beyond its time": Corruption(
        "invoicing", ("UPDATE pending_lines SET bill_alone_time = create_time",), (WAITING,)
    ),
    "a discount is more than the line": Corruption(
        "invoicing",
        (
            "UPDATE invoice_lines SET amount_minor = 1 WHERE id = (SELECT min(id) FROM invoice_lines"
            " WHERE description = 'Parts' AND discount_minor > 0)",
        ),
        (STEPS, TOTALS, WRITTEN, TAKEN_OFF, ISSUED),
    ),
    "a discount that was given was not taken": Corruption(
        "invoicing",
        (
            "UPDATE invoice_lines SET discounts = '[]', discount_minor = 0 WHERE id ="
            " (SELECT min(id) FROM invoice_lines WHERE description = 'Setup')",
        ),
        (TOTALS, GIVEN, ISSUED),
    ),
    "a credit takes back no discount": Corruption(
        "invoicing",
        ("UPDATE invoice_lines SET discounts = '[]', discount_minor = 0 WHERE kind = 'CREDIT' AND discount_minor < 0",),
        (TOTALS, TAKEN_OFF, ISSUED, EARNED),
    ),
    "a coupon was never applied to it": Corruption(
        "subscriptions",
        (
            "UPDATE subscription_changes SET actions = replace(actions::text, 'coup_', 'coupon_')::jsonb"
            " WHERE actions::text LIKE '%coup_%'",
        ),
        (COUPONS,),
    ),
    "a coupon is worth less than was taken": Corruption(
        "catalog",
        ("UPDATE coupons SET benefit = jsonb_set(benefit, '{amounts,0,minor}', '5999') WHERE code = 'sixty'",),
        (COUPONS,),
    ),
    "a coupon is for fewer periods": Corruption(
        "catalog", ("UPDATE coupons SET duration_periods = 1 WHERE code = 'twice'",), (COUPONS,)
    ),
    "a coupon is of another percentage": Corruption(
        "catalog",
        ("UPDATE coupons SET benefit = jsonb_set(benefit, '{percent}', '\"12\"') WHERE code = 'tenth'",),
        (COUPONS,),
    ),
    "a commitment was not trued up": Corruption(
        "invoicing", ("DELETE FROM invoice_lines WHERE kind = 'TRUE_UP'",), (TOTALS, COMMITTED, ISSUED)
    ),
    "a commitment was trued up to another amount": Corruption(
        "invoicing",
        (one("invoice_lines", "amount_minor = amount_minor + 2", "kind = 'TRUE_UP'"),),
        (STEPS, TOTALS, COMMITTED, ISSUED),
    ),
    "a number was lost": Corruption(
        "invoicing", (one("invoices", "number = 'CHK-000099'", "number = 'CHK-000003'"),), (NUMBERS, ISSUED)
    ),
    "what is owed has no number": Corruption(
        "invoicing",
        ("UPDATE invoices SET number = NULL WHERE number = 'CHK-000003'",),
        (NUMBERS, ISSUED),
    ),
    "what was written by hand has no number": Corruption(
        "invoicing", (f"UPDATE invoices SET origin = 'MANUAL' WHERE {UNNUMBERED}",), (NUMBERS, WAITING)
    ),
    "nobody wanted invoices without a number": Corruption("invoicing", ("DELETE FROM issuing_policies",), (NUMBERS,)),
    "a number series went on without an invoice": Corruption(
        "invoicing", ("UPDATE number_series SET last = last + 1",), (NUMBERS,)
    ),
    "a tax is a cent too much": Corruption(
        "invoicing",
        (
            one(
                "invoices",
                "tax_minor = tax_minor + 1, total_minor = total_minor + 1,"
                " taxes = jsonb_set(taxes, '{0,amount_minor}', to_jsonb((taxes->0->>'amount_minor')::bigint + 1))",
                'taxes @> \'[{"category": "S", "is_included": false}]\'',
            ),
        ),
        (ISSUED, OWED, TAXES),
    ),
    "a price includes a larger part of tax": Corruption(
        "invoicing",
        (
            one(
                "invoices",
                "tax_minor = tax_minor + 2,"
                " taxes = jsonb_set(taxes, '{0,amount_minor}', to_jsonb((taxes->0->>'amount_minor')::bigint + 2))",
                "taxes @> '[{\"is_included\": true}]'",
            ),
        ),
        (ISSUED, OWED, EARNED, TAXES),
    ),
    "a rate was raised after it was billed by": Corruption(
        "invoicing", (one("tax_rates", "percent = 21", "percent = 20 AND NOT is_inclusive"),), (TAXES,)
    ),
    "a line was taxed at nothing": Corruption(
        "invoicing",
        (one("invoice_lines", "tax_rate_ids = '{}'", "tax_rate_ids <> '{}'"),),
        (ISSUED, TAXES, TAX_RULES),
    ),
    "a rule was changed after it was billed by": Corruption(
        "invoicing", (one("tax_rules", "rate_ids = rate_ids[1:1]", "scope = 'TAX_CODE'"),), (TAX_RULES,)
    ),
    "a rule was put before the one that was billed by": Corruption(
        "invoicing",
        (
            "INSERT INTO tax_rules (seller_id, id, scope, scope_key, rate_ids, start_time, create_time)"
            " SELECT seller_id, 'taxrule_before', 'CUSTOMER', i.customer_id, rate_ids, start_time, r.create_time"
            " FROM tax_rules r JOIN invoices i USING (seller_id)"
            " WHERE scope = 'CUSTOMER' AND i.taxes @> '[{\"category\": \"E\"}]'",
        ),
        (TAX_RULES,),
    ),
    "somebody who was exempt paid taxes": Corruption(
        "subscriptions",
        (
            "UPDATE customers SET tax_exemptions = (SELECT tax_exemptions FROM customers WHERE external_id = 'exempt')"
            " WHERE external_id = 'beside'",
        ),
        (EXEMPT,),
    ),
    "what was kept of a document was exchanged": Corruption(
        "invoicing", (one("issued_documents", "link = sha256(link)", "ordinal = 1"),), (ISSUED,)
    ),
    "a document says another name": Corruption(
        "invoicing",
        (one("invoices", "customer_party = jsonb_set(customer_party, '{display_name}', '\"X\"')", "number <> ''"),),
        (ISSUED,),
    ),
    "a section says another name": Corruption(
        "invoicing",
        (one("invoices", """section_names = replace(section_names::text, '": "', '": "X')::jsonb""", SECTIONED),),
        (ISSUED,),
    ),
    "a section lost its name": Corruption(
        "invoicing",
        (one("invoices", """section_names = '{"sub_x": "X"}'""", SECTIONED),),
        (ISSUED, SECTIONS),
    ),
    "an invoice names a section that it has not": Corruption(
        "invoicing",
        (one("invoices", """section_names = '{"cus_x": "X"}'""", "number <> '' AND section_names = '{}'"),),
        (ISSUED, SECTIONS),
    ),
    "a payment was forgotten": Corruption(
        "invoicing",
        (
            one(
                "invoices",
                "amount_paid_minor = amount_paid_minor - 1",
                "state = 'PAID' AND amount_paid_minor > 0 AND top_up_rule_id = ''",
            ),
        ),
        (OWED, PAID),
    ),
    "a payment is of another customer": Corruption(
        "payments", (one("payments", "customer_id = 'cus_x'"),), (PAYMENTS, TOLD_OF)
    ),
    "an invoice was collected under another number": Corruption(
        "payments", (one("payments", "invoice_number = 'INV-999999'"),), (TOLD_OF,)
    ),
    "an invoice is followed up that nobody knows": Corruption(
        "dunning", (one("campaigns", "invoice_id = 'inv_x'", "state <> 'EXHAUSTED'"),), (TOLD_OF,)
    ),
    "money was recorded that never came": Corruption(
        "payments",
        (
            "INSERT INTO recorded_payments (seller_id, id, invoice_id, customer_id, amount_minor, currency, means,"
            " reference, paid_time, create_time) SELECT seller_id, 'pay_x', invoice_id, customer_id, 1, currency,"
            " 'CASH', 'x', create_time, create_time FROM payments ORDER BY id LIMIT 1",
        ),
        (PAYMENTS, ANNOUNCED),
    ),
    "an attempt is numbered wrongly": Corruption(
        "payments", (one("payment_attempts", "number = number + 5"),), (ATTEMPTS,)
    ),
    "the gateway captured another amount": Corruption(
        GATEWAY, (one("captures", "amount_minor = amount_minor - 1", "outcome = 'CAPTURED'"),), (RECORD,)
    ),
    "the gateway captured twice": Corruption(
        GATEWAY,
        (
            "INSERT INTO captures (attempt_id, seller_id, invoice_id, token, amount_minor, currency, outcome, code,"
            " capture_number) SELECT 'att_twice', seller_id, invoice_id, token, amount_minor, currency, outcome, code,"
            " 99 FROM captures WHERE outcome = 'CAPTURED' LIMIT 1",
        ),
        (RECORD, CAPTURES),
    ),
    "an overdue invoice is not followed up": Corruption(
        "dunning", ("DELETE FROM campaigns WHERE state = 'EXHAUSTED'",), (FOLLOWED,)
    ),
    "dunning gave up and service goes on": Corruption(
        "dunning",
        ("UPDATE campaigns SET subscription_ids = subscription_ids || 'sub_x'::text WHERE state = 'EXHAUSTED'",),
        (CANCELLED,),
    ),
    "a change was not announced": Corruption(
        "subscriptions", (one("customers", "revision = revision + 1"),), (ANNOUNCED,)
    ),
    "a name is two customers'": Corruption(
        "subscriptions",
        (
            "INSERT INTO customer_names (seller_id, customer_id, key, add_time)"
            " SELECT seller_id, 'cus_x', key, add_time FROM customer_names LIMIT 1",
        ),
        (NAMED,),
    ),
    "a state was not announced": Corruption("catalog", (one("plans", "state = 'ARCHIVED'"),), (ANNOUNCED,)),
    "an event was lost": Corruption(
        "subscriptions",
        (
            "DELETE FROM outbox WHERE position = (SELECT max(position) FROM outbox"
            " WHERE subject LIKE '%BillingPeriodEnded')",
        ),
        (GAPLESS, TAKEN_IN, ENDS),
    ),
    "a count of events is wrong": Corruption("invoicing", (one("aggregate_sequences", "last = last + 1"),), (GAPLESS,)),
    "an event was never taken in": Corruption(
        "payments",
        (
            "DELETE FROM inbox WHERE event_id ="
            " (SELECT min(event_id) FROM inbox WHERE subject LIKE '%InvoiceFinalized')",
        ),
        (TAKEN_IN,),
    ),
    "an event was taken in that was never announced": Corruption(
        "payments",
        (
            "INSERT INTO inbox (event_id, seller_id, subject)"
            " SELECT 'evt_x', seller_id, subject FROM inbox WHERE subject LIKE '%InvoicePaid' LIMIT 1",
        ),
        (TAKEN_IN,),
    ),
    "an event waits": Corruption(
        "invoicing",
        ("INSERT INTO outbox_waiting (position, seller_id) SELECT position, seller_id FROM outbox LIMIT 1",),
        (PUBLISHED,),
    ),
    "a job fails": Corruption(
        "dunning",
        (
            "INSERT INTO job_failures (job, id, seller_id, attempts, next_try_time, error)"
            " SELECT 'follow up', id, seller_id, 3, now(), 'ValueError()' FROM campaigns LIMIT 1",
        ),
        (GIVEN_UP,),
    ),
    "a message was given up": Corruption(
        "payments",
        (
            "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
            " SELECT 'evt_x', seller_id, subject, '{}', '', 'ValueError()', 8 FROM inbox LIMIT 1",
        ),
        (GIVEN_UP,),
    ),
    "a customer cannot be billed": Corruption(
        "invoicing", (one("billing", "park_time = now(), park_reason = 'TOO_MANY_LINES'"),), (GIVEN_UP,)
    ),
    "a bill run forgot a customer": Corruption(
        "invoicing",
        ("DELETE FROM bill_run_customers WHERE ctid = (SELECT min(ctid) FROM bill_run_customers)",),
        (RUNS,),
    ),
    "a bill run names an invoice of somebody else": Corruption(
        "invoicing",
        (
            one(
                "bill_run_customers c",
                "invoice_ids = ARRAY(SELECT id FROM invoices i WHERE i.customer_id <> c.customer_id"
                " AND state <> 'DRAFT' AND NOT EXISTS (SELECT FROM invoice_lines l WHERE l.invoice_id = i.id"
                " AND l.customer_id = c.customer_id) LIMIT 1)",
                "outcome = 'BILLED'",
                of="c.ctid",
            ),
        ),
        (RUNS,),
    ),
    "a bill run waits for a customer who is not due": Corruption(
        "invoicing",
        (
            one(
                "bill_run_customers",
                "outcome = 'WAITING', end_time = NULL, invoice_ids = '{}'",
                "outcome IN ('BILLED', 'NOTHING_OWED')",
            ),
        ),
        (RUNS,),
    ),
    "a payment is under way": Corruption(
        "payments", (one("payments", "state = 'PROCESSING'", "state = 'FAILED'"),), (OPEN,)
    ),
    "a payment is given up and its invoice is owed": Corruption(
        "payments",
        (
            "UPDATE payments SET state = 'CANCELLED', invoice_settled = true, failure_code = '', collect_time = NULL"
            " WHERE state = 'FAILED'",
        ),
        (PAYMENTS, ANNOUNCED),
    ),
    "a customer was not billed in time": Corruption(
        "invoicing", ("UPDATE billing SET due_time = '2026-01-02' WHERE due_time IS NOT NULL",), (DUE,)
    ),
    "a card number was stored": Corruption(
        "subscriptions", (one("customers", "display_name = 'Visa 4242 4242-4242 4242'"),), (CARDS,)
    ),
    "a card number was stored in bytes": Corruption(
        "payments", (one("requests", "response = 'token 378282246310005'::bytea", of="request_id"),), (CARDS,)
    ),
    "a customer is paid for by somebody of whom nobody said so": Corruption(
        "subscriptions",
        (
            "UPDATE customers c SET payer_id = (SELECT max(id) FROM customers o WHERE o.seller_id = c.seller_id)"
            " WHERE id = (SELECT min(id) FROM customers)",
        ),
        (PAYER_SAID,),
    ),
    "a subscription names somebody of whom its log knows nothing": Corruption(
        "subscriptions",
        (
            "INSERT INTO subscription_payers (seller_id, subscription_id, start_time, payer_id)"
            " SELECT seller_id, id, create_time, customer_id FROM subscriptions LIMIT 1",
        ),
        (PAYER_NAMED,),
    ),
    "who pays was erased": Corruption(
        "subscriptions",
        (
            "UPDATE customers SET erase_time = update_time, sealed_personal_data = NULL WHERE id IN"
            " (SELECT customer_id FROM subscriptions WHERE state <> 'CANCELLED')",
        ),
        (PAYER_THERE,),
    ),
    "a seller is gone": Corruption("catalog", ("DELETE FROM sellers",), (SELLERS,)),
    "an answer was forgotten": Corruption(
        "catalog", (one("requests", "digest = '\\x00'", "method = 'ApplyCatalog'", of="request_id"),), (ANSWERED,)
    ),
}
