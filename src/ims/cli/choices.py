"""Options whose values are words of the contract."""

from datetime import UTC, datetime
from typing import Any, Protocol

import typer
from typer.models import OptionInfo


class Vocabulary(Protocol):
    """An enum of the contract."""

    def items(self) -> list[tuple[str, Any]]: ...


def moment(name: str, *, help: str) -> OptionInfo:  # noqa: A002 - typer's name
    """Return an option that takes a time; one that names no time zone is in UTC."""

    def parse(text: str) -> datetime:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no time like 2026-01-31T12:00.") from None
        return time if time.tzinfo else time.replace(tzinfo=UTC)

    option: OptionInfo = typer.Option(name, parser=parse, metavar="TIME", help=help, show_default=False)
    return option


def choice(*names: str, words: Vocabulary, help: str) -> OptionInfo:  # noqa: A002 - typer's name
    """Return an option that takes one of the words, in upper or lower case, with `-` or `_`."""
    values = {name: value for name, value in words.items() if not name.endswith("_UNSPECIFIED")}
    spelled = "|".join(name.lower().replace("_", "-") for name in values)

    def parse(text: str) -> int:
        name = text.upper().replace("-", "_")
        if name not in values:
            raise typer.BadParameter(f"{text!r} is not one of {spelled}.")
        return int(values[name])

    option: OptionInfo = typer.Option(
        *names, parser=parse, metavar=spelled, help=help, show_default=False
    )
    return option
