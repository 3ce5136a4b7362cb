"""What OpenStack's inspectors (oslo.utils) say of a file besides our own examiners."""

import logging

from oslo_utils.imageutils import format_inspector

UNREADABLE = "unreadable"

# Their warnings quote the file, and logs hold no contents.
logging.getLogger(format_inspector.__name__).setLevel(logging.CRITICAL)


def failed_checks(inspector: format_inspector.FileInspector) -> tuple[str, ...]:
    """Return the names of the safety checks that the file fails; it ends the inspector.

    A file that could not be judged fails the check UNREADABLE.
    """
    try:
        inspector.finish()
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as failure:
        return tuple(failure.failures)
    except Exception:  # noqa: BLE001 - a hostile file may find any hole in a parser
        return (UNREADABLE,)
    return ()
