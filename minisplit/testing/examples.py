"""Examples of hypothesis as ranks see them: `assume` and `note` find an example only in the thread that runs it.

Tested in tests/testing/test_properties.py.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

_LIBRARIES = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")),
)


def example_is_final() -> bool | None:
    """Return whether hypothesis runs the example that it will report; None where it runs none in this thread."""
    variable = getattr(sys.modules.get("hypothesis.control"), "_current_build_context", None)
    context = getattr(variable, "value", None)
    return None if context is None else bool(context.is_final)


def rank_in_example(is_final: bool | None) -> AbstractContextManager[object]:
    """Let this rank call `assume` and `note`. `event` and `target`, which are of the whole example, do nothing."""
    control = sys.modules.get("hypothesis.control")
    if is_final is None or control is None:
        return nullcontext()
    # These names are not public: in a version of hypothesis without them `assume` and `note` fail on ranks, and
    # everything else works.
    try:
        data = sys.modules["hypothesis.internal.conjecture.data"].ConjectureData.for_choices(())
        context: AbstractContextManager[object] = control.BuildContext(data, is_final=is_final, wrapped_test=None)
    except (AttributeError, KeyError, TypeError):
        return nullcontext()
    return context


@contextmanager
def traced_as_caller(trace: Any) -> Iterator[None]:
    """Let hypothesis see which lines this rank runs, if `trace` is its own, of the thread that runs the example.

    It explains a failure by lines that only failing examples run. Without those of the ranks all that it sees are
    the lines here that make an error of what they raised. Python 3.12 and later tell it of all threads.
    """
    module = str(getattr(type(getattr(trace, "__self__", None)), "__module__", ""))
    if not module.startswith("hypothesis.") or sys.gettrace() is not None:
        yield
        return

    def trace_own(frame: FrameType, event: str, arg: object) -> Any:
        # Not the lines of libraries: they explain nothing, and with them an example takes as long as hypothesis
        # allows one that it traces.
        return None if frame.f_code.co_filename.startswith(_LIBRARIES) else trace(frame, event, arg)

    sys.settrace(trace_own)
    try:
        yield
    finally:
        sys.settrace(None)
