"""The tools that keep the contracts honest do bite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import protos

CONTRACT = """syntax = "proto3";

package saldo.sample.v1;

import "google/type/money.proto";

// A price.
message Price {
  // Its id.
  string id = 1;
  // What it comes to.
  google.type.Money amount = 2;
}
"""


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    """A folder like protos/ with one contract that has been released."""
    (tmp_path / "saldo/sample/v1").mkdir(parents=True)
    shutil.copy(protos.PROTOS / "buf.yaml", tmp_path)
    _contract(tmp_path).write_text(CONTRACT)
    assert protos.accept(tmp_path) == 0
    return tmp_path


def test_generating_again_does_nothing(contracts: Path) -> None:
    """Every make begins with it, so it has to be quick; and a changed contract must never be missed."""
    assert protos.generate(contracts) is True
    assert protos.generate(contracts) is False
    assert "amount" in (contracts / "gen/saldo/sample/v1/sample_pb2.pyi").read_text()

    _rewrite(contracts, "amount", "total")

    assert protos.generate(contracts) is True
    assert "amount" not in (contracts / "gen/saldo/sample/v1/sample_pb2.pyi").read_text()


def test_a_contract_that_does_not_compile_leaves_the_old_classes(contracts: Path) -> None:
    """Somebody else's half-written contract must not take away everybody's classes."""
    protos.generate(contracts)
    _rewrite(contracts, "string id", "strin id")
    with pytest.raises(SystemExit):
        protos.generate(contracts)
    assert (contracts / "gen/saldo/sample/v1/sample_pb2.py").exists()


def test_an_addition_is_accepted(contracts: Path) -> None:
    """Contracts grow: that is how they change without anybody noticing."""
    _rewrite(contracts, "string id = 1;", "string id = 1;\n  // Its name.\n  string name = 3;")
    assert (protos.lint(contracts), protos.breaking(contracts), protos.accept(contracts)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("amount = 2", "total = 2"),
        ("amount = 2", "amount = 4"),
        ("string id", "int64 id"),
        ("  // Its id.\n  string id = 1;\n", ""),
    ],
)
def test_what_callers_rely_on_cannot_be_taken_away(contracts: Path, old: str, new: str) -> None:
    """Not even by accepting it: the way out is a v2 beside the v1."""
    released = (contracts / "baseline.binpb").read_bytes()
    _rewrite(contracts, old, new)
    assert protos.breaking(contracts) != 0
    assert protos.accept(contracts) != 0
    assert (contracts / "baseline.binpb").read_bytes() == released


@pytest.mark.parametrize(("old", "new"), [("// Its id.\n  ", ""), ("string id", "string  id")])
def test_an_undocumented_field_or_a_sloppy_layout_is_refused(contracts: Path, old: str, new: str) -> None:
    """The contract is the documentation."""
    assert protos.lint(contracts) == 0
    _rewrite(contracts, old, new)
    assert protos.lint(contracts) != 0


def _contract(folder: Path) -> Path:
    return folder / "saldo/sample/v1/sample.proto"


def _rewrite(folder: Path, old: str, new: str) -> None:
    text = _contract(folder).read_text()
    assert old in text
    _contract(folder).write_text(text.replace(old, new, 1))
