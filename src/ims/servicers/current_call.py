"""Who makes the call that the present thread is serving."""

from contextvars import ContextVar

from ims.domain.caller import Caller

_caller: ContextVar[Caller] = ContextVar("caller")
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_caller() -> Caller:
    """Return the caller that the outermost interceptor has identified."""
    return _caller.get()


def set_current_caller(caller: Caller) -> None:
    """Note who calls, before a servicer's method runs."""
    _caller.set(caller)


def current_request_id() -> str | None:
    """Return what the log has the present call under; None where no call is served."""
    return _request_id.get()


def set_current_request_id(request_id: str) -> None:
    """Note under what the log has a call, as it begins."""
    _request_id.set(request_id)
