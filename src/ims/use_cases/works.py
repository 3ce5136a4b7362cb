"""How the operations of each kind are done."""

from collections.abc import Mapping
from typing import Final

from ims.domain.operation import OperationKind
from ims.use_cases.copying import Copying
from ims.use_cases.exporting import Exporting
from ims.use_cases.importing import Importing
from ims.use_cases.jobs import Work
from ims.use_cases.region_copying import RegionCopying

WORKS: Final[Mapping[OperationKind, Work]] = {
    OperationKind.COPY_IMAGE: Copying(),
    OperationKind.EXPORT_IMAGE: Exporting(),
    OperationKind.IMPORT_IMAGE: Importing(),
    OperationKind.COPY_IMAGE_TO_REGION: RegionCopying(),
}
