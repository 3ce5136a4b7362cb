"""The options that describe an image, shared by the commands that create and change one."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Annotated, Any, cast, get_type_hints

import typer

from ims.cli.choices import choice
from ims.client import Image, OperatingSystem
from ims.client.vocabulary import Architecture, Firmware, OsType, TagFilter


class Options:
    """What can always be said of an image. Each is an option, and None where it is not given."""

    description: Annotated[str | None, typer.Option(help="At most 1024 characters, in one line.")]
    os_type: Annotated[
        OsType | None, choice("--os-type", words=OperatingSystem.Type, help="The family of its OS.")
    ]
    os_platform: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its distribution, for instance Debian.")
    ]
    os_version: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its version, for instance 'Debian 12.0 64bit'.")
    ]
    os_bits: Annotated[int | None, typer.Option(metavar="32|64", help="Its word size.")]
    architecture: Annotated[
        Architecture | None,
        choice("--architecture", words=Image.Architecture, help="The processor it is made for."),
    ]
    firmware: Annotated[
        Firmware | None, choice("--firmware", words=Image.Firmware, help="How its servers boot.")
    ]
    min_disk_gib: Annotated[
        int | None, typer.Option("--min-disk", metavar="GIB", help="The smallest disk it fits on.")
    ]
    min_ram_mib: Annotated[
        int | None, typer.Option("--min-ram", metavar="MIB", help="The least memory it needs; 0: any.")
    ]
    max_ram_mib: Annotated[
        int | None, typer.Option("--max-ram", metavar="MIB", help="The most it can use; 0: any.")
    ]
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag; up to ten times.")
    ]
    protected: Annotated[
        bool | None, typer.Option("--protected/--unprotected", help="Whether it refuses its deletion.")
    ]


class NewImageOptions(Options):
    """What can be said of an image that is created."""

    encryption_key_id: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Encrypt its bytes at rest with this key.")
    ]
    for_bms: Annotated[bool | None, typer.Option("--for-bms", help="It is for bare-metal servers.")]
    owner_tenant_id: Annotated[
        str | None,
        typer.Option("--owner", metavar="TENANT", help="For whom; only with the role service."),
    ]
    non_exportable: Annotated[
        bool | None,
        typer.Option("--non-exportable", help="Neither it nor a copy is ever exported; for good."),
    ]


def takes(options: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options to a command, which gets those that are given as `attributes`."""
    hints = get_type_hints(options, include_extras=True)

    def add_options(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(*args: object, **values: object) -> None:
            said = {name: values.pop(name) for name in hints}
            command(*args, **values, attributes=_attributes(said))

        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.name != "attributes"]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=None)
            for name, hint in hints.items()
        ]
        cast("Any", run).__signature__ = signature.replace(parameters=[*own, *added])
        return run

    return add_options


def parse_tags(tags: Iterable[str]) -> dict[str, str]:
    """Return tags that were given as KEY=VALUE. Raises BadParameter."""
    parsed = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals:
            raise typer.BadParameter(f"{tag!r} is not KEY=VALUE.", param_hint="--tag")
        parsed[key] = value
    return parsed


def parse_tag_filters(tags: Iterable[str]) -> list[TagFilter]:
    """Return tags that were given as KEY=VALUE, or as KEY for any value."""
    parts = (tag.partition("=") for tag in tags)
    return [TagFilter(key=key, value=value if equals else None) for key, equals, value in parts]


def _attributes(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the client's methods take: only what was said, and tags taken apart."""
    given = {name: value for name, value in said.items() if value not in (None, [])}
    if "tags" in given:
        given["tags"] = parse_tags(given["tags"])
    return given
