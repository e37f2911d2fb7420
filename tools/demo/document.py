"""Knows the files of a folder: their text, and the documents in them."""

from __future__ import annotations

from pathlib import Path

from common.document import BYTES_MAX, Fault, Malformed, Value, parse


def read(folder: Path, name: str) -> Value:
    """The document in a file of the folder."""
    return parse(read_text(folder, name, bytes_max=BYTES_MAX), name)


def read_text(folder: Path, name: str, *, bytes_max: int) -> str:
    """The text of a file of the folder."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Malformed([Fault(name, 1, 1, "lies outside of the folder")])
    except (OSError, ValueError) as error:
        raise Malformed([Fault(name, 1, 1, f"cannot be read: {error}")]) from None
    return text_of(path, name, bytes_max=bytes_max)


def text_of(path: Path, name: str, *, bytes_max: int) -> str:
    """A text in UTF-8, with or without a byte order mark; `name` is what faults call the file."""
    try:
        if path.stat().st_size > bytes_max:
            raise Malformed([Fault(name, 1, 1, f"is larger than {bytes_max} bytes")])
        content = path.read_bytes()
    except FileNotFoundError:
        raise Malformed([Fault(name, 1, 1, "there is no such file")]) from None
    except (OSError, ValueError) as error:
        raise Malformed([Fault(name, 1, 1, f"cannot be read: {error}")]) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        raise Malformed([Fault(name, line, column, f"is not UTF-8: byte {content[error.start]:#04x}")]) from None
