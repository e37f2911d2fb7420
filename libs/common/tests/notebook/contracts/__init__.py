"""Knows how the contracts beside it become Python: compiled once per content, when they are first needed."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from grpc_tools import protoc

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parents[4] / ".saldo" / "cache"


def _compiled() -> Path:
    sources = sorted(_HERE.rglob("*.proto"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = _CACHE / f"notebook-{digest}"
    if not folder.exists():
        # Several processes may want it at once: each makes its own, the first to finish puts it in place.
        _CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="notebook-", dir=_CACHE))
        arguments = [
            "protoc",
            f"--proto_path={_HERE}",
            f"--proto_path={Path(protoc.__file__).parent / '_proto'}",
            f"--python_out={unfinished}",
            f"--grpc_python_out={unfinished}",
            *(str(source.relative_to(_HERE)) for source in sources),
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("the notebook's contracts do not compile")
        try:
            unfinished.rename(folder)
        except OSError:
            shutil.rmtree(unfinished)
    return folder


sys.path.append(str(_compiled()))


def _load(name: str) -> Any:  # Any: the classes exist only once they are compiled
    return importlib.import_module(f"saldo.{name}")


note_pb2 = _load("notebook.v1.note_pb2")
events_pb2 = _load("notebook.v1.events_pb2")
notebook_pb2 = _load("notebook.v1.notebook_service_pb2")
notebook_grpc = _load("notebook.v1.notebook_service_pb2_grpc")
archive_events_pb2 = _load("archive.v1.events_pb2")
archive_pb2 = _load("archive.v1.archive_service_pb2")
archive_grpc = _load("archive.v1.archive_service_pb2_grpc")
