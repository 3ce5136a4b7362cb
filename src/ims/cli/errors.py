"""What goes wrong, as a person wants to read it and as a program does; never a traceback."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from ims.cli import printing
from ims.cli.advice import on_rejection
from ims.client import DamagedDownload, Declined, NoToken, Unreachable, Violation


class ExitCode(IntEnum):
    """What a script learns from the command's end."""

    OK = 0
    DECLINED = 1
    """The service declines it, or would."""
    WRONG_USAGE = 2
    UNREACHABLE = 3
    """No service has answered."""
    FILE_TROUBLE = 4
    """A file of this machine cannot be read or written, or did not arrive as it was sent."""
    MISTAKE = 70
    """A mistake of the command's own."""


class TroubleTeller(TyperGroup):
    """The group of all commands: whatever they raise is told, and becomes an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer keeps the type of a context private
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # who reads our output has seen enough; typer knows how to end then
        except KeyboardInterrupt as interrupt:
            for note in _notes(interrupt):
                typer.echo(note, err=True)
            raise
        except (Declined, Unreachable, NoToken, DamagedDownload, OSError) as error:
            trouble = _trouble(error, command=ctx.obj.command)
        except Exception as error:
            if hasattr(error, "exit_code") or ctx.obj.traceback:  # the former are typer's own
                raise
            trouble = _mistake(error)
        if ctx.obj.json:
            printing.print_json({"error": trouble.document()})
        else:
            printing.console(stderr=True).print(trouble.text(), soft_wrap=True)
        raise typer.Exit(trouble.exit_code)


@dataclass(frozen=True)
class Trouble:
    """Something that has gone wrong."""

    exit_code: ExitCode
    code: str
    """The name of a gRPC status, or of what happened on this side."""
    title: str
    message: str
    violations: tuple[Violation, ...] = ()
    notes: tuple[str, ...] = ()
    """What else has come of it."""
    advice: tuple[str, ...] = ()
    request_id: str = ""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> Text:
        """Return it as a person wants to read it."""
        text = Text.assemble((self.title, "bold red"), f" ({self.code})\n")
        for violation in self.violations:
            sentence = printing.plain(_sentence(violation))
            text.append("  ").append(violation.reason, "bold").append(f"{sentence}\n")
        if not self.violations:
            text.append(f"  {printing.plain(self.message)}\n")
        for note in self.notes:
            text.append(f"  {note}\n")
        for advice in self.advice:
            text.append("  → ", "green").append(f"{advice}\n")
        if self.request_id:
            text.append(f"  request id {self.request_id}\n", "dim")
        text.rstrip()
        return text

    def document(self) -> dict[str, Any]:
        """Return it as a program wants to read it: always the same keys."""
        return {
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
            "metadata": dict(self.metadata),
            "violations": [asdict(violation) for violation in self.violations],
            "notes": list(self.notes),
            "advice": list(self.advice),
            "request_id": self.request_id,
        }


def _sentence(violation: Violation) -> str:
    # Most messages name their subject; one that came without its sentence has nothing else to say.
    subject = "" if violation.subject in violation.message else violation.subject
    return "".join(f": {part}" for part in (subject, violation.message) if part)


def _trouble(error: Exception, *, command: str) -> Trouble:
    notes = _notes(error)
    match error:
        case Declined():
            return Trouble(
                ExitCode.DECLINED,
                error.code,
                f"`{command}` was declined",
                error.message,
                violations=tuple(error.violations),
                notes=notes,
                advice=tuple(on_rejection(error)),
                request_id=error.request_id,
                reason=error.reason,
                metadata=error.metadata,
            )
        case Unreachable():
            return Trouble(
                ExitCode.UNREACHABLE,
                "UNREACHABLE",
                "The service was not reached",
                str(error),
                notes=notes,
                advice=("Is it running there? --server or IMS_SERVER says where it is.",),
            )
        case NoToken():
            return Trouble(
                ExitCode.UNREACHABLE,
                "NO_TOKEN",
                "There is nothing to prove who you are",
                str(error),
                notes=notes,
            )
        case DamagedDownload():
            return Trouble(
                ExitCode.FILE_TROUBLE,
                "DAMAGED_DOWNLOAD",
                "The download is damaged and was thrown away",
                str(error),
                advice=("Try again.",),
            )
        case _:
            return Trouble(
                ExitCode.FILE_TROUBLE,
                "FILE_TROUBLE",
                "Trouble with a file",
                _of_file(error),
                notes=notes,
            )


def _notes(error: BaseException) -> tuple[str, ...]:
    return tuple(getattr(error, "__notes__", ()))


def _of_file(error: Exception) -> str:
    if isinstance(error, FileExistsError):
        return f"{error.filename} is there already; --overwrite takes its place."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _mistake(error: Exception) -> Trouble:
    return Trouble(
        ExitCode.MISTAKE,
        "MISTAKE",
        "A mistake of ims itself",
        f"{type(error).__name__}: {error}",
        advice=("`ims --traceback …` shows where it happens, for the people who mend it.",),
    )
