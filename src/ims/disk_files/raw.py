"""Examines raw disks, of which there is nothing to know but their size."""

from collections.abc import Iterator

from ims.disk_files.examiner import End, Examiner


class RawExaminer(Examiner):
    """Examines what announces itself as nothing: a server sees the file as it is."""

    @property
    def capacity_bytes(self) -> None:
        return None

    def _end_dangers(self, end: End) -> Iterator[str]:
        if end.size_bytes == 0:
            yield "the file is empty"
