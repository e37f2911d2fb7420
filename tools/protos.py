"""Knows how the contracts become Python and how they are kept: `python -m tools.protos` says with what.

`breaking` compares the contracts with `protos/baseline.binpb`, an image of the contracts as they were last
released. The image is committed, so the comparison needs neither a network nor any history: a shallow clone
will do. What was added since the release may still change freely; what callers outside may already rely on
may not. `python -m tools.protos accept` makes today's contracts the new baseline, and refuses when that
would break a caller: run it when releasing, and review the change of the image like any other. Within a v1
package there is no way around the refusal; a breaking change is a v2 package beside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

from tools.exclusive import exclusive

PROTOS = Path(__file__).resolve().parent.parent / "protos"
SHARED_PACKAGES = ("google/rpc", "google/type")  # what a contract may import besides google/protobuf
BUF_TIMEOUT_SECONDS = 120
LOCK_TIMEOUT_SECONDS = 300


def generate(protos: Path = PROTOS) -> bool:
    """Write the Python classes of all contracts to protos/gen; return whether anything had to be done."""
    gen = protos / "gen"
    with _exclusive(protos):
        digest = _digest(protos)
        stamp = gen / ".digest"
        if stamp.is_file() and stamp.read_text() == digest:
            return False
        fresh = protos / "gen" / ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _compile(protos, fresh)
        for package in {path.parent.parent for path in fresh.glob("saldo/*/v*/*_pb2.py")}:
            (package / "py.typed").touch()
        stamp.unlink(missing_ok=True)
        stale = protos / "gen" / ".old"
        shutil.rmtree(stale, ignore_errors=True)
        if (gen / "saldo").exists():
            (gen / "saldo").rename(stale)
        if (fresh / "saldo").exists():
            (fresh / "saldo").rename(gen / "saldo")
        shutil.rmtree(stale, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)
        stamp.write_text(digest)
        return True


def lint(protos: Path = PROTOS) -> int:
    """Return 0 when the contracts follow the rules of buf.yaml and are formatted; findings go to stdout."""
    with _exclusive(protos):
        _copy_shared(protos)
        rules = _buf(protos, "lint")
        layout = _buf(protos, "format", "--diff", "--exit-code", "--path", "saldo")
    return rules or layout


def breaking(protos: Path = PROTOS) -> int:
    """Return 0 when nobody who relies on the last released contracts would notice; findings go to stdout."""
    baseline = protos / "baseline.binpb"
    if not baseline.is_file():
        print(f"{baseline.name} is missing: `python -m tools.protos accept` writes the first one")
        return 1
    with _exclusive(protos):
        _copy_shared(protos)
        current = protos / "gen" / ".current.binpb"
        current.parent.mkdir(exist_ok=True)
        return _image(protos, current, with_positions=True) or _buf(
            protos, "breaking", str(current), "--against", str(baseline), "--config", "buf.yaml"
        )


def accept(protos: Path = PROTOS) -> int:
    """Make today's contracts the baseline, unless that would break a caller of the old one."""
    baseline = protos / "baseline.binpb"
    if baseline.is_file() and (found := breaking(protos)):
        return found
    with _exclusive(protos):
        _copy_shared(protos)
        return _image(protos, baseline, with_positions=False)


def sources(protos: Path = PROTOS) -> list[Path]:
    """All contracts, in a stable order."""
    return sorted((protos / "saldo").rglob("*.proto"))


def main() -> int:
    commands = {"lint": lint, "breaking": breaking, "accept": accept}
    match sys.argv[1:]:
        case ["generate"]:
            if generate():
                print("generated protos/gen", file=sys.stderr)
            return 0
        case [name] if name in commands:
            return commands[name]()
    print("usage: python -m tools.protos generate|lint|breaking|accept", file=sys.stderr)
    return 2


def _compile(protos: Path, out: Path) -> None:
    contracts = [str(path.relative_to(protos)) for path in sources(protos)]
    if not contracts:
        return
    scripts = Path(sysconfig.get_path("scripts"))  # a virtual environment that is not activated is not on PATH
    arguments = [
        "protoc",
        f"--proto_path={protos}",
        f"--proto_path={_shared_root()}",
        f"--proto_path={Path(protoc.__file__).parent / '_proto'}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet,only_async:{out}",
        *contracts,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("the contracts do not compile; protos/gen is as it was")


def _digest(protos: Path) -> str:
    seen = hashlib.sha256()
    for tool in ("grpcio-tools", "mypy-protobuf", "googleapis-common-protos"):
        seen.update(f"{tool} {metadata.version(tool)}\n".encode())
    seen.update(Path(__file__).read_bytes())
    for path in sources(protos):
        seen.update(f"{path.relative_to(protos)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return seen.hexdigest()


def _shared_root() -> Path:
    return Path(status_pb2.__file__).parent.parent.parent


def _copy_shared(protos: Path) -> None:
    """Buf takes imports only from inside the folder of its configuration."""
    third_party = protos / "third_party"
    stamp = third_party / ".version"
    version = metadata.version("googleapis-common-protos")
    if stamp.is_file() and stamp.read_text() == version:
        return
    shutil.rmtree(third_party, ignore_errors=True)
    for package in SHARED_PACKAGES:
        (third_party / package).mkdir(parents=True)
        for path in (_shared_root() / package).glob("*.proto"):
            shutil.copy(path, third_party / package)
    stamp.write_text(version)


def _image(protos: Path, path: Path, *, with_positions: bool) -> int:
    """Positions let a finding name its line; without them an image changes only when the contract does."""
    form = [] if with_positions else ["--exclude-source-info"]
    return _buf(protos, "build", "--path", "saldo", "--as-file-descriptor-set", *form, "--output", str(path))


def _buf(protos: Path, *arguments: str) -> int:
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    environment = os.environ | {"BUF_CACHE_DIR": str(protos / "gen" / ".cache")}
    return subprocess.run(
        [buf, *arguments], cwd=protos, env=environment, timeout=BUF_TIMEOUT_SECONDS, check=False
    ).returncode


def _exclusive(protos: Path) -> AbstractContextManager[None]:
    """Two makes at once take turns; the one that waits finds the work done."""
    return exclusive(protos / "gen" / ".lock", timeout_seconds=LOCK_TIMEOUT_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
