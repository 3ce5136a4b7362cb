"""Who examines a file of which format."""

from collections.abc import Mapping
from typing import Final

from ims.disk_files.examiner import Examiner
from ims.disk_files.iso import IsoExaminer
from ims.disk_files.qcow import Qcow2Examiner, QcowExaminer
from ims.disk_files.qed import QedExaminer
from ims.disk_files.vdi import VdiExaminer
from ims.disk_files.vhd import DynamicVhdExaminer
from ims.disk_files.vhdx import VhdxExaminer
from ims.disk_files.vmdk import VmdkExaminer
from ims.domain.image import DiskFormat

EXAMINERS: Final[Mapping[DiskFormat, type[Examiner]]] = {
    DiskFormat.QCOW2: Qcow2Examiner,
    DiskFormat.QCOW: QcowExaminer,
    DiskFormat.QED: QedExaminer,
    DiskFormat.VMDK: VmdkExaminer,
    DiskFormat.VHD: DynamicVhdExaminer,
    DiskFormat.VHDX: VhdxExaminer,
    DiskFormat.VDI: VdiExaminer,
    DiskFormat.ISO: IsoExaminer,
}
"""Of every format that a file can announce: all but RAW."""
