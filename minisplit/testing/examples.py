"""Examples of hypothesis as ranks see them: `assume` and `note` find an example only in the thread that runs it.

Tested in tests/testing/test_properties.py.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext


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
