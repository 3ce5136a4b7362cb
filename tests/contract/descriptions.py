"""What is said in words: comments of the protos, lines of the law, rows of its table."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorSet
from google.rpc.code_pb2 import Code

ROOT = Path(__file__).parent.parent.parent
STATUSES = frozenset(Code.keys())

# --- protos ---


@dataclass(frozen=True)
class Described:
    """Something that a proto defines, with the comment above it."""

    kind: str
    name: str
    """The full name, from the package on."""
    comment: str


def _definitions() -> Iterator[Described]:
    descriptors = FileDescriptorSet.FromString(
        files("ims.v1").joinpath("descriptors.binpb").read_bytes()
    )
    for file in descriptors.file:
        if file.package != "ims.v1":
            continue
        comments = {
            tuple(place.path): place.leading_comments for place in file.source_code_info.location
        }
        for kind, name, path in _in_file(file):
            yield Described(kind, f"{file.package}.{name}", comments.get(path, ""))


Found = Iterator[tuple[str, str, tuple[int, ...]]]

# The numbers are those of the fields of descriptor.proto, of which the paths of comments are made.


def _in_file(file) -> Found:
    for index, message in enumerate(file.message_type):
        yield from _in_message(message, message.name, (4, index))
    for index, enum in enumerate(file.enum_type):
        yield from _in_enum(enum, enum.name, (5, index))
    for index, service in enumerate(file.service):
        yield "service", service.name, (6, index)
        for number, method in enumerate(service.method):
            yield "method", f"{service.name}.{method.name}", (6, index, 2, number)


def _in_message(message: DescriptorProto, name: str, path: tuple[int, ...]) -> Found:
    if message.options.map_entry:
        return
    yield "message", name, path
    for index, field in enumerate(message.field):
        yield "field", f"{name}.{field.name}", (*path, 2, index)
    optional = {field.oneof_index for field in message.field if field.proto3_optional}
    for index, oneof in enumerate(message.oneof_decl):
        if index not in optional:  # or the compiler made it, for a field that can be left out
            yield "oneof", f"{name}.{oneof.name}", (*path, 8, index)
    for index, nested in enumerate(message.nested_type):
        yield from _in_message(nested, f"{name}.{nested.name}", (*path, 3, index))
    for index, enum in enumerate(message.enum_type):
        yield from _in_enum(enum, f"{name}.{enum.name}", (*path, 4, index))


def _in_enum(enum: EnumDescriptorProto, name: str, path: tuple[int, ...]) -> Found:
    yield "enum", name, path
    for index, value in enumerate(enum.value):
        yield "value", f"{name}.{value.name}", (*path, 2, index)


DEFINITIONS = tuple(_definitions())
COMMENTS = {each.name: each.comment for each in DEFINITIONS}


@dataclass(frozen=True)
class DescribedReason:
    """A reason as error_reason.proto explains it: law, sentence, status, and an example."""

    laws: frozenset[str]
    prose: str
    status: str
    example: str


def described_reasons() -> dict[str, DescribedReason]:
    """Return what error_reason.proto says of each reason but the unspecified one."""
    prefix = "ims.v1.ErrorReason."
    return {
        name.removeprefix(prefix): _described_reason(comment)
        for name, comment in COMMENTS.items()
        if name.startswith(prefix) and not name.endswith("_UNSPECIFIED")
    }


def _described_reason(comment: str) -> DescribedReason:
    prose, _, example = comment.partition("\n\n")
    found = re.fullmatch(
        r"(?P<laws>[\d., ]+): (?P<prose>.*) (?P<status>[A-Z_]+)\.", " ".join(prose.split())
    )
    assert found, f"no law, sentence and status in: {comment}"
    return DescribedReason(
        frozenset(found["laws"].split(", ")), found["prose"], found["status"], example.strip()
    )


# --- the law ---


def law_lines() -> dict[str, str]:
    """Return the numbered lines of docs/law.md by their numbers."""
    text = (ROOT / "docs" / "law.md").read_text()
    found = re.findall(r"^- (\d+\.\d+) (.*(?:\n  .*)*)", text, flags=re.MULTILINE)
    return {number: " ".join(sentence.split()) for number, sentence in found}


def law_sections() -> frozenset[str]:
    """Return the numbers of the sections of docs/law.md."""
    text = (ROOT / "docs" / "law.md").read_text()
    return frozenset(re.findall(r"^## (\d+)\. ", text, flags=re.MULTILINE))


@dataclass(frozen=True)
class Row:
    """A row of the table in docs/rules.md."""

    law: str
    sentence: str
    held_by: tuple[str, ...]
    """The rule, or the tests; empty where the row says that it is not yet held."""
    reasons: tuple[str, ...]
    status: str

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(each for each in self.held_by if "::" not in each)

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(each for each in self.held_by if "::" in each)


def rows() -> tuple[Row, ...]:
    """Return the rows of docs/rules.md."""
    text = (ROOT / "docs" / "rules.md").read_text()
    return tuple(_row(line) for line in text.splitlines() if re.match(r"\| \d", line))


def _row(line: str) -> Row:
    law, sentence, held_by, reasons, status = (cell.strip() for cell in line.strip("|").split(" | "))
    assert "`" in held_by or held_by.startswith("not yet"), f"held by nothing: {line}"
    return Row(law, sentence, _quoted(held_by), _quoted(reasons), status.strip("—"))


def _quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))
