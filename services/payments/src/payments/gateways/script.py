"""Knows the language of simulated tokens: what the simulated gateway does with one attempt after another.

    token     = "sim:" step *("," step) ["#" label]
    step      = ["delay=" milliseconds "+"] behaviour
    behaviour = "ok" | "decline" ["=" code] | "lost" | "timeout"

`sim:decline,lost,ok` declines the first attempt, captures the second without telling, and captures the third and all
that follow: the last step repeats. Whoever shares a token shares its steps; a label makes it one's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from common.errors import InvalidArgument
from payments.domain import decline

PREFIX: Final = "sim:"
DELAY_MILLISECONDS_MAX: Final = 60_000
STEPS_MAX: Final = 50
DEFAULT_CODE: Final = "insufficient_funds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens to one attempt: `captures`, or a refusal with `code`, or neither; and whether an answer comes."""

    captures: bool
    code: str
    answers: bool
    delay_milliseconds: int


@dataclass(frozen=True, slots=True)
class Script:
    steps: tuple[Step, ...]

    def step(self, number: int) -> Step:
        """The step for the `number`-th call, from 1."""
        return self.steps[min(number, len(self.steps)) - 1]


def parse(token: str, *, field: str = "token") -> Script:
    if not token.startswith(PREFIX):
        raise InvalidArgument(f"must begin with {PREFIX}", field=field)
    steps, hash_mark, label = token.removeprefix(PREFIX).partition("#")
    if hash_mark and not _LABEL.fullmatch(label):
        raise InvalidArgument("must have 1 to 64 of A-Z, a-z, 0-9, _ and - after the #", field=field)
    texts = steps.split(",")
    if len(texts) > STEPS_MAX:
        raise InvalidArgument(f"must have at most {STEPS_MAX} steps", field=field)
    return Script(tuple(_step(text, number, field) for number, text in enumerate(texts, start=1)))


def _step(text: str, number: int, field: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            f"step {number} must be ok, decline, decline=<code>, lost or timeout, after delay=<milliseconds>+ or not",
            field=field,
        )
    delay = int(match["delay"] or 0)
    if delay > DELAY_MILLISECONDS_MAX:
        raise InvalidArgument(f"step {number} delays by more than {DELAY_MILLISECONDS_MAX} milliseconds", field=field)
    behaviour, _, code = match["behaviour"].partition("=")
    if code and code not in decline.SOFT | decline.HARD:
        known = ", ".join(sorted(decline.SOFT | decline.HARD))
        raise InvalidArgument(f"step {number} has a code that is not one of {known}", field=field)
    return Step(
        captures=behaviour in ("ok", "lost"),
        code=code or (DEFAULT_CODE if behaviour == "decline" else ""),
        answers=behaviour in ("ok", "decline"),
        delay_milliseconds=delay,
    )


_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STEP: Final = re.compile(r"(?:delay=(?P<delay>[0-9]{1,9})\+)?(?P<behaviour>ok|decline(?:=[a-z_]{1,64})?|lost|timeout)")
