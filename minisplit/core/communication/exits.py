"""Notices with which status this process leaves: Python tells nobody of a SystemExit that is not caught."""

from __future__ import annotations

import builtins
import sys
import threading
from typing import Any, NoReturn

_uncaught: list[object] = []


class Exit(SystemExit):
    """The SystemExit of `sys.exit` with a failing status, which notices when nobody catches it.

    Then, and only then, its `code` is asked for by the interpreter itself: no frame of Python is below.
    """

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "code" and sys._getframe().f_back is None:
            _uncaught.append(value)
        return value


def leave(status: object = None, /) -> NoReturn:
    """Leave the program by raising SystemExit(status): what `sys.exit`, `exit` and `quit` are in a job."""
    # In another thread it ends only that thread, silently so for SystemExit itself but not for its subclasses.
    in_main = threading.current_thread() is threading.main_thread()
    raise (Exit if in_main and status_of(status) else SystemExit)(status)


def notice_exits() -> None:
    """Have `uncaught_status` know of each `sys.exit`, `exit` and `quit` from now on.

    `raise SystemExit(3)` stays unnoticed: that class cannot be changed.
    """
    sys.exit = leave
    for name in {"exit", "quit"} & set(vars(builtins)):  # `python -S` has neither
        setattr(builtins, name, leave)


def uncaught_status() -> int:
    """The status with which this process is about to end, for a function of `atexit`; 0 where all is well."""
    return status_of(_uncaught[-1]) if _uncaught else 0


def status_of(code: object) -> int:
    """The exit status of a process that leaves with SystemExit(code).

    >>> [status_of(code) for code in (None, 0, 3, -1, True, "no such file")]
    [0, 0, 3, 255, 1, 1]
    """
    return code & 0xFF if isinstance(code, int) else int(code is not None)
