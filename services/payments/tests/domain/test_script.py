"""The language of simulated tokens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import InvalidArgument
from payments.domain import decline
from payments.gateways.script import DELAY_MILLISECONDS_MAX, STEPS_MAX, Script, Step, parse

OK = Step(captures=True, code="", answers=True, delay_milliseconds=0)
LOST = Step(captures=True, code="", answers=False, delay_milliseconds=0)
TIMEOUT = Step(captures=False, code="", answers=False, delay_milliseconds=0)


def declined(code: str) -> Step:
    return Step(captures=False, code=code, answers=True, delay_milliseconds=0)


@pytest.mark.parametrize(
    ("token", "steps"),
    [
        ("sim:ok", [OK]),
        ("sim:decline", [declined("insufficient_funds")]),
        ("sim:decline=stolen_card,ok", [declined("stolen_card"), OK]),
        ("sim:lost,timeout", [LOST, TIMEOUT]),
        ("sim:decline,ok#ada-2", [declined("insufficient_funds"), OK]),
        ("sim:delay=200+ok", [Step(captures=True, code="", answers=True, delay_milliseconds=200)]),
        (
            "sim:delay=60000+decline=expired_card",
            [Step(captures=False, code="expired_card", answers=True, delay_milliseconds=DELAY_MILLISECONDS_MAX)],
        ),
    ],
)
def test_a_token_says_what_happens(token: str, steps: list[Step]) -> None:
    """Each step of it in turn."""
    assert parse(token) == Script(tuple(steps))


def test_the_last_step_repeats() -> None:
    """A card that works goes on working."""
    script = parse("sim:decline,lost,ok")
    assert [script.step(number) for number in range(1, 6)] == [declined("insufficient_funds"), LOST, OK, OK, OK]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "ok",
        "sim",
        "sim:",
        "sim:ok,",
        "sim:,ok",
        "sim: ok",
        "sim:OK",
        "sim:ok=1",
        "sim:decline=",
        "sim:decline=no_such_code",
        "sim:delay=200",
        "sim:delay=60001+ok",
        "sim:delay=-1+ok",
        "sim:delay=1.5+ok",
        "sim:delay=1+delay=1+ok",
        "sim:ok+delay=200",
        "sim:lost;ok",
        "SIM:ok",
        "sim:ok#",
        "sim:ok#a b",
        "sim:#ada",
        "sim:ok#ada#grace",
        "sim:" + ",".join(["ok"] * (STEPS_MAX + 1)),
    ],
)
def test_a_malformed_token_is_refused(token: str) -> None:
    """When it is attached, not when money is to be collected."""
    with pytest.raises(InvalidArgument) as refusal:
        parse(token)
    assert refusal.value.field == "token"


def test_the_refusal_names_the_step() -> None:
    """A long script is repaired at once."""
    with pytest.raises(InvalidArgument, match="step 3"):
        parse("sim:ok,decline,maybe")


@pytest.mark.parametrize(("name", "codes"), [("soft", decline.SOFT), ("hard", decline.HARD)])
def test_the_readme_lists_the_codes(name: str, codes: frozenset[str]) -> None:
    """Who writes a script looks them up there."""
    readme = Path(__file__).parents[2] / "README.md"
    [row] = [line for line in readme.read_text().splitlines() if line.startswith(f"| {name} codes |")]
    assert set(re.findall(r"`([a-z_]+)`", row)) - {"decline"} == codes
