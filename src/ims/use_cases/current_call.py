"""What is known of the call that the present thread is serving, for what is recorded of it."""

from contextvars import ContextVar
from dataclasses import dataclass

from ims.domain.caller import Caller
from ims.domain.image import Image
from ims.domain.tenant import TenantId


@dataclass(kw_only=True, slots=True)
class CurrentCall:
    """One call; filled in as it is read and told, since every call has one and has no time to lose."""

    caller: Caller
    rpc: str = ""
    call_id: str = ""
    """What the log calls it."""
    request_id: str = ""
    """What the client calls it."""
    changes: bool = False
    """Whether it is to change something."""
    validates_only: bool = False
    acting_for: TenantId | None = None
    """The tenant that the caller may act for, and does."""
    image: Image | None = None
    """The image that it is about, once the caller is known to see it."""
    target_taken: bool = False
    """Whether something was found where it is to put an object, before its transaction began."""


_call: ContextVar[CurrentCall | None] = ContextVar("call", default=None)


def current_call() -> CurrentCall | None:
    """Return the call that is being served; None where nobody calls."""
    return _call.get()


def begin_call(call: CurrentCall) -> None:
    """Note that a call is being served from now on."""
    _call.set(call)
