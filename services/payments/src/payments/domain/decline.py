"""Knows which refusals are final: after a hard decline the same payment method will not do, after a soft one it may."""

from __future__ import annotations

from typing import Final

SOFT: Final = frozenset(
    {
        "approve_with_id",
        "call_issuer",
        "card_declined",
        "card_velocity_exceeded",
        "do_not_honor",
        "duplicate_transaction",
        "generic_decline",
        "insufficient_funds",
        "issuer_not_available",
        "no_action_taken",
        "processing_error",
        "reenter_transaction",
        "try_again_later",
        "withdrawal_count_limit_exceeded",
    }
)

HARD: Final = frozenset(
    {
        "authentication_required",
        "card_not_supported",
        "currency_not_supported",
        "do_not_try_again",
        "expired_card",
        "fraudulent",
        "incorrect_number",
        "invalid_account",
        "invalid_number",
        "lost_card",
        "new_account_information_available",
        "not_permitted",
        "pickup_card",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "stop_payment_order",
        "transaction_not_allowed",
    }
)


def retryable(code: str) -> bool:
    """A code nobody here has heard of is soft: the tries are few, and a customer lost by mistake is dear."""
    return code not in HARD
