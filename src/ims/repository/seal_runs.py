"""The runs of a sealed blob, as JSON has them."""

from collections.abc import Iterable
from typing import Any

from ims.domain.image import SealRun


def to_documents(runs: Iterable[SealRun]) -> list[dict[str, Any]]:
    """Return runs as documents."""
    return [{"first_chunk": run.first_chunk, "salt": run.salt.hex()} for run in runs]


def to_seal_runs(documents: Iterable[dict[str, Any]]) -> tuple[SealRun, ...]:
    """Return the runs that documents hold."""
    return tuple(
        SealRun(first_chunk=each["first_chunk"], salt=bytes.fromhex(each["salt"])) for each in documents
    )
