"""Who makes the call that the present thread is serving, and what the call is."""

from contextvars import ContextVar

from ims.domain.caller import Caller
from ims.use_cases.current_call import CurrentCall, begin_call, current_call

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_caller() -> Caller:
    """Return the caller that the outermost interceptor has identified."""
    call = current_call()
    assert call is not None  # the interceptor lets nobody in of whom it does not know
    return call.caller


def set_current_caller(caller: Caller, *, rpc: str = "", call_id: str = "") -> None:
    """Note who calls what, before a servicer's method runs."""
    begin_call(CurrentCall(caller=caller, rpc=rpc, call_id=call_id))


def current_request_id() -> str | None:
    """Return what the log has the present call under; None where no call is served."""
    return _request_id.get()


def set_current_request_id(request_id: str) -> None:
    """Note under what the log has a call, as it begins."""
    _request_id.set(request_id)


def note_change(request_id: str, *, validates_only: bool) -> None:
    """Note that the call is to change something, and what its client calls it."""
    call = current_call()
    assert call is not None  # see above
    call.changes, call.request_id, call.validates_only = True, request_id, validates_only
