"""How answers look: tables and sheets for people, protobuf JSON for programs."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final, cast

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table

from ims.client import (
    AuditEvent,
    Disk,
    ErrorReason,
    Image,
    OperatingSystem,
    Operation,
    OperationMetadata,
    ReceivedShare,
    Refusal,
    Relation,
    Share,
    Tenant,
    TenantUsage,
    TrustRules,
    UsageSummary,
    Use,
    metadata_of,
)
from ims.client.vocabulary import (
    ImageClass,
    ResolveImageResponse,
    ShareImageResponse,
    TenantQuotas,
)

_UNLIMITED_COLUMNS: Final = 10_000
_KIB: Final = 1024
_FOLDED: Final = {"WHY", "SHA-256"}


def console(*, stderr: bool = False) -> Console:
    """Return where to print; where nobody looks at a screen, no line is broken."""
    output = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not output.is_terminal:
        output.width = _UNLIMITED_COLUMNS
    return output


def print_for_people(answer: RenderableType) -> None:
    """Print an answer, never with parts missing: rather than that, the terminal breaks lines."""
    output = console()
    unlimited = output.options.update(max_width=_UNLIMITED_COLUMNS)
    output.width = max(output.width, output.measure(answer, options=unlimited).minimum)
    output.print(answer, soft_wrap=isinstance(answer, str))


def as_json(message: Message) -> dict[str, Any]:
    """Return a message as protobuf JSON; lists and texts are there when they are empty, too."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one JSON document of this run."""
    json.dump(document, sys.stdout, indent=2)  # in ASCII: a script may live in any locale
    sys.stdout.write("\n")


def plain(text: str) -> str:
    """Return a text without what a terminal would obey: much of it is written by other tenants."""
    return "".join(
        each if each == "\n" or unicodedata.category(each) != "Cc" else "\N{REPLACEMENT CHARACTER}"
        for each in text
    )


def size(size_bytes: int) -> str:
    """Return a size as people read it, for instance `1.5 GiB`."""
    number = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < _KIB:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= _KIB
    return f"{number:.1f} TiB"


def time(timestamp: Timestamp) -> str:
    """Return a time in the reader's own time zone, to the minute; nothing where there is none."""
    if not timestamp.seconds:
        return ""
    return timestamp.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def count(number: int, thing: str) -> str:
    """Return a number of things, for instance `2 shares`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def image_title(image: Image) -> str:
    """Return how an image is called in a sentence."""
    return plain(f"{image.name} ({image.id})" if image.id else image.name)


def image_table(images: Sequence[Image]) -> RenderableType:
    """Return a line for each image."""
    if not images:
        return "No images."
    return _table(
        ("ID", "NAME", "TYPE", "STATE", "CLASS", "SIZE", "OWNER", "CREATED"),
        (
            (
                image.id,
                image.name,
                Image.Type.Name(image.type),
                Image.State.Name(image.state),
                Image.Class.Name(_class(image)),
                size(sum(disk.size_bytes for disk in image.disks)),
                image.owner_tenant_id,
                time(image.create_time),
            )
            for image in images
        ),
    )


def image_sheet(image: Image) -> RenderableType:
    """Return everything about one image."""
    return Group(_sheet(_image_lines(image)), "", _disk_table(image.disks))


def end_of(share: Share) -> str:
    """Return when a share ends by itself; nothing where it does not."""
    return time(share.expire_time) if share.HasField("expire_time") else ""


def trust_table(rules: TrustRules) -> RenderableType:
    """Return a line for each of a tenant's trust rules."""
    limited = rules.HasField("max_pending_shares")
    return _table(
        ("RULE", "SAYS"),
        (
            ("accepted at once from", ", ".join(rules.auto_accept_from) or "nobody"),
            ("not seen from", ", ".join(rules.blocked) or "nobody"),
            ("pending at most", str(rules.max_pending_shares) if limited else "as the service says"),
        ),
    )


def share_table(shares: Sequence[Share]) -> RenderableType:
    """Return a line for each share of an image."""
    if not shares:
        return "Shared with nobody."
    return _table(
        ("TENANT", "REGION", "STATUS", "SHARED", "DECIDED", "ENDS"),
        (
            (
                share.tenant_id,
                share.region,
                Share.Status.Name(share.status),
                time(share.create_time),
                "" if share.status == Share.PENDING else time(share.update_time),
                end_of(share),
            )
            for share in shares
        ),
    )


def received_table(received: Sequence[ReceivedShare]) -> RenderableType:
    """Return a line for each image that others share with the caller."""
    if not received:
        return "Nothing has been shared with you."
    return _table(
        ("ID", "NAME", "TYPE", "OWNER", "STATUS", "SHARED", "ENDS"),
        (
            (
                each.image.id,
                each.image.name,
                Image.Type.Name(each.image.type),
                each.image.owner_tenant_id,
                Share.Status.Name(each.share.status),
                time(each.share.create_time),
                end_of(each.share),
            )
            for each in received
        ),
    )


def share_results(answer: ShareImageResponse, *, advice: Iterable[str]) -> RenderableType:
    """Return how sharing went, or would go: for the image as such, and for each tenant."""
    refused = any(result.refusals for result in answer.results)
    return Group(
        *(
            f"The image: {ErrorReason.Name(each.reason)}: {each.message}"
            for each in answer.image_refusals
        ),
        _table(
            ("TENANT", "REGION", "STATUS", *(("REFUSED BY", "WHY") if refused else ())),
            (
                (
                    result.tenant_id,
                    result.share.region,
                    Share.Status.Name(result.share.status) if result.HasField("share") else "",
                    *(_refusals(result.refusals) if refused else ()),
                )
                for result in answer.results
            ),
        ),
        f"{answer.share_count} of {count(answer.share_limit, 'share')}.",
        *(f"→ {each}" for each in advice),
    )


def use_table(uses: Sequence[Use]) -> RenderableType:
    """Return a line for each use."""
    if not uses:
        return "No uses are registered."
    return _table(
        ("IMAGE", "KIND", "SERVER OR VOLUME", "REGISTERED"),
        (
            (use.image_id, Use.Kind.Name(use.kind), use.consumer_id, time(use.create_time))
            for use in uses
        ),
    )


def audit_table(events: Sequence[AuditEvent]) -> RenderableType:
    """Return a line for each event."""
    if not events:
        return "Nothing is on record."
    return _table(
        ("TIME", "WHO", "ACTION", "IMAGE", "TENANT", "RESULT", "DETAILS"),
        (
            (
                time(event.time),
                plain(_actor(event.actor)),
                event.action,
                plain(event.image_name) or event.image_id,
                event.counterpart_tenant_id,
                event.result,
                plain(" ".join(f"{name}={value}" for name, value in sorted(event.details.items()))),
            )
            for event in events
        ),
    )


def _actor(actor: AuditEvent.Actor) -> str:
    kind = AuditEvent.Actor.Kind.Name(actor.kind).lower()
    if actor.kind != AuditEvent.Actor.TENANT and not actor.tenant_id:
        return f"({kind})"
    who = f"{actor.tenant_id}/{actor.user_id}" if actor.user_id else actor.tenant_id
    return f"{who} for {actor.acting_for_tenant_id}" if actor.acting_for_tenant_id else who


def usage_table(usages: Sequence[TenantUsage]) -> RenderableType:
    """Return a line for each tenant that uses an image."""
    if not usages:
        return "No uses are registered."
    return _table(
        ("TENANT", "ECS", "BMS", "VOLUMES"),
        (
            (
                usage.tenant_id or "(others, while it was public)",
                str(usage.ecs_count),
                str(usage.bms_count),
                str(usage.volume_count),
            )
            for usage in usages
        ),
    )


def hits(
    summary: UsageSummary, refusals: Sequence[Refusal], *, outcome: str, advice: Iterable[str]
) -> RenderableType:
    """Return what something would hit, and the rules that would refuse it."""
    lines: list[RenderableType] = [outcome]
    if summary.use_count:
        servers = count(summary.use_count, "registered use")
        lines += [f"{servers} of {count(summary.tenant_count, 'tenant')}:", usage_table(summary.usages)]
    else:
        lines.append("No uses are registered.")
    lines += [f"Refused: {ErrorReason.Name(each.reason)}: {plain(each.message)}" for each in refusals]
    if not refusals:
        lines.append("Nothing refuses it.")
    return Group(*lines, *(f"→ {each}" for each in advice))


def quota_table(quotas: TenantQuotas) -> RenderableType:
    """Return a line for each quota of a tenant."""
    return _table(
        ("QUOTA", "USED", "LIMIT", "SET BY"),
        (
            (title, show(quota.used), show(quota.limit), "override" if quota.overridden else "default")
            for title, quota, show in (
                ("private images", quotas.private_images, str),
                ("stored bytes", quotas.stored_bytes, size),
                ("creations at once", quotas.creations, str),
                ("copies at once", quotas.copies, str),
            )
        ),
    )


def operation_table(operations: Sequence[Operation]) -> RenderableType:
    """Return a line for each operation."""
    if not operations:
        return "No operations."
    return _table(
        ("OPERATION", "KIND", "STATE", "DONE", "IMAGE", "BEGUN", "ENDED"),
        (
            (
                operation.name,
                OperationMetadata.Kind.Name(metadata.kind),
                OperationMetadata.State.Name(metadata.state),
                _progress(metadata),
                metadata.image_id,
                time(metadata.create_time),
                time(metadata.end_time),
            )
            for operation, metadata in ((each, metadata_of(each)) for each in operations)
        ),
    )


def operation_sheet(operation: Operation) -> RenderableType:
    """Return everything about one operation."""
    metadata = metadata_of(operation)
    return _sheet(
        (
            ("name", operation.name),
            ("kind", OperationMetadata.Kind.Name(metadata.kind)),
            ("state", OperationMetadata.State.Name(metadata.state)),
            ("done", _progress(metadata)),
            ("image", metadata.image_id),
            ("source image", metadata.source_image_id),
            ("exported to", _target(metadata)),
            ("cancelled", "on its way" if metadata.cancel_requested and not operation.done else ""),
            ("error", operation.error.message),
            ("begun", time(metadata.create_time)),
            ("ended", time(metadata.end_time)),
            ("forgotten", time(metadata.expire_time)),
        )
    )


def _target(metadata: OperationMetadata) -> str:
    target = metadata.export_target
    return f"s3://{target.bucket}/{target.object_key}" if target.bucket else ""


def _progress(metadata: OperationMetadata) -> str:
    if not metadata.total_bytes:
        return ""
    return f"{size(metadata.done_bytes)} of {size(metadata.total_bytes)}"


def tenant_table(tenants: Sequence[Tenant]) -> RenderableType:
    """Return a line for each tenant of the directory."""
    if not tenants:
        return "No tenants."
    return _table(
        ("TENANT", "REGION", "STATE", "NEW SHARES", "REGISTERED"),
        (
            (
                tenant.id,
                tenant.region,
                Tenant.State.Name(tenant.state),
                "blocked" if tenant.sharing_blocked else "",
                time(tenant.register_time),
            )
            for tenant in tenants
        ),
    )


def tenant_sheet(tenant: Tenant) -> RenderableType:
    """Return everything that the directory says of a tenant."""
    return _sheet(
        (
            ("id", tenant.id),
            ("region", tenant.region),
            ("state", Tenant.State.Name(tenant.state)),
            ("new shares", "blocked" if tenant.sharing_blocked else ""),
            ("registered", time(tenant.register_time)),
            ("suspended", time(tenant.suspend_time)),
        )
    )


def resolution_sheet(answer: ResolveImageResponse) -> RenderableType:
    """Return what a consumer of an image gets."""
    lines = [
        ("id", answer.image_id),
        ("etag", answer.etag),
        ("relation", Relation.Kind.Name(answer.relation)),
        *_needs(answer),
    ]
    return Group(_sheet(lines), "", _disk_table(each.disk for each in answer.disks))


def _sheet(lines: Iterable[tuple[str, str]]) -> Table:
    """Return titles with their values, but for those that have none."""
    sheet = Table.grid(padding=(0, 2))
    for title, value in lines:
        if value:
            sheet.add_row(title, plain(value))
    return sheet


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table in which ids, names and times are never broken, however narrow the terminal."""
    rows = list(rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title, *cells in zip(titles, *rows, strict=True):
        lines = [line for cell in (title, *cells) for line in cell.splitlines()]
        widest = max(map(cell_len, lines))
        table.add_column(title, overflow="fold", min_width=None if title in _FOLDED else widest)
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def _disk_table(disks: Iterable[Disk]) -> Table:
    return _table(
        ("DISK", "ROLE", "FORMAT", "STATE", "SIZE", "CAPACITY", "SHA-256"),
        (
            (
                str(disk.index),
                Disk.Role.Name(disk.role),
                Disk.Format.Name(disk.format),
                "DAMAGED" if disk.damaged else Disk.State.Name(disk.state),
                size(disk.size_bytes) if disk.size_bytes else "",
                size(disk.capacity_bytes) if disk.capacity_bytes else "",
                disk.sha256,
            )
            for disk in disks
        ),
    )


def _refusals(refusals: Iterable[Refusal]) -> tuple[str, str]:
    """Return the cells with the rules that refuse one tenant, and what they say."""
    return (
        "\n".join(ErrorReason.Name(each.reason) for each in refusals),
        "\n".join(each.message for each in refusals),
    )


def _image_lines(image: Image) -> Iterator[tuple[str, str]]:
    yield "id", image.id
    yield "name", image.name
    yield "description", image.description
    yield "type", Image.Type.Name(image.type)
    yield "state", Image.State.Name(image.state)
    yield "deactivated by", "an administrator" if image.deactivated_by_administrator else ""
    yield "class", Image.Class.Name(_class(image))
    yield "owner", image.owner_tenant_id
    yield "you", _RELATIONS.get(image.relation, "")
    yield "region", image.region
    yield from _needs(image)
    yield "tags", ", ".join(f"{key}={value}" for key, value in sorted(image.tags.items()))
    yield "source", _source(image)
    yield "encrypted", f"with the key {image.encryption_key_id}" if image.encryption_key_id else ""
    yield "protected", "from deletion" if image.protected else ""
    yield "exported", "never" if image.non_exportable else ""
    yield "for", "bare-metal servers" if image.for_bms else ""
    yield "created", time(image.create_time)
    yield "updated", time(image.update_time)
    yield "deleted", time(image.delete_time)
    yield "restorable until", time(image.purge_time)
    yield "etag", image.etag


_RELATIONS: Final = {
    Relation.OWNED: "own it",
    Relation.SHARED_WITH_ME: "have it by sharing",
    Relation.PUBLIC: "see it as everybody does",
}


def _needs(image: Image | ResolveImageResponse) -> Iterator[tuple[str, str]]:
    """Yield what a server made from an image has to be like."""
    if image.HasField("os"):
        words = (image.os.platform, image.os.version, f"{image.os.bits}-bit" if image.os.bits else "")
        yield "os", " ".join([OperatingSystem.Type.Name(image.os.type), *filter(None, words)])
    if image.architecture:
        yield "architecture", Image.Architecture.Name(image.architecture)
    if image.firmware:
        yield "firmware", Image.Firmware.Name(image.firmware)
    yield "min disk", f"{image.min_disk_gib} GiB" if image.min_disk_gib else ""
    yield "min memory", f"{image.min_ram_mib} MiB" if image.min_ram_mib else ""
    yield "max memory", f"{image.max_ram_mib} MiB" if image.max_ram_mib else ""


def _source(image: Image) -> str:
    origin = image.source.WhichOneof("origin")
    if origin is None:
        return ""
    facts = as_json(getattr(image.source, origin))
    said = ", ".join(
        str(value) for key, value in facts.items() if value and "UNSPECIFIED" not in str(value)
    )
    return f"{origin.replace('_', ' ')} {said}".strip()


def _class(image: Image) -> ImageClass:
    return cast("ImageClass", getattr(image, "class"))  # a word that Python keeps for itself
