"""An authority for sandboxes, that knows nothing and answers by the digits of the number it is asked about."""

from __future__ import annotations

import re
from typing import Final

from subscriptions.tax_authorities import AuthorityUnavailable, Inquiry

TRIES_UNTIL_IT_ANSWERS: Final = 2

_DIGITS: Final = re.compile(r"[0-9]{2}")


class SimulatedTaxAuthority:
    """40… is INVALID, 50… never answered; 51… is VALID and 52… INVALID from the third try on; others are VALID."""

    name: Final = "simulated"

    async def is_valid(self, inquiry: Inquiry) -> bool:
        found = _DIGITS.search(inquiry.number.value)
        first = found[0] if found else ""
        if first == "50" or (first in ("51", "52") and inquiry.tries < TRIES_UNTIL_IT_ANSWERS):
            raise AuthorityUnavailable("the number says so")
        return first not in ("40", "52")
