"""Answers the cases of invoice.jsonl, each by what it is about; some have nothing to answer them yet."""

from __future__ import annotations

from tests.conformance import credit_note_answers, discount_answers, tax_answers
from tests.conformance.case import Answer, Case
from tests.conformance.system import System


async def answer(case: Case, saldo: System) -> Answer:
    if case.given["kind"] in tax_answers.KINDS:
        return await tax_answers.answer(case, saldo)
    if case.given["kind"] in credit_note_answers.KINDS:
        return await credit_note_answers.answer(case, saldo.rooms)
    return await discount_answers.answer(case, saldo)
