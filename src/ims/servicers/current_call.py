"""Who makes the call that the present thread is serving."""

from contextvars import ContextVar

from ims.domain.caller import Caller

_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Return the caller that the outermost interceptor has identified."""
    return _caller.get()


def set_current_caller(caller: Caller) -> None:
    """Note who calls, before a servicer's method runs."""
    _caller.set(caller)
