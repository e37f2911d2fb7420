"""Knows the table of what can be done to a subscription in which state, as it is published.

`python -m tools.subscription_states` writes docs/subscription-states.md from the rules of the domain;
`python -m tools.subscription_states check` says whether the committed file is up to date.
"""

from __future__ import annotations

import sys

from common.errors import reason_of
from subscriptions.domain.states import LEGAL, REFUSALS, State, Verb
from tools import protos

PAGE = protos.PROTOS.parent / "docs/subscription-states.md"

HEAD = """# What can be done to a subscription in which state

<!-- Written by `python -m tools.subscription_states` from the domain of subscriptions. Do not edit. -->

A verb is legal in the states with a dot; in all others it fails with the reason at the end of its row, and nothing is
stored. Where it is legal it may need more, which the contract says: a resumption something that is paused, a revocation
a cancellation that has not taken effect.

"""


def page() -> str:
    """The whole document."""
    lines = [
        f"| | {' | '.join(state.name for state in State)} | otherwise |",
        f"|---|{':---:|' * len(State)}---|",
        *(_row(verb) for verb in Verb),
    ]
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    match sys.argv[1:]:
        case []:
            PAGE.write_text(page())
            return 0
        case ["check"]:
            if PAGE.is_file() and PAGE.read_text() == page():
                return 0
            message = "docs/subscription-states.md is out of date: run `python -m tools.subscription_states`"
            print(message, file=sys.stderr)
            return 1
    print("usage: python -m tools.subscription_states [check]", file=sys.stderr)
    return 2


def _row(verb: Verb) -> str:
    cells = " | ".join("•" if state in LEGAL[verb] else "" for state in State)
    return f"| `{verb.name}` | {cells} | `{reason_of(REFUSALS[verb])}` |"


if __name__ == "__main__":
    raise SystemExit(main())
