"""Knows the conventions of others that Saldo does not follow. A case is set aside by them and by nothing else.

Where a case lists the figure of the convention that Saldo does follow, nothing is set aside: the figure is compared.
"""

from __future__ import annotations

from typing import Final

NOT_FOLLOWED: Final = {
    "round:up": "money is rounded in one way, to the nearest, halves away from zero; never always up",
    "round:down": "nor always down",
    "round:half_even": "nor halves to the even neighbour, which no invoice expects",
    "round:half_down": "nor halves towards zero",
}
"""By the convention's code, why not. docs/pricing.md says what is done instead."""
