"""The one way in which a request is declined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum, auto


class Step(IntEnum):
    """The order of judgement (law 2): what an earlier step decides hides what later ones would say."""

    WHO_CALLS = auto()
    MAY_YOU_KNOW_OF_IT = auto()
    MAY_YOU_DO_IT = auto()
    IS_IT_WELL_FORMED = auto()
    IS_THE_STATE_RIGHT = auto()
    DO_THE_RULES_ALLOW_IT = auto()
    IS_IT_TOO_MUCH = auto()
    CAN_THE_SERVICE_DO_IT = auto()


class Category(Enum):
    """How a caller should react to a rejection."""

    UNAUTHENTICATED = auto()
    """Say who you are."""
    SUSPENDED = auto()
    """The tenant that you call for may do nothing, until an administrator lets it."""
    MISSING = auto()
    """There is no such thing (for you)."""
    FORBIDDEN = auto()
    """You may not, whatever the state."""
    MALFORMED = auto()
    """Fix the request; it can never succeed as it is."""
    OUT_OF_RANGE = auto()
    """Ask for a part that exists."""
    CONFLICT = auto()
    """Somebody was faster; read and try again."""
    WRONG_STATE = auto()
    """Wait, or bring the image into another state first."""
    AGAINST_RULES = auto()
    """The law forbids it for an image or a tenant such as this."""
    UNKNOWN_TENANT = auto()
    """The tenant directory does not name the other side."""
    EXISTS = auto()
    """There is one already."""
    OVER_LIMIT = auto()
    """A limit or a quota is used up."""
    CORRUPT = auto()
    """What we stored is damaged."""
    CANCELLED = auto()
    """Somebody of your tenant had it stopped."""
    UNAVAILABLE = auto()
    """Something the service needs is away; try again later."""

    @property
    def step(self) -> Step:
        """The step of judgement in which such a rejection is decided."""
        return _STEPS[self]


_STEPS = {
    Category.UNAUTHENTICATED: Step.WHO_CALLS,
    # Nothing is told to a suspended tenant, not even that there is nothing.
    Category.SUSPENDED: Step.WHO_CALLS,
    Category.MISSING: Step.MAY_YOU_KNOW_OF_IT,
    Category.FORBIDDEN: Step.MAY_YOU_DO_IT,
    Category.MALFORMED: Step.IS_IT_WELL_FORMED,
    Category.OUT_OF_RANGE: Step.IS_IT_WELL_FORMED,
    Category.CONFLICT: Step.IS_THE_STATE_RIGHT,
    Category.WRONG_STATE: Step.IS_THE_STATE_RIGHT,
    Category.AGAINST_RULES: Step.DO_THE_RULES_ALLOW_IT,
    Category.UNKNOWN_TENANT: Step.DO_THE_RULES_ALLOW_IT,
    Category.EXISTS: Step.DO_THE_RULES_ALLOW_IT,
    Category.OVER_LIMIT: Step.IS_IT_TOO_MUCH,
    Category.CORRUPT: Step.CAN_THE_SERVICE_DO_IT,
    Category.CANCELLED: Step.CAN_THE_SERVICE_DO_IT,
    Category.UNAVAILABLE: Step.CAN_THE_SERVICE_DO_IT,
}


class Reason(StrEnum):
    """What a program reads of a rejection; error_reason.proto documents each with an example."""

    @staticmethod
    def _generate_next_value_(name: str, *_others: object) -> str:
        return name

    # who calls
    UNAUTHENTICATED = auto()
    TENANT_SUSPENDED = auto()
    # may you know of it
    IMAGE_NOT_FOUND = auto()
    DISK_NOT_FOUND = auto()
    SHARE_NOT_FOUND = auto()
    UPLOAD_NOT_FOUND = auto()
    OPERATION_NOT_FOUND = auto()
    # may you do it
    NOT_IMAGE_OWNER = auto()
    ROLE_REQUIRED = auto()
    ONLY_RECIPIENT_DECIDES = auto()
    DEACTIVATED_BY_ADMINISTRATOR = auto()
    # is the request well formed
    UNREADABLE_REQUEST = auto()
    INVALID_FIELD = auto()
    FIELD_NOT_UPDATABLE = auto()
    INVALID_NAME = auto()
    RESERVED_NAME = auto()
    INVALID_DESCRIPTION = auto()
    INVALID_TAG = auto()
    TOO_MANY_TAGS = auto()
    INVALID_MIN_DISK = auto()
    INVALID_RAM = auto()
    INVALID_DISKS = auto()
    SOURCE_NOT_DECLARABLE = auto()
    SOURCE_DOES_NOT_FIT_TYPE = auto()
    BACKUP_SERVICE_REQUIRED = auto()
    BMS_NEEDS_SYSTEM_DISK = auto()
    SHARE_WITH_OWNER = auto()
    TOO_MANY_RECIPIENTS = auto()
    OFFSET_OUT_OF_RANGE = auto()
    UPLOAD_OFFSET_MISMATCH = auto()
    CHUNK_DAMAGED = auto()
    REQUEST_ID_REUSED = auto()
    ETAG_MISMATCH = auto()
    # is the state right
    IMAGE_NOT_ACTIVE = auto()
    IMAGE_BUSY = auto()
    IMAGE_DELETED = auto()
    IMAGE_NOT_DELETED = auto()
    IMAGE_NOT_DEACTIVATED = auto()
    IMAGE_DATA_FINAL = auto()
    UPLOAD_SUPERSEDED = auto()
    OPERATION_NOT_DONE = auto()
    # do the rules of sharing allow it
    PUBLIC_IMAGE_NOT_SHAREABLE = auto()
    CROSS_REGION_SHARE = auto()
    ENCRYPTED_IMAGE_NOT_SHAREABLE = auto()
    FULL_ECS_NOT_FROM_CBR = auto()
    BACKUP_IS_SHARED = auto()
    TENANT_NOT_FOUND = auto()
    SHARE_NOT_ACCEPTED = auto()
    VAULT_REQUIRED = auto()
    VAULT_TOO_SMALL = auto()
    EXPIRE_TIME_PASSED = auto()
    SHARING_BLOCKED = auto()
    # do the rules of images allow it
    DATA_DISK_FIELD_NOT_UPDATABLE = auto()
    PUBLIC_IMAGE_NOT_DELETABLE = auto()
    IMAGE_PROTECTED = auto()
    IMAGE_NOT_ENCRYPTABLE = auto()
    KEY_UNAVAILABLE = auto()
    MIN_DISK_TOO_SMALL = auto()
    DISK_CAPACITY_TOO_LARGE = auto()
    IMAGE_NAME_TAKEN = auto()
    BACKUP_ALREADY_USED = auto()
    ENCRYPTED_IMAGE_NOT_PUBLISHABLE = auto()
    IMAGE_TYPE_NOT_PUBLISHABLE = auto()
    # do the rules of the tenant directory allow it
    TENANT_ALREADY_REGISTERED = auto()
    # do the rules of image data allow it
    SIZE_MISMATCH = auto()
    DIGEST_MISMATCH = auto()
    FORMAT_MISMATCH = auto()
    UNSAFE_IMAGE_FILE = auto()
    UPLOAD_INCOMPLETE = auto()
    UPLOAD_NEEDS_CONVERSION = auto()
    UPLOAD_MODE_MISMATCH = auto()
    # can the file be fetched
    IMPORT_SOURCE_FORBIDDEN = auto()
    IMPORT_SOURCE_REFUSED = auto()
    IMPORT_SOURCE_UNUSABLE = auto()
    IMPORT_SOURCE_CHANGED = auto()
    IMPORT_SOURCE_UNREACHABLE = auto()
    IMPORT_SOURCE_TOO_SLOW = auto()
    # can the file be converted
    CONVERSION_FAILED = auto()
    CONVERSION_UNAVAILABLE = auto()
    CONVERSION_LIMIT_EXCEEDED = auto()
    # do the rules of use allow it
    WRONG_TYPE_FOR_PURPOSE = auto()
    NOT_MADE_FOR_BMS = auto()
    FIRMWARE_DIFFERS = auto()
    DISK_TOO_SMALL = auto()
    MEMORY_OUT_OF_RANGE = auto()
    IMAGE_NOT_IN_REGION = auto()
    IMAGE_IN_USE = auto()
    DIRECT_TRANSFER_UNAVAILABLE = auto()
    # do the rules of copying allow it
    FULL_ECS_NOT_COPYABLE = auto()
    ISO_NOT_COPYABLE = auto()
    SAME_KEY = auto()
    SAME_REGION = auto()
    REGION_WITHOUT_PEER = auto()
    ENCRYPTED_IMAGE_NOT_COPYABLE = auto()
    PEER_REFUSED = auto()
    # do the rules of exporting allow it
    PUBLIC_IMAGE_NOT_EXPORTABLE = auto()
    FULL_ECS_NOT_EXPORTABLE = auto()
    ISO_NOT_EXPORTABLE = auto()
    IMAGE_NOT_EXPORTABLE = auto()
    EXPORT_BUCKET_NOT_OPEN = auto()
    EXPORT_BUCKET_UNUSABLE = auto()
    EXPORT_TARGET_EXISTS = auto()
    # is it too much
    SHARE_LIMIT_EXCEEDED = auto()
    RECIPIENT_HAS_TOO_MANY_PENDING = auto()
    USE_LIMIT_EXCEEDED = auto()
    IMAGE_FILE_TOO_LARGE = auto()
    IMAGE_QUOTA_EXCEEDED = auto()
    STORAGE_QUOTA_EXCEEDED = auto()
    TOO_MANY_CREATIONS = auto()
    TOO_MANY_COPIES = auto()
    IMAGE_FILE_TOO_LARGE_TO_COPY = auto()
    TOO_MANY_CALLS = auto()
    TOO_MANY_TRANSFERS = auto()
    TOO_MANY_STREAMS = auto()
    STORAGE_FULL = auto()
    # what the service itself suffers
    DISK_DATA_DAMAGED = auto()
    CATALOGUE_UNAVAILABLE = auto()
    STORAGE_UNAVAILABLE = auto()
    UPLOAD_BUSY = auto()
    PEER_UNREACHABLE = auto()
    OPERATION_CANCELLED = auto()
    INTERNAL_ERROR = auto()


@dataclass(frozen=True)
class FieldProblem:
    """A field of a request that cannot be read, or is missing."""

    path: str
    message: str
    metadata: Mapping[str, str | int] = field(default_factory=dict)
    """The values of the message."""


Problems = tuple[FieldProblem, ...]


@dataclass(frozen=True)
class Violation:
    """One broken rule: a sentence a person can act on, and its values again for programs."""

    reason: Reason
    message: str
    metadata: Mapping[str, str | int] = field(default_factory=dict)
    """lowerCamelCase keys with the unit in the key, never in the value."""
    subject: str = ""
    """What it is about: the path of a field, a tenant's id; empty for the image as a whole."""


class Rejection(Exception):
    """A request declined; the first violation decides what a program sees of it."""

    def __init__(self, category: Category, violations: Sequence[Violation]) -> None:
        super().__init__(violations[0].message)
        self.category = category
        self.violations = tuple(violations)

    @property
    def reason(self) -> Reason:
        return self.violations[0].reason


def reject(
    category: Category, reason: Reason, message: str, *, subject: str = "", **metadata: str | int
) -> Rejection:
    """Return, for the caller to raise, a rejection that is no rule's: there is only one thing wrong."""
    return Rejection(category, [Violation(reason, message, metadata, subject)])
