"""Knows what every event says, who announces it and who listens.

`python -m tools.event_catalogue` writes docs/events.md from the contracts and the `HANDLERS` of the services;
`python -m tools.event_catalogue check` says whether the committed file is up to date.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import status_pb2
from grpc_tools import protoc

from common import outbox
from tools import protos
from tools.databases import SERVICES

PAGE = protos.PROTOS.parent / "docs/events.md"

HEAD = """# Events

<!-- Written by `python -m tools.event_catalogue` from protos/ and the HANDLERS of the services. Do not edit. -->

What each service announces. An event is a protobuf message; subject, stream and filters are derived from its name. It
travels as the data of a NATS message whose headers follow the CloudEvents binding:

| header | what it says |
|---|---|
| `ce-id` | the event's TypeID (`evt_…`): the same on every delivery, the key of the inbox |
| `ce-type` | the full name of the message, which is also the subject |
| `ce-source` | `saldo/` and the service that announced it |
| `ce-time` | the instant of the transaction, in the seller's own time |
| `ce-subject` | the id of the resource it is about |
| `ce-sequence` | the number of the event among those of this resource, from 1 without a gap |
| `ce-seller` | the seller |
| `traceparent` | the trace in which it happened |

Delivery is at least once and in no guaranteed order: handle an event by its `ce-id` once, and keep the resource with
the highest `revision`. Events carry no personal data (decision [0005](decisions/0005-no-personal-data-in-events.md)).
"""


def page() -> str:
    """The whole document."""
    parts = [HEAD]
    listeners = _listeners()
    for service in SERVICES:
        module = importlib.import_module(f"saldo.{service}.v1.events_pb2")
        stream = outbox.stream_of_package(module.DESCRIPTOR.package)
        parts.append(f"\n## {service}\n\nStream `{stream}`, subjects `{module.DESCRIPTOR.package}.>`.\n")
        parts += [_entry(event, listeners.get(event.full_name, [])) for event in _events(module)]
    return "".join(parts)


def main() -> int:
    match sys.argv[1:]:
        case []:
            PAGE.write_text(page())
            return 0
        case ["check"]:
            if PAGE.is_file() and PAGE.read_text() == page():
                return 0
            print("docs/events.md is out of date: run `python -m tools.event_catalogue`", file=sys.stderr)
            return 1
    print("usage: python -m tools.event_catalogue [check]", file=sys.stderr)
    return 2


def _entry(event: Descriptor, listeners: list[str]) -> str:
    comments = _comments()
    lines = [f"\n### {event.name}\n", comments[event.full_name], ""]
    lines += [f"Subject `{event.full_name}`. Heard by: {', '.join(listeners) or 'nobody inside the suite'}.", ""]
    lines += ["| field | type | |", "|---|---|---|"]
    lines += [f"| `{field.name}` | `{_type(field)}` | {comments[field.full_name]} |" for field in event.fields]
    return "\n".join(lines) + "\n"


def _events(module: ModuleType) -> list[Descriptor]:
    """In the order of the contract."""
    return list(module.DESCRIPTOR.message_types_by_name.values())


def _listeners() -> dict[str, list[str]]:
    """Services by the full name of the event they handle."""
    found: dict[str, list[str]] = {}
    for service in SERVICES:
        if importlib.util.find_spec(f"{service}.consumers") is None:
            continue
        for event in importlib.import_module(f"{service}.consumers").HANDLERS:
            found.setdefault(event.DESCRIPTOR.full_name, []).append(service)
    return found


def _type(field: FieldDescriptor) -> str:
    name = field.message_type.full_name if field.message_type is not None else "string"
    return f"repeated {name}" if field.is_repeated else name


_known: dict[str, str] = {}


def _comments() -> dict[str, str]:
    """What the contracts say about messages and fields, by full name. Generated classes do not keep it."""
    if not _known:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.binpb"
            _describe(image)
            described = FileDescriptorSet.FromString(image.read_bytes())
        for file in described.file:
            _known.update(_file_comments(file))
    return _known


def _describe(image: Path) -> None:
    shared = Path(status_pb2.__file__).parents[2]
    contracts = [str(path.relative_to(protos.PROTOS)) for path in protos.sources()]
    roots = (protos.PROTOS, shared, Path(protoc.__file__).parent / "_proto")
    arguments = [*(f"--proto_path={root}" for root in roots), "--include_source_info", f"--descriptor_set_out={image}"]
    if protoc.main(["protoc", *arguments, *contracts]) != 0:
        raise SystemExit("the contracts do not compile")


def _file_comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    # A path is made of numbers of descriptor.proto: 4 is a message of a file, 2 a field of a message.
    for location in file.source_code_info.location:
        text = " ".join(location.leading_comments.split())
        match list(location.path):
            case [4, message]:
                yield f"{file.package}.{file.message_type[message].name}", text
            case [4, message, 2, field]:
                owner = file.message_type[message]
                yield f"{file.package}.{owner.name}.{owner.field[field].name}", text


if __name__ == "__main__":
    raise SystemExit(main())
