"""The `saldo` command as somebody types it: the real program, in a folder of its own, from `up` to `down`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tools.stack import CHECKOUT

SALDO = CHECKOUT / ".venv" / "bin" / "saldo"
PATIENCE_SECONDS = 120
ACME = {
    "mode": "SANDBOX",
    "display_name": "Acme",
    "email": "billing@example.com",
    "address": {"region_code": "GB"},
    "sandbox_start_time": "2026-01-01T00:00:00Z",
}


class Typed:
    """What was printed, and the exit code."""

    def __init__(self, folder: Path, *words: str) -> None:
        # Servers of its own: those of the test run are for others.
        told = {name: value for name, value in os.environ.items() if not name.startswith("SALDO_")}
        done = subprocess.run(
            [SALDO, "--folder", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env={**told, "COLUMNS": "200"},
        )
        self.code, self.out, self.problems = done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("saldo")
    up = Typed(found, "up")
    assert up.code == 0, up.problems
    try:
        yield found
    finally:
        Typed(found, "down")


@pytest.fixture(scope="module")
def seller(folder: Path) -> str:
    made = Typed(folder, "call", "catalog.CreateSeller", json.dumps(ACME))
    assert made.code == 0, made.problems
    return str(json.loads(made.out)["id"])


def test_everything_is_up_and_says_where_it_listens(folder: Path) -> None:
    """An operator sees six services and two servers at a glance; up again starts nothing twice."""
    before = Typed(folder, "status")
    assert before.code == 0
    assert before.out.count("healthy") == 8
    assert Typed(folder, "up").code == 0
    assert Typed(folder, "status").out == before.out


def test_an_rpc_is_called_by_hand(folder: Path, seller: str) -> None:
    """With JSON in and out; a refusal is a sentence with its reason and another exit code."""
    product = Typed(
        folder, "call", "catalog.CreateProduct", '{"code": "seats", "display_name": "Seats"}', "--seller", seller
    )
    assert json.loads(product.out)["code"] == "seats"
    refused = Typed(folder, "call", "catalog.CreateProduct", '{"code": "Seats!"}', "--seller", seller)
    assert (refused.code, refused.out) == (1, "")
    assert "INVALID_ARGUMENT" in refused.problems
    misspelt = Typed(folder, "call", "catalog.CreateProducts", "{}", "--seller", seller)
    assert misspelt.code == 2
    assert "CreateProduct" in misspelt.problems


def test_a_token_is_printed_alone(folder: Path, seller: str) -> None:
    """So that a script can take it as it is."""
    token = Typed(folder, "token", "--seller", seller)
    assert token.code == 0
    assert token.out.strip().count(".") == 2
    assert Typed(folder, "token", "--seller", "nonsense").code == 2


def test_time_passes_in_a_sandbox(folder: Path, seller: str) -> None:
    """In all six services, forward only."""
    advanced = Typed(folder, "clock", "advance", "--seller", seller, "--to", "2026-03-01T00:00:00Z")
    assert advanced.code == 0, advanced.problems
    shown = Typed(folder, "clock", "show", "--seller", seller)
    assert shown.out.count("2026-03-01T00:00:00Z") == 6
    back = Typed(folder, "clock", "advance", "--seller", seller, "--to", "2026-02-01T00:00:00Z")
    assert back.code == 1
    assert "only moves forward" in back.problems


def test_dead_letters_are_listed(folder: Path) -> None:
    """None, here; and deciding about one that is not there is an error with its reason."""
    assert Typed(folder, "deadletters", "list").out.strip() == "none"
    unknown = Typed(folder, "deadletters", "discard", "payments", "evt_unknown", "--reason", "obsolete")
    assert unknown.code == 1
    assert "DEAD_LETTER_NOT_FOUND" in unknown.problems


def test_the_books_are_checked(folder: Path, seller: str) -> None:
    """The seller made here has nothing to hide."""
    checked = Typed(folder, "check", "--seller", seller)
    assert checked.code == 0, checked.out
    assert "Everything that must hold does." in checked.out


def test_down_leaves_nothing_running(tmp_path: Path) -> None:
    """Whatever was started is gone, and up comes back with the same data."""
    assert Typed(tmp_path, "up").code == 0
    made = json.loads(Typed(tmp_path, "call", "catalog.CreateSeller", json.dumps(ACME)).out)
    assert Typed(tmp_path, "down").code == 0
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ())
    ]
    assert left == []
    assert Typed(tmp_path, "call", "catalog.GetSeller", json.dumps({"id": made["id"]})).code == 1
    assert Typed(tmp_path, "up").code == 0
    again = Typed(tmp_path, "call", "catalog.GetSeller", json.dumps({"id": made["id"]}))
    assert json.loads(again.out) == made
    assert Typed(tmp_path, "down").code == 0
